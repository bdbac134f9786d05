"""Larger models whose ranking means something, made of a real one: more layers, a wider state, more words.

Speed depends on sizes alone, fidelity does not: what a ranking by seeded weights loses in int8 says nothing of a
trained model's. An enlarged model answers nearly what the real one does, and all of its products are dense.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

NOISE = 0.25
"""Standard deviation of what cancels in a widened product, in units of the product's own weights."""
BRANCH = 0.03
"""Standard deviation of what half of an added layer adds to its input, in units of the input's own."""
QUERY, KEY, VALUE = (f"attention.self.{name}" for name in ("query", "key", "value"))
MERGED, GROWN, SHRUNK = "attention.output.dense", "intermediate.dense", "output.dense"
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def enlarge(weights: Weights, *, layers: int, width: int, words: int, heads: int) -> Weights:
    """The state of a BERT encoder of other sizes that answers nearly what `weights` answer.

    Args:
        weights: of a BertModel without its pooler, whose names start with "embeddings." and "encoder.".
        layers: of the result; those that the encoder lacks are seeded ones in its middle, which add little.
        width: 1, or 2 for twice the hidden and intermediate size, where each half of the state is the real one.
        words: of the result's table, which repeats the real rows.
        heads: of the encoder and of the result.

    Returns:
        Tensors by name; torch's seed decides what is drawn.
    """
    layer_weights = _deepened(weights, layers)
    table = weights["embeddings.word_embeddings.weight"]
    found = {name: value for name, value in weights.items() if name.startswith("embeddings.")}
    found["embeddings.word_embeddings.weight"] = table.repeat(math.ceil(words / len(table)), 1)[
        :words
    ].clone()
    for number, layer in enumerate(layer_weights):
        found |= {f"encoder.layer.{number}.{name}": value for name, value in layer.items()}
    return found if width == 1 else {name: _widened(name, value, heads) for name, value in found.items()}


def _deepened(weights: Weights, layers: int) -> list[Weights]:
    """The real layers, with seeded ones in their middle, where the deviations of tokens differ least."""
    real: list[Weights] = []
    while any(name.startswith(prefix := f"encoder.layer.{len(real)}.") for name in weights):
        real.append({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
    half = len(real) // 2
    return [*real[:half], *(_quiet(real[half - 1]) for _ in range(layers - len(real))), *real[half:]]


def _quiet(before: Weights) -> Weights:
    """A seeded layer that changes its input little.

    Its norms give every token the mean and the deviation that the layer before gives to its output on average.
    """
    import torch

    scale, shift = (before[f"{NORMS[1]}.{part}"] for part in ("weight", "bias"))
    mean, deviation = shift.mean(), (scale.square().mean() + shift.var()).sqrt()
    made = {}
    spreads = {
        QUERY: 1 / deviation,
        KEY: 1 / deviation,
        VALUE: 1,
        MERGED: BRANCH,
        GROWN: 1 / deviation,
        SHRUNK: BRANCH * deviation / 0.65,  # root mean square of GELU where its input has a deviation of 1
    }
    for name, spread in spreads.items():
        size = before[f"{name}.weight"].shape
        made[f"{name}.weight"] = torch.randn(size) * spread / math.sqrt(size[1])
        made[f"{name}.bias"] = torch.zeros(size[0])
    for norm in NORMS:
        made[f"{norm}.weight"] = deviation.expand(scale.shape).clone()
        made[f"{norm}.bias"] = mean.expand(scale.shape).clone()
    return made


def _widened(name: str, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Twice as wide: a state [x, x] for x, and for W x the product [[W/2+N, W/2-N], [W/2-N, W/2+N]] [x, x]."""
    import torch

    if "embeddings." in name and value.ndim == 2:
        return torch.cat([value, value], dim=1)
    if value.ndim == 2:
        noise = torch.randn(value.shape) * value.std() * NOISE
        value = torch.cat(
            [
                torch.cat([value / 2 + noise, value / 2 - noise], dim=1),
                torch.cat([value / 2 - noise, value / 2 + noise], dim=1),
            ]
        )
    else:
        value = torch.cat([value, value])
    if MERGED in name and value.ndim == 2:
        return _by_head(value.T, heads).T.contiguous()
    if any(part in name for part in (QUERY, KEY, VALUE)):
        value = _by_head(value, heads)
    # a head of twice the size divides its scores, which are twice as large, by the root of that size
    return value / math.sqrt(2) if QUERY in name else value


def _by_head(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of two copies of all heads, so ordered that each head has both of its own."""
    return rows.unflatten(0, (2, heads, -1)).transpose(0, 1).flatten(0, 2)
