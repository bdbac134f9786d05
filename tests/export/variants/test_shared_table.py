"""A masked language model's table of words, which its last product shares: stored once, in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.tiny_kinds import splade

from embedge import EdgeModel
from embedge.manifest import load_manifest
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.variants import editor, int8_nodes
from embedge_export.verify import gates

VARIANTS = ("fp32", "fp16", "int8", "uint8", "int4")
TEXTS = ["a man is eating food", "berlin", "the capital of germany is berlin", "plants"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splade")
    splade(folder / "checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(editor, "SMALLEST_WEIGHT", 32)
        patch.setattr(int8_nodes, "_SMALLEST_TABLE", 10)
        patch.setattr(gates, "_JUDGED_NDCG", 1.0)  # seeded weights rank by chance
        spec = ExportSpec(model=str(folder / "checkpoint"), output=folder / "bundle", variants=VARIANTS)
        return export(spec)


def stored(bundle: Path, variant: str) -> dict[str, tuple[int, ...]]:
    model = onnx.load(str(bundle / load_manifest(bundle).variants[variant].file))
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8", "uint8"])
def test_the_table_is_there_once(bundle, variant) -> None:
    manifest = load_manifest(bundle)
    shape = (manifest.vocab_size, manifest.hidden_size)
    large = [name for name, dims in stored(bundle, variant).items() if dims in (shape, shape[::-1])]
    assert len(large) == 1


def test_every_variant_is_near_and_verifies(bundle) -> None:
    rows = {}
    for variant in VARIANTS:
        with EdgeModel(bundle, device="cpu", variant=variant) as model:
            rows[variant] = np.stack([output.outputs.data for output in model.embed_sparse(TEXTS)])
    for variant, allowed in {"fp16": 0.002, "int8": 0.05, "uint8": 0.05, "int4": 0.5}.items():
        assert np.linalg.norm(rows[variant] - rows["fp32"]) < allowed * np.linalg.norm(rows["fp32"]), variant
    np.testing.assert_allclose(rows["uint8"], rows["int8"], atol=1e-4)
    assert all(report.passed for report in verify(bundle, device="cpu"))
