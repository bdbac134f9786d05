"""Weights by name: stored ones in every type and under other names, and seeded ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge.errors import ExportError
from embedge_export.families.structure import Linear, Tensor
from embedge_export.graph.built.weights import SeededWeights, StoredWeights


def test_stored_weights(tmp_path):
    import torch
    from safetensors.torch import save_file

    values = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
    kinds = {"a": torch.float32, "b": torch.float16, "c": torch.bfloat16, "d": torch.float64}
    save_file({f"bert.{name}": values.to(kind) for name, kind in kinds.items()}, tmp_path / "w.safetensors")
    weights = StoredWeights([tmp_path / "w.safetensors"], ["bert."])
    for name, kind in kinds.items():
        expected = values.to(kind).float().numpy()
        assert_allclose(weights.read(Tensor(name=name, shape=(3, 4))), expected, rtol=0)
    part = weights.read(Tensor(name="a", shape=(3, 4), rows=(1, 3), offset=1.0))
    assert_allclose(part, values.numpy()[1:] + 1)
    with pytest.raises(ExportError, match="the weights lack 'e'"):
        weights.read(Tensor(name="e", shape=(1,)))
    with pytest.raises(ExportError, match=r"has shape \(3, 4\); config.json asks for \(4, 3\)"):
        weights.read(Tensor(name="a", shape=(4, 3)))


def test_seeded_weights_are_the_same_again_and_others_by_name():
    first = Tensor(name="layers.0.weight", shape=(4, 8))
    weights = SeededWeights(5)
    assert_allclose(weights.read(first), SeededWeights(5).read(first), rtol=0)
    assert np.abs(weights.read(first) - weights.read(Tensor(name="other", shape=(4, 8)))).max() > 0
    assert np.abs(weights.read(first) - SeededWeights(6).read(first)).max() > 0
    assert Linear(weight=first).in_features == 8


def test_renamed_weights(tmp_path):
    import torch
    from safetensors.torch import save_file

    names = ("bert.a.gamma", "b.gamma", "c.gammas")
    stored = {name: torch.full((2,), float(index)) for index, name in enumerate(names)}
    save_file(stored, tmp_path / "w.safetensors")
    weights = StoredWeights([tmp_path / "w.safetensors"], ["bert."], {".gamma": ".weight"})
    for name, value in (("a.weight", 0), ("b.weight", 1), ("c.weights", 2)):
        assert_allclose(weights.read(Tensor(name=name, shape=(2,))), np.full(2, value))


@pytest.mark.parametrize("names", [("b.gamma", "b.weight"), ("bert.b.weight", "b.weight")])
def test_two_weights_for_one_name_are_refused(tmp_path, names):
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.zeros(2) for name in names}, tmp_path / "w.safetensors")
    with pytest.raises(ExportError, match=r"two weights for 'b.weight'; expected one"):
        StoredWeights([tmp_path / "w.safetensors"], ["bert."], {".gamma": ".weight"})
