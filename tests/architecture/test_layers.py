"""The rooms hold: arrows point down, the exporter uses the runtime's public door, and the tables would notice."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.architecture import layers

import embedge
import embedge_export

PACKAGES = {
    "embedge": Path(embedge.__file__).parent,
    "embedge_export": Path(embedge_export.__file__).parent,
}
FILES = {
    f"{package}.{name}": path
    for package, folder in PACKAGES.items()
    for name, path in layers.modules_of(folder).items()
}
NAMES = set(FILES) | set(PACKAGES)
BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").rglob("*.py"))
LONGEST = 300
LONGER = {
    "embedge.manifest": "one contract",
    "embedge.model": "signatures and their documentation",
    "embedge_export.families.bert_like": "six families share one loop",
    "embedge_export.texts.retrieval": "texts",
}
"""Files over 300 lines, and why they are not split."""
MOST_LINES = 60
"""Of a function, its signature and documentation left out."""


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_imports_what_stands_below_it(name: str) -> None:
    package, _, module = name.partition(".")
    assert layers.problems(package, module, FILES[name].read_text("utf-8"), NAMES) == []


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmarks_use_what_users_may_use(path: Path) -> None:
    for name in layers.imports(path.read_text("utf-8")):
        if name.split(".")[0] == "embedge":
            assert not re.search(r"\._[a-z]", name), name


@pytest.mark.parametrize(
    ("package", "module", "line", "word"),
    [
        ("embedge", "errors", "from embedge.params import PoolingParams", "params"),
        ("embedge", "_text.tokens", "from embedge._rows.pooling import pool", "_rows"),
        ("embedge", "_sessions.session", "from embedge._batches import forward", "_batches"),
        ("embedge", "_machine.cpu", "import embedge.manifest", "manifest"),
        ("embedge", "_rows.answer", "def f():\n    import onnxruntime", "onnxruntime"),
        ("embedge", "_batches.planning", "from tokenizers import Tokenizer", "tokenizers"),
        ("embedge", "model", "def f():\n    from embedge_export.pipeline import export", "embedge_export"),
        ("embedge_export", "families.table", "from embedge_export.source.read import read", "source"),
        ("embedge_export", "families.table", "def f():\n    import torch", "torch"),
        ("embedge_export", "source.read", "from embedge_export.graph.outputs import attach_heads", "graph"),
        ("embedge_export", "graph.built.build", "from embedge_export.graph import route", "graph"),
        ("embedge_export", "graph.traced", "from embedge_export.write import graph_files", "write"),
        ("embedge_export", "verify.numbers", "from embedge._rows.heads import activate", "embedge._rows"),
        ("embedge_export", "graph.traced", "import torch", "torch"),
        ("embedge_export", "wrap", "from embedge_export import pipeline", "pipeline"),
    ],
)
def test_a_forbidden_import_is_named(package: str, module: str, line: str, word: str) -> None:
    (problem,) = layers.problems(package, module, line, NAMES)
    assert f"imports {word}" in problem


def test_a_module_without_a_room_is_named() -> None:
    with pytest.raises(LookupError, match="helpers is in no room"):
        layers.problems("embedge", "helpers", "", NAMES)


@pytest.mark.parametrize("name", sorted(name for name, path in FILES.items() if path.name == "__init__.py"))
def test_a_room_begins_with_its_contract_and_holds_nothing_else(name: str) -> None:
    if name == "embedge.__init__":
        return  # the door
    tree = ast.parse(FILES[name].read_text("utf-8"))
    assert len(tree.body) == 1
    contract = ast.get_docstring(tree) or ""
    assert contract.endswith(".")
    assert "\n" not in contract


def test_the_map_names_every_room() -> None:
    drawn = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    drawn = drawn[drawn.index("```") : drawn.rindex("```")]
    rooms = {path.parent.name for path in FILES.values() if path.name == "__init__.py"} - set(PACKAGES)
    assert not [room for room in sorted(rooms) if f"{room}/" not in drawn]
    named = set(re.findall(r"\w+", drawn))
    flat = {module for line in (*layers.SDK, *layers.EXPORT) for module in line}
    modules = {name.split(".")[1] for name in FILES if name.count(".") == 1}
    assert (modules & flat) - named - rooms <= {"__init__", "__main__", "_version", "_sequence"}


def test_files_are_short_or_say_why_not() -> None:
    long = {name for name, path in FILES.items() if len(path.read_text("utf-8").splitlines()) > LONGEST}
    assert long <= set(LONGER)


def test_functions_are_short() -> None:
    long = []
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (node.end_lineno or 0) - body[0].lineno + 1 > MOST_LINES:
                    long.append(f"{name}.{node.name}")
    assert long == []
