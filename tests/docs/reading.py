"""The blocks of a page, and what becomes of them: Python and commands run, text is what they printed."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedge.cli.main import build_parser, main

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n)?^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
ELSEWHERE = ("pip", "make", "cd", "python", "pytest", "bash")
"""Programs that a page names and no test of pages runs."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: "python", "console", or "text" for what the block before it prints.
        text: what is inside.
        not_run: why it cannot run here, from a comment above it; it still has to be understood.
    """

    language: str
    text: str
    not_run: str | None


def pages() -> list[Path]:
    """README and every page that people wrote; pages of results are held against their files elsewhere."""
    written = [page for page in ROOT.joinpath("docs").rglob("*.md") if page.parent.name != "results"]
    return [ROOT / "README.md", *sorted(written)]


def blocks(page: Path) -> list[Block]:
    """Blocks in the order of the page."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [Block(language, text, why or None) for why, language, text in found]


def commands(block: Block) -> list[list[str]]:
    """Arguments of each command line; lines without "$ " are output."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]


def read(page: Path, stand_ins: Mapping[str, str]) -> None:
    """Run a page's blocks one after the other, in one namespace and the working directory.

    Args:
        page: the page.
        stand_ins: what stands in place of a model's name.
    """
    namespace: dict[str, object] = {}
    printed = ""
    for block in blocks(page):
        if block.language == "text":
            if not block.not_run:
                assert _words(printed) == _words(block.text), f"{page.name} prints something else"
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if block.language == "python":
                _run_python(block, page.name, namespace, stand_ins)
            else:
                assert block.language == "console", block.language
                for arguments in commands(block):
                    _run_command(arguments, block.not_run is None, stand_ins)
        printed = out.getvalue()


def _run_python(block: Block, name: str, namespace: dict[str, object], stand_ins: Mapping[str, str]) -> None:
    text = block.text
    for model, folder in stand_ins.items():
        text = text.replace(f'"{model}"', repr(folder))
    code = compile(text, name, "exec", dont_inherit=True)
    if block.not_run is None:
        exec(code, namespace)


def _run_command(arguments: list[str], run: bool, stand_ins: Mapping[str, str]) -> None:
    program, *rest = arguments
    if program in ELSEWHERE:
        return
    assert program == "embedge", program
    rest = [stand_ins.get(argument, argument) for argument in rest]
    assert callable(build_parser().parse_args(rest).run)
    if run:
        assert main(rest) == 0, shlex.join(arguments)


def _words(text: str) -> list[str]:
    return text.split()
