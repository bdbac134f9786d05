"""A checkpoint's answers in torch: transformers' own class, loaded in float32."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any

import numpy as np

from embedge.errors import ExportError
from embedge.manifest import ReferenceRecord
from embedge.types import Activation, FloatArray, PoolingMode
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Dense
from embedge_export.source.tensors import LoadedModule
from embedge_export.source.transformer import first_words
from embedge_export.threads import one_thread
from embedge_export.verify.computation import Encoding

_LITTLE = 10_000_000_000
"""Weights times tokens, up to which one thread is the fastest: about half a second of it."""


class InTorch:
    """See Computation.

    Args:
        model: the transformer, as load_weights gave it; None where there is none.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # tokenizers may give token_type_ids to models that have no use for them
        self._takes = set(inspect.signature(model.forward).parameters) if model is not None else set()
        self._num_weights = sum(each.numel() for each in model.parameters()) if model is not None else 0

    @property
    def record(self) -> ReferenceRecord:
        """See Computation."""
        return ReferenceRecord(name="torch", version=metadata.version("torch"))

    @property
    def num_threads(self) -> int:
        """See Computation; torch has its own threads."""
        return 1

    def forget(self) -> None:
        """See Computation; the model stays for who asks again."""

    def hidden_states(self, encoding: Encoding) -> FloatArray:
        """See Computation."""
        return _array(self._run(encoding).last_hidden_state[0])

    def logits(self, encoding: Encoding) -> FloatArray:
        """See Computation."""
        return _array(self._run(encoding).logits[0])

    def word_logits(self, encoding: Encoding, token_ids: Sequence[int]) -> FloatArray:
        """See Computation."""
        return _array(self._run(encoding).logits[0, -1][list(token_ids)])

    def _run(self, encoding: Encoding) -> Any:
        import torch

        inputs = {name: torch.tensor([ids]) for name, ids in encoding.items() if name in self._takes}
        little = self._num_weights * len(encoding["input_ids"]) <= _LITTLE
        try:
            with one_thread() if little else contextlib.nullcontext(), torch.inference_mode():
                return self._model(**inputs)
        except Exception as error:  # a model computes with whatever config.json states
            raise ExportError(
                f"transformers cannot run the checkpoint: {first_words(error)}. "
                "Restore config.json from the model's origin."
            ) from error

    def pool(self, rows: FloatArray, mode: PoolingMode) -> FloatArray:
        """See Computation."""
        return _array(_POOLERS[mode](_tensor(rows)))

    def unit(self, rows: FloatArray) -> FloatArray:
        """See Computation."""
        import torch

        return _array(torch.nn.functional.normalize(_tensor(rows), dim=-1))

    def layer_norm(self, rows: FloatArray, loaded: LoadedModule) -> FloatArray:
        """See Computation."""
        import torch

        weight, bias = _tensor(loaded.weight), _tensor(loaded.bias)
        return _array(torch.nn.functional.layer_norm(_tensor(rows), weight.shape, weight, bias))

    def dense(self, rows: FloatArray, module: Dense, loaded: LoadedModule) -> FloatArray:
        """See Computation."""
        import torch

        given, linear = _tensor(rows), torch.nn.functional.linear
        made = getattr(torch.nn, module.activation)()(
            linear(given, _tensor(loaded.weight), _tensor(loaded.bias))
        )
        if module.use_residual:
            made = made + (given if loaded.residual is None else linear(given, _tensor(loaded.residual)))
        return _array(made)

    def term_weights(self, logits: FloatArray, splade: Splade) -> FloatArray:
        """See Computation."""
        weights = _tensor(logits).relu().log1p()
        if splade.twice:
            weights = weights.log1p()
        return _array(weights.sum(0) if splade.sums else weights.amax(0))

    def activate(self, rows: FloatArray, activation: Activation) -> FloatArray:
        """See Computation."""
        import torch

        if activation == "softmax":
            return _array(torch.softmax(_tensor(rows), dim=-1))
        return _array(torch.sigmoid(_tensor(rows))) if activation == "sigmoid" else rows


def _weighted_mean(hidden: Any) -> Any:
    import torch

    weights = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype)
    return weights @ hidden / weights.sum()


_POOLERS: Mapping[PoolingMode, Callable[[Any], Any]] = MappingProxyType(
    {
        "CLS": lambda hidden: hidden[0],
        "LAST": lambda hidden: hidden[-1],
        "MEAN": lambda hidden: hidden.mean(0),
        "MAX": lambda hidden: hidden.amax(0),
        "MEAN_SQRT_LEN": lambda hidden: hidden.sum(0) / math.sqrt(len(hidden)),
        "WEIGHTEDMEAN": _weighted_mean,
    }
)


def _tensor(array: FloatArray | None) -> Any:
    import torch

    return None if array is None else torch.from_numpy(array)


def _array(tensor: Any) -> FloatArray:
    return np.ascontiguousarray(tensor.detach().to("cpu").float().numpy())
