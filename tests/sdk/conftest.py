"""Tiny bundles, written in milliseconds without the exporter; models of the exported ones."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from embedge import EdgeModel
from embedge.testing import tiny_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Writes a tiny bundle to a new folder."""

    def make(kind="embed", **kwargs):
        return tiny_bundle(tmp_path_factory.mktemp("tiny"), kind, **kwargs)

    return make


@pytest.fixture
def load(tiny):
    """Loads a tiny bundle on the CPU: `bundle` holds arguments of tiny_bundle, the others go to EdgeModel."""
    with ExitStack() as stack:

        def make(kind="embed", bundle=None, **kwargs):
            folder = tiny(kind, **(bundle or {}))
            return stack.enter_context(EdgeModel(folder, **{"device": "cpu", "threads": 1, **kwargs}))

        yield make


@pytest.fixture(scope="module")
def model(tiny_embedder):
    """The exported embedder, loaded once per module."""
    with EdgeModel(tiny_embedder, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def cross(tiny_cross_encoder):
    """The exported cross-encoder, loaded once per module."""
    with EdgeModel(tiny_cross_encoder, device="cpu") as loaded:
        yield loaded
