"""What the extras ask for: nothing that would push back what people have."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ELSEWHERE = {"onnxruntime-ep-openvino"}  # what finds Intel's hardware alone
HOLDS_BACK = {"export-optimum"}  # as its line in README and pyproject.toml says


def requirements(extra: str | None) -> list[Requirement]:
    """Of the package, and of one of its extras with those that it names."""
    asked = [Requirement(line) for line in (EXTRAS[extra] if extra else PROJECT["dependencies"])]
    own = [requirement for requirement in asked if requirement.name != PROJECT["name"]]
    inner = [name for requirement in asked if requirement not in own for name in requirement.extras]
    return own + [each for name in inner for each in requirements(name)]


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_what_is_installed_here_is_left_as_it_is(extra) -> None:
    if extra in HOLDS_BACK:
        pytest.importorskip("optimum", reason="optimum is installed where `make test-optimum` tests")
    if extra == "serve":
        pytest.importorskip("starlette", reason="`make test` installs it")
    for requirement in requirements(extra):
        if requirement.name in ELSEWHERE:
            continue
        assert requirement.specifier.contains(metadata.version(requirement.name)), requirement


def test_the_exporter_has_no_torch() -> None:
    assert {requirement.name for requirement in requirements("export")} == {"onnx", "safetensors"}


@pytest.mark.parametrize("extra", [None, *sorted(set(EXTRAS) - HOLDS_BACK)])
def test_there_are_no_upper_limits(extra) -> None:
    for requirement in requirements(extra):
        assert {clause.operator for clause in requirement.specifier} <= {">="}, requirement


def test_messages_and_pages_name_extras_that_exist() -> None:
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    named = set()
    for path in pages:
        named |= set(re.findall(r"embedge\[([\w-]+)\]", path.read_text("utf-8")))
    for path in [*ROOT.joinpath("sdk").rglob("*.py"), *ROOT.joinpath("export").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(re.findall(r"embedge\[([\w-]+)\]", node.value))
    assert named == set(EXTRAS)
