"""Fixtures of the exporter's tests."""

from __future__ import annotations

import pytest
from tests.export.tiny import make_bert


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """Folder of a BERT with two layers, mean pooling and Normalize."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bert"
    make_bert(folder)
    return folder
