"""The parser of every command: help that fits a screen, and errors of two lines."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from embedge.errors import did_you_mean

_WIDEST = 100
_COLUMN = 31
"""Where the descriptions of options begin."""
_FEW = 3
"""Other commands that a message names at most."""


_OTHER_WORDS = {
    "convert": "export",
    "delete": "rm",
    "download": "add",
    "embed": "encode",
    "info": "inspect",
    "install": "add",
    "ls": "list",
    "remove": "rm",
    "show": "inspect",
}
"""What other programs, or this one's Python, call a command that is spelled otherwise here."""


class Parser(argparse.ArgumentParser):
    """A command, or all of them.

    Args:
        arguments: of argparse.ArgumentParser.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{"formatter_class": Help, "add_help": False, "allow_abbrev": False, **arguments})
        self._folded: tuple[str, ...] = ()
        self._given: Sequence[str] = ()
        self.instead: dict[str, str] = {}
        """What to do in place of a flag that other commands have."""
        self.add_argument("-h", "--help", action=_ShowShortHelp, nargs=0, help="show this, and exit")

    def fold(self, *titles: str) -> None:
        """Leave groups out of the help that fits a screen; --help-all shows them."""
        self._folded = titles
        self.add_argument("--help-all", action="help", help="show all flags, and exit")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse, but that the command itself says which of its options is not known."""
        given = sys.argv[1:] if args is None else list(args)
        for each in (self, *self._commands().values()):
            each._given = given
        if given and given[0].startswith("-") and given[0] not in self.flags:
            self._refuse_flag(given[0])
        found, left = self.parse_known_args(given, namespace)
        if left:
            command: Parser = getattr(found, "command", self)
            flag = next((each for each in left if each.startswith("-")), None)
            if flag is None:
                command.error(f"{left[0]!r} is one argument too many.")
            command._refuse_flag(flag, self._commands())
        return found

    def _commands(self) -> dict[str, Parser]:
        actions = [each for each in self._actions if isinstance(each, argparse._SubParsersAction)]
        return {name: command for each in actions for name, command in each.choices.items()}

    def _refuse_flag(self, flag: str, commands: Mapping[str, Parser] | None = None) -> NoReturn:
        name = flag.partition("=")[0]
        having = [command.prog for command in (commands or {}).values() if name in command.flags]
        hint = f" {self.instead[name]}" if name in self.instead else did_you_mean(name, self.flags)
        if not hint and 0 < len(having) <= _FEW:
            hint = f" It is a flag of {', '.join(having)}."
        self.error(f"{name!r} is not known here.{hint}")

    def error(self, message: str) -> NoReturn:
        """End the program with the usage in one line, and what was wrong with it."""
        greedy = next((each for each in self._actions if each.nargs == "+" and each.option_strings), None)
        if greedy is not None and message.startswith("the following arguments are required"):
            flag = greedy.option_strings[-1]
            message += (
                f". {flag} takes every word up to the next flag, or to --." if flag in self._given else ""
            )
        self.exit(2, f"usage: {self.short_usage()}  ({self.prog} --help)\n{self.prog}: {message}\n")

    def format_help(self) -> str:
        """The whole help, which begins with the short usage."""
        self.usage = self.short_usage().replace("%", "%%")
        return super().format_help()

    def format_short_help(self) -> str:
        """The help without the groups that are folded."""
        groups = self._action_groups
        self._action_groups = [group for group in groups if group.title not in self._folded]
        try:
            return self.format_help()
        finally:
            self._action_groups = groups

    def format_usage(self) -> str:
        """The short usage."""
        return f"usage: {self.short_usage()}\n"

    def short_usage(self) -> str:
        """What has to be given, in one line."""
        words = [self.prog]
        optional = False
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                words.append("COMMAND …")
            elif not action.option_strings:
                words.append(_as_given(action))
            elif action.required:
                words.append(f"{action.option_strings[0]} {_name(action)}")
            else:
                optional = True
        return " ".join([*words, *(["[options]"] if optional and len(words) > 1 else [])])

    @property
    def flags(self) -> dict[str, str]:
        """The longest name of each option, by all of its names."""
        return {name: action.option_strings[-1] for action in self._actions for name in action.option_strings}

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        for kind, expected in ((int, "whole number"), (float, "number")):
            if action.type is kind:
                try:
                    return kind(arg_string)
                except ValueError:
                    raise argparse.ArgumentError(action, f"{arg_string!r} is no {expected}") from None
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            meant = _OTHER_WORDS.get(value)
            hint = f" Did you mean {meant!r}?" if meant in choices else did_you_mean(value, choices)
            raise argparse.ArgumentError(
                action,
                f"{value!r} is not known; expected one of {', '.join(choices)}.{hint}",
            )


class _ShowShortHelp(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, Parser)
        parser._print_message(parser.format_short_help(), sys.stdout)
        parser.exit()


class Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions are wrapped, examples are not."""

    def __init__(self, prog: str, **arguments: Any) -> None:
        width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
        super().__init__(prog, **{"max_help_position": _COLUMN, "width": width, **arguments})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0 or action.option_strings[0].startswith("--"):
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def _as_given(action: argparse.Action) -> str:
    name = _name(action)
    return {"+": f"{name} …", "*": f"[{name} …]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _name(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())
