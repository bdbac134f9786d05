"""A framework that is missing, or of another version than the one tested, is named."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

import pytest

from embedge.errors import MissingExtraError

ADAPTERS = {
    "chroma": ("chromadb", "chromadb.api.types"),
    "haystack": ("haystack-ai", "haystack"),
    "lancedb": ("lancedb", "lancedb.embeddings"),
    "langchain": ("langchain-core", "langchain_core.embeddings"),
    "llama_index": ("llama-index-core", "llama_index.core.base.embeddings.base"),
    "qdrant": ("qdrant-client", "qdrant_client.models"),
    "sklearn": ("scikit-learn", "sklearn.base"),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request, monkeypatch):
    """An adapter that was not imported yet, the package that it needs, and the module of that."""
    name = f"embedge.integrations.{request.param}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name, *ADAPTERS[request.param]


def stated(monkeypatch, package: str, version: str | None) -> None:
    real = metadata.version

    def of(name: str) -> str:
        if name != package:
            return real(name)
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", of)


def test_a_missing_package(adapter, monkeypatch) -> None:
    name, package, _ = adapter
    stated(monkeypatch, package, None)
    with pytest.raises(
        ImportError, match=f"{package} is not installed; .* tested with {package} [0-9].*pip install"
    ):
        importlib.import_module(name)


def test_another_major_version(adapter, monkeypatch) -> None:
    name, package, _ = adapter
    stated(monkeypatch, package, "99.1")
    with pytest.raises(
        MissingExtraError, match=f"{package} 99.1 is installed, .* tested with {package} [0-9]"
    ):
        importlib.import_module(name)


def test_a_package_without_what_is_imported(adapter, monkeypatch) -> None:
    name, package, module = adapter
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"{package} .* lacks what .* tested with {package} [0-9]"):
        importlib.import_module(name)
