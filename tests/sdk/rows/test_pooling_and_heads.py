"""numpy formulas against torch's, on left- and right-padded batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from embedge import ShapeError
from embedge._rows.heads import ACTIVATIONS, activate, cut_and_normalize, dense, layer_norm, sigmoid, softmax
from embedge._rows.pooling import POOLERS, pool, step_rows

RNG = np.random.default_rng(0)
LENGTHS = (7, 3, 1, 5)
ROWS = [RNG.normal(size=(n, 6)).astype(np.float32) for n in LENGTHS]


def padded(side: str) -> tuple[np.ndarray, np.ndarray]:
    hidden = RNG.normal(size=(len(ROWS), max(LENGTHS), 6)).astype(np.float32) * 100
    mask = np.zeros((len(ROWS), max(LENGTHS)), dtype=np.int64)
    for i, row in enumerate(ROWS):
        where = slice(None, len(row)) if side == "right" else slice(max(LENGTHS) - len(row), None)
        hidden[i, where], mask[i, where] = row, 1
    return hidden, mask


EXPECTED = {
    "CLS": lambda row: row[0],
    "LAST": lambda row: row[-1],
    "MEAN": lambda row: row.mean(0),
    "MAX": lambda row: row.max(0).values,
    "MEAN_SQRT_LEN": lambda row: row.sum(0) / len(row) ** 0.5,
    "WEIGHTEDMEAN": lambda row: (
        (row * torch.arange(1, len(row) + 1)[:, None]).sum(0) / sum(range(1, len(row) + 1))
    ),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", sorted(EXPECTED))
def test_each_mode(mode, side) -> None:
    hidden, mask = padded(side)
    expected = torch.stack([EXPECTED[mode](torch.from_numpy(row)) for row in ROWS]).numpy()
    actual = pool(hidden, mask, [mode])
    assert actual.dtype == np.float32
    assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mode", sorted(EXPECTED))
def test_each_mode_without_the_first_two_tokens(mode, side) -> None:
    hidden, mask = padded(side)
    kept = np.where(np.cumsum(mask, axis=1) > 2, mask, 0)
    actual = pool(hidden, mask, [mode], kept)
    for row, pooled, size in zip(ROWS, actual, LENGTHS, strict=True):
        if size > 2:
            weights = np.arange(3, size + 1, dtype=np.float32)[:, None]
            expected = EXPECTED[mode](torch.from_numpy(row[2:])).numpy()
            if mode == "WEIGHTEDMEAN":  # of the tokens' places among all
                expected = (row[2:] * weights).sum(0) / weights.sum()
            assert_allclose(pooled, expected, atol=2e-6)
        elif mode == "MAX":
            assert np.isneginf(pooled).all()
        elif mode != "CLS":
            assert not pooled.any()


def test_every_mode_is_tested() -> None:
    assert set(POOLERS) == set(EXPECTED)


def test_concatenation_keeps_the_order() -> None:
    hidden, mask = padded("right")
    both = pool(hidden, mask, ["MAX", "CLS"])
    assert_allclose(both, np.concatenate([pool(hidden, mask, ["MAX"]), pool(hidden, mask, ["CLS"])], axis=1))


def test_half_precision_is_accumulated_in_float32() -> None:
    hidden = np.full((1, 5000, 1), 1.001, dtype=np.float16)
    assert_allclose(pool(hidden, np.ones((1, 5000)), ["MEAN"]), np.float32(np.float16(1.001)), rtol=1e-6)


@pytest.mark.parametrize(
    ("hidden", "mask", "modes", "message"),
    [
        (np.zeros((1, 2)), np.ones((1, 2)), ["CLS"], "do not fit"),
        (np.zeros((1, 2, 3)), np.ones((1, 3)), ["CLS"], "do not fit"),
        (np.zeros((2, 2, 3)), np.array([[1, 1], [0, 0]]), ["CLS"], "row 1 has no real token"),
        (np.zeros((1, 2, 3)), np.ones((1, 2)), ["ALL"], "ALL"),
        (np.zeros((1, 2, 3)), np.ones((1, 2)), [], "no mode"),
    ],
)
def test_shapes_that_do_not_fit(hidden, mask, modes, message) -> None:
    with pytest.raises(ShapeError, match=message):
        pool(hidden, mask, modes)


def test_step_rows() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    ids = np.array([5, 9, 5, 9])
    kept, positions = step_rows(rows, ids, step_tag_id=9, returned_token_ids=[2, 0])
    assert_allclose(kept, [[5, 3], [11, 9]])
    assert positions.tolist() == [1, 3]
    everything, _ = step_rows(rows, ids, step_tag_id=None, returned_token_ids=None)
    assert_allclose(everything, rows)
    assert_allclose(step_rows(rows, ids, step_tag_id=None, returned_token_ids=[])[0], rows)
    assert step_rows(rows, ids, step_tag_id=1, returned_token_ids=None)[0].shape == (0, 3)
    with pytest.raises(ShapeError, match="holds 3"):
        step_rows(rows, ids, step_tag_id=None, returned_token_ids=[3])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_torchs(name) -> None:
    x = np.linspace(-8, 8, 101, dtype=np.float32)
    expected = getattr(torch.nn, name)()(torch.from_numpy(x)).numpy()
    assert_allclose(ACTIVATIONS[name](x), expected, atol=1e-6, rtol=1e-5)


def test_layer_norm() -> None:
    norm = torch.nn.LayerNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = RNG.normal(size=(2, 3, 6)).astype(np.float32) * 9
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    assert_allclose(layer_norm(x, weight, bias), norm(torch.from_numpy(x)).detach().numpy(), atol=2e-6)
    with pytest.raises(ShapeError, match="LayerNorm expects 6 components, the rows have 5"):
        layer_norm(x[..., :5], weight)


def test_residual_dense() -> None:
    x = RNG.normal(size=(3, 6)).astype(np.float32)
    square, wide = RNG.normal(size=(6, 6)).astype(np.float32), RNG.normal(size=(8, 6)).astype(np.float32)
    assert_allclose(dense(x, square, use_residual=True), x @ square.T + x, atol=1e-5)
    added = dense(x, wide, use_residual=True, residual=wide)
    assert_allclose(added, 2 * (x @ wide.T), atol=1e-5)


def test_dense() -> None:
    linear = torch.nn.Linear(6, 4)
    x = RNG.normal(size=(3, 6)).astype(np.float32)
    expected = torch.tanh(linear(torch.from_numpy(x))).detach().numpy()
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    assert_allclose(dense(x, weight, bias, "Tanh"), expected, atol=1e-6)
    assert_allclose(dense(x, weight), x @ weight.T, atol=1e-6)
    with pytest.raises(ShapeError, match="expects 6 features"):
        dense(x[:, :5], weight)


def test_cut_then_normalise() -> None:
    x = RNG.normal(size=(5, 8)).astype(np.float32)
    assert_allclose(np.linalg.norm(cut_and_normalize(x, 3, normalize=True), axis=1), 1, atol=1e-6)
    assert_allclose(cut_and_normalize(x, 3, normalize=False), x[:, :3])
    zeros = np.zeros((1, 4), dtype=np.float32)
    assert_allclose(cut_and_normalize(zeros, None, normalize=True), zeros)


def test_sigmoid_keeps_large_logits_apart() -> None:
    assert sigmoid(20.0) < sigmoid(21.0) < 1.0
    assert_allclose(sigmoid([-1000.0, 0.0, 1000.0]), [0.0, 0.5, 1.0])


def test_softmax_and_bias() -> None:
    logits = np.array([[1000.0, 1001.0, 999.0]], dtype=np.float32)
    assert_allclose(softmax(logits), torch.softmax(torch.from_numpy(logits).double(), -1).numpy())
    assert_allclose(activate(np.float32([[3.0]]), "sigmoid", 3.0), [[0.5]])
    assert_allclose(activate(np.float32([[3.0]]), "identity", None), [[3.0]])
