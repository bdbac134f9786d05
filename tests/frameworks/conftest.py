"""Bundles that frameworks are given, and what keeps them from telling anybody."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from embedge import EdgeModel
from embedge.testing import tiny_bundle

# set before any of them is imported
os.environ["ANONYMIZED_TELEMETRY"] = "False"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"

# in the environment of `make test-frameworks` all of them are there, and a missing one fails
collect_ignore_glob = [] if importlib.util.find_spec("haystack") else ["test_*.py"]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory) -> Path:
    """With a stored prompt for queries."""
    return tiny_bundle(
        tmp_path_factory.mktemp("bundles") / "embedder", changes={"prompts": {"query": "find the "}}
    )


@pytest.fixture(scope="session")
def reranker(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "reranker", "cross_encoder")


@pytest.fixture(scope="session")
def model(embedder):
    with EdgeModel(embedder) as opened:
        yield opened


@pytest.fixture(scope="session")
def ranking_model(reranker):
    with EdgeModel(reranker) as opened:
        yield opened
