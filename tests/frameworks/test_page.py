"""docs/frameworks.md runs as a reader would run it, with the bundle of `make demo`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from tests.docs.reading import read

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "frameworks.md"


def test_every_block_runs(reranker, tmp_path, monkeypatch) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.joinpath("all-MiniLM-L6-v2").symlink_to(ROOT / "demo" / "all-MiniLM-L6-v2")
    store.joinpath("reranker").symlink_to(reranker)
    monkeypatch.setenv("EMBEDGE_HOME", str(store))
    monkeypatch.chdir(tmp_path)
    read(PAGE, {})


@pytest.mark.parametrize(
    "package",
    [
        "chromadb",
        "haystack-ai",
        "lancedb",
        "langchain-core",
        "llama-index-core",
        "qdrant-client",
        "scikit-learn",
    ],
)
def test_the_version_that_is_stated_is_the_one_that_is_tested(package) -> None:
    stated = f"{package} {metadata.version(package)}"
    assert stated in PAGE.read_text("utf-8")
    room = ROOT / "sdk" / "embedge" / "integrations"
    assert [path for path in room.glob("*.py") if f"Tested with {stated}." in path.read_text("utf-8")]
    name, version = stated.split()
    assert [path for path in room.glob("*.py") if f'tested("{name}", "{version}")' in path.read_text("utf-8")]
