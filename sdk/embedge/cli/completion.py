"""`embedge completion`: what a shell needs to complete commands, flags, choices, files and stored bundles."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from embedge.cli._parser import Parser

SHELLS = ("bash", "zsh", "fish")
_BUNDLES = "embedge list --names 2>/dev/null"
_ZSH = """(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
autoload -Uz bashcompinit && bashcompinit
"""
"""What gives zsh bash's way to say it; a .zshrc may have called compinit before."""


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `completion`."""
    parser = commands.add_parser(
        "completion",
        help="print what makes a shell complete the command",
        description="Print a script that completes commands, flags, their values, and names of bundles in the store.",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    parser.set_defaults(run=lambda args: _run(args, commands))


def _run(args: argparse.Namespace, commands: argparse._SubParsersAction[Parser]) -> int:
    parsers: dict[str, Any] = dict(commands.choices or {})
    print(_fish(parsers, _summaries(commands)) if args.shell == "fish" else _bash(parsers, args.shell))
    return 0


def _summaries(commands: argparse._SubParsersAction[Parser]) -> dict[str, str]:
    return {each.dest: each.help or "" for each in commands._choices_actions}


def _values(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Names of the flags that take a value, and the values where these are few."""
    for action in parser._actions:
        if action.option_strings and action.nargs != 0:
            yield from ((name, list(map(str, action.choices or ()))) for name in action.option_strings)


def _bundle(parser: argparse.ArgumentParser) -> argparse.Action | None:
    """The argument that names bundles."""
    return next(
        (each for each in parser._actions if each.metavar == "BUNDLE" and not each.option_strings), None
    )


def _bash(parsers: dict[str, Any], shell: str) -> str:
    """For bash, and for zsh, which has bash's way to say it."""
    cases = []
    for name, parser in parsers.items():
        lines = [
            f"        {name}:{flag}) candidates={_quoted(' '.join(values))} ;;"
            for flag, values in _values(parser)
            if values
        ]
        files = "|".join(f"{name}:{flag}" for flag, values in _values(parser) if not values)
        if files:
            lines.append(f"        {files}) files=1 ;;")
        words = " ".join(parser.flags)
        taken, bundle = _bundle(parser), ""
        if taken is not None:
            where = "-ge" if taken.nargs == "+" else "-eq"
            bundle = f'; test $COMP_CWORD {where} 2 && candidates="$candidates $({_BUNDLES})"'
        first = next((a for a in parser._actions if a.choices and not a.option_strings), None)
        chosen = " ".join(map(str, first.choices)) if first is not None and first.choices else ""
        lines.append(
            f"        {name}:*) files=1; flags={_quoted(words)}; candidates={_quoted(chosen)}{bundle} ;;"
        )
        cases.append("\n".join(lines))
    script = _BASH.replace("COMMANDS", " ".join([*parsers, "--help", "--version"])).replace(
        "CASES", "\n".join(cases)
    )
    return _ZSH + script + _FILES_OF_ZSH if shell == "zsh" else script + _FILES_OF_BASH


_BASH = r"""_embedge() {
    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    local candidates="" files="" flag="" flags=""
    case "$current" in
        --*=*) before="${current%%=*}"; flag="$before="; current="${current#*=}" ;;
        =) current="" ;;
    esac
    # bash takes --flag=value for three words
    test "$before" = "=" && before="${COMP_WORDS[COMP_CWORD-2]}"
    if test "$COMP_CWORD" -eq 1; then
        candidates="COMMANDS"
    else
        case "${COMP_WORDS[1]}:$before" in
CASES
        esac
    fi
    test "${current#-}" = "$current" || candidates="$candidates $flags"
    COMPREPLY=($(compgen -P "$flag" -W "$candidates" -- "$current"))"""

_FILES_OF_BASH = r"""
    if test -n "$files" && test "${current#-}" = "$current"; then
        local IFS=$'\n'
        COMPREPLY+=($(compgen -P "$flag" -f -- "$current"))
    fi
}
complete -o filenames -F _embedge embedge"""

_FILES_OF_ZSH = r"""
}
complete -o default -F _embedge embedge"""
"""zsh's own way to complete files, where nothing else fits."""


def _fish(parsers: dict[str, Any], summaries: dict[str, str]) -> str:
    lines = ["complete -c embedge -n __fish_use_subcommand -f"]
    for name, parser in parsers.items():
        lines.append(
            f"complete -c embedge -n __fish_use_subcommand -a {name} -d {_quoted(summaries.get(name, ''))}"
        )
        here = f"complete -c embedge -n {_quoted(f'__fish_seen_subcommand_from {name}')}"
        if _bundle(parser) is not None:
            lines.append(f"{here} -a '({_BUNDLES})'")
        for action in parser._actions:
            names = [f"-{'l' if o.startswith('--') else 's'} {o.lstrip('-')}" for o in action.option_strings]
            choices = " ".join(map(str, action.choices or ()))
            if not names:
                if choices:
                    lines.append(f"{here} -f -a {_quoted(choices)}")
                continue
            value = "" if action.nargs == 0 else f" -x -a {_quoted(choices)}" if choices else " -r"
            lines.append(
                f"{here} {' '.join(names)}{value} -d {_quoted(str(action.help or '').replace('%%', '%'))}"
            )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "").replace("'", "") + "'"
