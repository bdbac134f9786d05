"""Graphs of tiny bundles, opened as a model opens them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from embedge._contents.graphs import PinnedGraph
from embedge.bundle import open_bundle
from embedge.testing import tiny_bundle


def graph_of(folder: Path) -> PinnedGraph:
    """The float32 graph of a bundle."""
    bundle = open_bundle(folder)
    spec = bundle.manifest.variants["fp32"]
    return PinnedGraph(bundle.pinned(spec.file), {name: bundle.pinned(name) for name in spec.data_files})


@cache
def some_graph() -> PinnedGraph:
    """Any; it is open, so its folder need not be there."""
    with tempfile.TemporaryDirectory() as folder:
        return graph_of(tiny_bundle(folder))
