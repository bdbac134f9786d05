"""What the site has beside the pages of this folder: results, the changelog, and references made from the code.

mkdocs calls `on_files` and `on_page_markdown`; see .mkdocs.yml.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
OUTSIDE = {
    **{f"results/{file.name}": file for file in sorted(RESULTS.iterdir()) if file.suffix in (".md", ".png")},
    "index.md": ROOT / "README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "licence.txt": ROOT / "LICENSE",
}
"""Pages of the site that lie elsewhere in the project."""


def on_files(files: Any, config: Any) -> Any:
    """Add what lies outside of docs/ and what is made from the code."""
    for uri, path in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    files.append(File.generated(config, "reference/errors.md", content=errors()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links into the project's other folders at their place on the site."""
    here = PurePosixPath(page.file.src_uri).parent
    source = OUTSIDE.get(page.file.src_uri, DOCS / page.file.src_uri)
    up = "../" * len(here.parts)
    places = {path.resolve(): uri for uri, path in OUTSIDE.items()}
    places |= {path.resolve(): path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    def moved(link: re.Match[str]) -> str:
        target = source.parent.joinpath(link["target"]).resolve()
        return f"]({up}{places[target]}" if target in places else link[0]

    return re.sub(r"\]\((?P<target>[^)#\s:]+)", moved, markdown)


def commands() -> str:
    """The page of all commands, from the parser's own help."""
    from embedge.cli.main import build_parser

    parts = [
        "# Commands\n\nResults go to stdout, progress and errors to stderr. The exit status is 0, 1 where the command "
        "failed, 2 for wrong usage, 130 after Ctrl-C.\n"
    ]
    for name, parser in subcommands(build_parser()):
        parts.append(f"## embedge {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n")
    return "\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Commands in the order of the program's help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def errors() -> str:
    """The page of all exceptions, from their own documentation."""
    import embedge.errors

    tree = (inspect.getdoc(embedge.errors) or "").partition("\n\n")[2]
    parts = [f"# Errors\n\n{tree}\n"]
    for name, kind in vars(embedge.errors).items():
        if inspect.isclass(kind) and issubclass(kind, embedge.errors.EmbedgeError):
            told, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
            rows = "".join(f"- {line.strip()}\n" for line in attributes.splitlines() if line.strip())
            parts.append(f"## {name}\n\n{told}\n\n{rows}")
    return "\n".join(parts)
