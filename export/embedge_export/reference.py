"""The float32 torch reference: one text at a time, no padding, straight from the checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge._types import FloatArray, PoolingMode, Task
from embedge_export.outputs import has_token_modules
from embedge_export.source import Checkpoint
from embedge_export.tokenizer import Tokenization
from embedge_export.weights import load_dense

if TYPE_CHECKING:
    import torch

Answers = dict[Task, FloatArray]


class Reference:
    """Answers each task of a checkpoint with torch.

    Args:
        model: what `load_model` returned.
        checkpoint: its facts.
        tokenization: its tokenizer.
    """

    def __init__(self, model: torch.nn.Module, checkpoint: Checkpoint, tokenization: Tokenization) -> None:
        import torch

        self._model = model
        self._checkpoint = checkpoint
        self._tokenization = tokenization
        self._dense = []
        for module in checkpoint.dense:
            weight, bias = load_dense(module)
            tensors = torch.from_numpy(weight), None if bias is None else torch.from_numpy(bias)
            self._dense.append((*tensors, getattr(torch.nn, module.activation)()))

    def answer(self, text: str, document: str | None = None) -> Answers | None:
        """Compute every task's answer for one text or pair.

        Returns:
            By task, before cut, normalisation and activation: float32 (size,) or, for token tasks, (num_tokens, size).
            None where the tokenizer gives no token at all.
        """
        import torch

        encoding = self._tokenization.encode(text, document)
        if not encoding["input_ids"]:
            return None
        with torch.inference_mode():
            outputs = self._model(**{name: torch.tensor([ids]) for name, ids in encoding.items()})
            return self._embed(outputs.last_hidden_state[0])

    def _embed(self, hidden: Any) -> Answers:
        import torch

        modes = self._checkpoint.pooling.modes if self._checkpoint.pooling else ()
        pooled = self._modules(torch.cat([_POOLERS[mode](hidden) for mode in modes]))
        tokens = self._modules(hidden) if has_token_modules(self._checkpoint) else hidden
        return {"embed": _array(pooled), "token_embed": _array(tokens)}

    def _modules(self, rows: Any) -> Any:
        import torch

        for weight, bias, activation in self._dense:
            rows = activation(torch.nn.functional.linear(rows, weight, bias))
        return rows


_POOLERS: dict[PoolingMode, Callable[[Any], Any]] = {
    "CLS": lambda hidden: hidden[0],
    "LAST": lambda hidden: hidden[-1],
    "MEAN": lambda hidden: hidden.mean(0),
    "MAX": lambda hidden: hidden.amax(0),
    "MEAN_SQRT_LEN": lambda hidden: hidden.sum(0) / math.sqrt(len(hidden)),
    "WEIGHTEDMEAN": lambda hidden: _weighted_mean(hidden),
}


def _weighted_mean(hidden: Any) -> Any:
    import torch

    weights = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype)
    return weights @ hidden / weights.sum()


def _array(tensor: Any) -> FloatArray:
    return np.ascontiguousarray(tensor.to("cpu").float().numpy())
