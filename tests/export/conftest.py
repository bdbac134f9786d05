"""Fixtures of the exporter's tests."""

from __future__ import annotations

import pytest
from tests.export.tiny import make_bert


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Tiny models are slower on several threads, and much slower where other processes want the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """Folder of a BERT with two layers, mean pooling and Normalize."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bert"
    make_bert(folder)
    return folder
