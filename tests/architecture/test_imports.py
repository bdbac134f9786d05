"""Who may import what, and what `import embedge` costs in modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import embedge
from embedge.testing import tiny_bundle

SDK = Path(embedge.__file__).parent
MODULES = sorted(SDK.rglob("*.py"))
RUNTIME = {"msgspec", "numpy", "onnxruntime", "tokenizers"}
EXTRAS = {
    "_contents/signature.py": {"cryptography"},
    "_corpus/handover.py": {"faiss", "lancedb", "pyarrow", "usearch"},
    "_corpus/mapping.py": {"umap"},
    "_corpus/parquet.py": {"pyarrow"},
    "_passing/hub.py": {"huggingface_hub"},
    "_peers/asked.py": {"fastembed", "light_embed", "sentence_transformers", "torch"},
    "_serve/app.py": {"starlette"},
    "_serve/connections.py": {"uvicorn"},
    "_serve/handling.py": {"starlette"},
    "_serve/running.py": {"uvicorn"},
    "cli/serve.py": {"starlette", "uvicorn"},
    "integrations/chroma.py": {"chromadb"},
    "integrations/haystack.py": {"haystack"},
    "integrations/lancedb.py": {"lancedb"},
    "integrations/langchain.py": {"langchain_core", "pydantic"},
    "integrations/llama_index.py": {"llama_index"},
    "integrations/qdrant.py": {"qdrant_client"},
    "integrations/ray.py": {"pyarrow", "ray"},
    "integrations/sklearn.py": {"sklearn"},
    "integrations/spark.py": {"pandas", "pyspark"},
}
"""The files that import what an extra, or an application, brings."""

HEAVY = (
    "onnxruntime",
    "tokenizers",
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "huggingface_hub",
    "asyncio",
)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SDK).as_posix())
def test_the_runtime_imports_its_four_dependencies_and_nothing_else(path: Path) -> None:
    for name in imports(path):
        root = name.split(".")[0]
        extra = EXTRAS.get(path.relative_to(SDK).as_posix(), set())
        assert root in sys.stdlib_module_names or root in RUNTIME | extra | {"embedge", "embedge_export"}, (
            name
        )


def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if path.parent.name == "cli":
            continue
        calls = [n.func for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"], path


def test_importing_embedge_loads_nothing_heavy() -> None:
    code = "import sys, embedge, embedge.cli.main; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)


def test_a_model_that_answers_needs_its_four_dependencies_alone(tmp_path: Path) -> None:
    """tokenizers brings huggingface_hub along, and onnxruntime may find onnx or torch; none is imported."""
    code = (
        "import sys, embedge; model = embedge.EdgeModel(sys.argv[1]); model.embed(['the river'] * 99).numpy()\n"
        "model.close(); print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    folder = tiny_bundle(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], text=True, capture_output=True, check=True
    )
    loaded = set(done.stdout.split())
    assert loaded >= {"onnxruntime", "tokenizers"}
    assert loaded.isdisjoint({"torch", "transformers", "optimum", "onnx", "safetensors", "huggingface_hub"})


def test_public_names_are_sorted_and_documented() -> None:
    assert sorted(embedge.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == embedge.__all__
    for name in set(embedge.__all__) - {"__version__"}:
        assert (getattr(embedge, name).__doc__ or "").strip(), name
    assert embedge.LLM is embedge.EdgeModel


def test_importing_embedge_leaves_out_what_only_a_loaded_model_needs() -> None:
    code = "import sys, embedge; print(*sorted(m for m in sys.modules if m.startswith('embedge')))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint(
        {"embedge.manifest", "embedge.bundle", "embedge._calls.verbs", "embedge._engine"}
    )
