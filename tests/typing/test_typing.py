"""The types that an editor infers are those stated in verbs.py, and none of them is Any."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import embedge

api = pytest.importorskip("mypy.api")

ROOT = Path(__file__).parents[2]
STATED = Path(__file__).with_name("verbs.py")
NO_ANSWER = {"close"}


def errors(file: Path) -> list[str]:
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    said, problems, _ = api.run([*config, "--no-error-summary", str(file)])
    assert problems == ""
    return [line for line in said.splitlines() if ": error:" in line]


def asserted(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "assert_type"]


def test_what_is_stated_holds(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert errors(STATED) == []


def test_any_in_place_of_a_type_fails(monkeypatch, tmp_path) -> None:
    """The check above can fail: of a model that is Any, every statement is refused."""
    monkeypatch.chdir(ROOT)
    text = STATED.read_text("utf-8")
    untyped = tmp_path / "untyped.py"
    untyped.write_text(
        text.replace("model: embedge.EdgeModel", "model: Any").replace(
            "import Iterator", "import Iterator\nfrom typing import Any"
        )
    )
    refused = [line for line in errors(untyped) if "Expression is of type" in line]
    # but for the two that make their own model
    assert len(refused) == len(asserted(ast.parse(text))) - 2


def test_every_public_member_is_stated() -> None:
    names = {name for name, _ in inspect.getmembers(embedge.EdgeModel) if not name.startswith("_")}
    used = {
        node.attr
        for node in ast.walk(ast.parse(STATED.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert names - used == NO_ANSWER
