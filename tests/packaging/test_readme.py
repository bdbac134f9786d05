"""README says what is so: its Python runs, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from embedge import EdgeModel
from embedge.cli.main import build_parser
from embedge.testing import tiny_bundle

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_runs(number, minilm_bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(minilm_bundle.parent))
    monkeypatch.chdir(tmp_path)
    with EdgeModel(tiny_bundle(tmp_path / "tokens", "token_classify")) as model:  # for blocks that load none
        exec(compile(blocks("python")[number], f"README.md block {number}", "exec"), {"model": model})


def commands(program: str) -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if re.search(rf"(^\$|\|) {program} ", line)]


@pytest.mark.parametrize("line", commands("embedge"))
def test_commands_are_understood(line) -> None:
    arguments = shlex.split(line[line.index("embedge ") + len("embedge ") :], comments=True)
    assert callable(build_parser().parse_args(arguments).run)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    asked = set(
        re.findall(r"make ([a-z]+)", "\n".join(re.findall(r"`[^`]+`", README)) + "\n".join(blocks("console")))
    )
    assert {"demo", "test"} <= asked
    for target in asked:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
