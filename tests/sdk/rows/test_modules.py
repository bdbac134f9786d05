"""Modules of a bundle, against torch's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from numpy.testing import assert_allclose

from embedge._rows.modules import LoadedModule, apply_modules, load_modules
from embedge.manifest import LayerNormSpec, NormalizeSpec

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3, 6)).astype(np.float32) * 5


def test_a_normalize_that_others_follow_needs_no_file() -> None:
    spec = NormalizeSpec()
    modules = load_modules(SimpleNamespace(manifest=SimpleNamespace(modules=(spec,))))
    found = apply_modules(modules, ROWS, per_token=False)
    assert_allclose(found, torch.nn.functional.normalize(torch.from_numpy(ROWS)).numpy(), rtol=1e-5)
    assert apply_modules(modules, ROWS, per_token=True) is ROWS
    assert spec.words == "Normalize"


def test_a_layer_norm_is_torchs() -> None:
    weight, bias = (RNG.normal(size=6).astype(np.float32) for _ in range(2))
    spec = LayerNormSpec(file="norm.npz", size=6)
    module = LoadedModule(spec=spec, arrays={"weight": weight, "bias": bias})
    given = (torch.from_numpy(each) for each in (ROWS, weight, bias))
    rows, scale, shift = given
    expected = torch.nn.functional.layer_norm(rows, (6,), scale, shift).numpy()
    assert_allclose(module.apply(ROWS), expected, rtol=1e-5, atol=1e-6)
    assert spec.words == "LayerNorm 6"
