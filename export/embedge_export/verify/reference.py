"""The float32 torch reference: one text or pair at a time, no padding, straight from the checkpoint."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from embedge.manifest import Manifest
from embedge.types import FloatArray, PoolingMode, Task
from embedge_export.precisions import Comparison
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.classifier import Classifier
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Chain, Dense, LayerNorm, Module, Normalize, Pooling
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import LoadedWeights

TaskAnswers: TypeAlias = dict[Task, FloatArray]
"""Raw answers to one text or pair, by task."""


class Reference:
    """Answers each task of a checkpoint with torch.

    Args:
        weights: what `load_weights` returned.
        checkpoint: its facts.
        tokenization: its tokenizer.
    """

    def __init__(self, weights: LoadedWeights, checkpoint: Checkpoint, tokenization: Tokenization) -> None:
        import torch

        model = weights.model
        if isinstance(checkpoint.what, Classifier) and checkpoint.is_decoder:
            # there is no padding here, and a text may well end in the text of the padding token
            model.config.pad_token_id = None
        self._model = model
        # tokenizers may give token_type_ids to models that have no use for them
        self._takes = set(inspect.signature(model.forward).parameters) if model is not None else set()
        self._checkpoint = checkpoint
        self._tokenization = tokenization
        self._modules = weights.modules
        self._table = None if weights.table is None else torch.from_numpy(weights.table)

    def answer(self, text: str, document: str | None = None) -> TaskAnswers | None:
        """Compute every task's answer for one text or pair.

        Returns:
            By task, before cut, normalisation and activation: float32 (size,) or, for token tasks, (num_tokens, size).
            None where the tokenizer gives no token at all.
        """
        import torch

        if self._checkpoint.late_interaction is not None and document is not None:
            return {"score": np.array([self._max_sim(text, document)], dtype=np.float32)}
        encoding = self._tokenization.encode(text, document)
        if not encoding["input_ids"]:
            return None
        with torch.inference_mode():
            if self._table is not None:
                return self._static(torch.tensor(encoding["input_ids"]))
            outputs = self._model(
                **{name: torch.tensor([ids]) for name, ids in encoding.items() if name in self._takes}
            )
            what, kind = self._checkpoint.what, self._checkpoint.kind
            if kind == "embedding":
                return self._embed(outputs)
            if kind == "late_interaction":
                return {"token_embed": _array(self._run(self._checkpoint.token_rows, outputs))}
            has_modules = kind == "pooled_classifier"
            logits = self._run(self._checkpoint.rows, outputs) if has_modules else outputs.logits[0]
        if isinstance(what, Splade):
            return {"embed": _array(_splade(logits, what))}
        if kind == "token_classifier":
            return {"token_classify": _array(self._unbiased(logits))}
        if kind == "reward":
            return {"token_classify": _array(self._unbiased(self._steps(logits, encoding["input_ids"])))}
        if isinstance(what, CausalReranker):
            return {"score": _array(_log_odds(logits[-1], what))}
        scores = document is not None and "score" in self._checkpoint.tasks
        return {"score" if scores else "classify": _array(self._unbiased(logits))}

    def _static(self, token_ids: Any) -> TaskAnswers:
        assert self._table is not None
        rows = self._table[token_ids]
        ignored = self._tokenization.ignored_id
        kept = rows if ignored is None else rows[token_ids != ignored]
        pooled = kept.mean(0) if len(kept) else rows[0] * 0
        for module in self._checkpoint.rows[1:]:
            pooled = self._module(module, pooled)
        return {"embed": _array(pooled), "token_embed": _array(rows)}

    def _embed(self, outputs: Any) -> TaskAnswers:
        return {
            "embed": _array(self._run(self._checkpoint.rows, outputs)),
            "token_embed": _array(self._run(self._checkpoint.token_rows, outputs)),
        }

    def _run(self, chain: Chain, outputs: Any) -> Any:
        """What a chain of modules makes of one text's hidden states, (num_tokens, hidden_size)."""
        rows = outputs.last_hidden_state[0]
        for module in chain:
            rows = self._module(module, rows)
        return rows

    def _module(self, module: Module, rows: Any) -> Any:
        import torch

        match module:
            case Pooling():
                return torch.cat([_POOLERS[mode](rows) for mode in module.modes])
            case Normalize():
                return torch.nn.functional.normalize(rows, dim=-1)
            case LayerNorm():
                weight, bias, _ = self._weights_of(module)
                return torch.nn.functional.layer_norm(rows, (module.size,), weight, bias)
            case Dense():
                weight, bias, residual = self._weights_of(module)
                made = getattr(torch.nn, module.activation)()(torch.nn.functional.linear(rows, weight, bias))
                if not module.use_residual:
                    return made
                return made + (rows if residual is None else torch.nn.functional.linear(rows, residual))

    def _weights_of(self, module: Dense | LayerNorm) -> tuple[Any, Any, Any]:
        import torch

        loaded = self._modules[module]
        weight, bias, residual = (
            None if array is None else torch.from_numpy(array)
            for array in (loaded.weight, loaded.bias, loaded.residual)
        )
        return weight, bias, residual

    def _max_sim(self, query: str, document: str) -> float:
        import torch

        spec = self._checkpoint.late_interaction
        assert spec is not None
        with torch.inference_mode():
            asked, _ = self._late_rows(query, spec.query_len, spec.query_marker_id, expand=spec.expand_query)
            rows, token_ids = self._late_rows(
                document, spec.document_len, spec.document_marker_id, expand=False
            )
            kept = rows[[index for index, token in enumerate(token_ids) if token not in spec.skip_token_ids]]
            return float((asked @ kept.T).amax(1).sum())

    def _late_rows(self, text: str, limit: int, marker: int | None, *, expand: bool) -> tuple[Any, list[int]]:
        import torch

        spec = self._checkpoint.late_interaction
        assert spec is not None
        room = limit - (marker is not None)
        token_ids = list(self._tokenization.tokenizer(text, truncation=True, max_length=room)["input_ids"])
        if marker is not None:
            token_ids.insert(len(self._tokenization.spec.prefix_ids), marker)
        attended = [1] * len(token_ids)
        if expand and spec.expansion_token_id is not None:
            missing = limit - len(token_ids)
            token_ids += [spec.expansion_token_id] * missing
            attended += [int(spec.attend_to_expansion)] * missing
        outputs = self._model(input_ids=torch.tensor([token_ids]), attention_mask=torch.tensor([attended]))
        rows = self._run(self._checkpoint.token_rows, outputs)
        return torch.nn.functional.normalize(rows, dim=1), token_ids

    def _steps(self, logits: Any, token_ids: list[int]) -> Any:
        pooling = self._checkpoint.pooling
        if pooling is None or pooling.step_tag_id is None:
            return logits
        return logits[[index for index, token in enumerate(token_ids) if token == pooling.step_tag_id]]

    def _unbiased(self, logits: Any) -> Any:
        head = self._checkpoint.head
        return logits - (head.logit_bias or 0.0) if head else logits


def finish(rows: FloatArray, manifest: Manifest, comparison: Comparison, task: Task = "embed") -> FloatArray:
    """Make a user's answer of raw ones: torch's own functions, so that the SDK's are not compared with themselves.

    Args:
        rows: float32 (num_rows, size), before cut, normalisation and activation.
        manifest: states what the SDK does with them by default.
        comparison: how the answers will be compared.
        task: whose answers they are.

    Returns:
        float32 (num_rows, dimensions or size).
    """
    import torch

    raw = torch.from_numpy(rows)
    if comparison == "embed":
        whole = torch.nn.functional.normalize(raw, dim=1) if manifest.normalize else raw
        return _array(whole[:, : manifest.dimensions] if task == "embed" else whole)
    if manifest.head is None:
        return rows
    activation = manifest.head.score_activation if comparison == "score" else manifest.head.activation
    if activation == "softmax":
        return _array(torch.softmax(raw, dim=1))
    return _array(torch.sigmoid(raw)) if activation == "sigmoid" else rows


_POOLERS: dict[PoolingMode, Callable[[Any], Any]] = {
    "CLS": lambda hidden: hidden[0],
    "LAST": lambda hidden: hidden[-1],
    "MEAN": lambda hidden: hidden.mean(0),
    "MAX": lambda hidden: hidden.amax(0),
    "MEAN_SQRT_LEN": lambda hidden: hidden.sum(0) / math.sqrt(len(hidden)),
    "WEIGHTEDMEAN": lambda hidden: _weighted_mean(hidden),
}


def _splade(logits: Any, splade: Splade) -> Any:
    weights = logits.relu().log1p()
    if splade.twice:
        weights = weights.log1p()
    return weights.sum(0) if splade.sums else weights.amax(0)


def _log_odds(logits: Any, reranker: CausalReranker) -> Any:
    yes, no = reranker.yes_id, reranker.no_id
    return logits[[yes]] if no is None else logits[[yes]] - logits[[no]]


def _weighted_mean(hidden: Any) -> Any:
    import torch

    weights = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype)
    return weights @ hidden / weights.sum()


def _array(tensor: Any) -> FloatArray:
    return np.ascontiguousarray(tensor.to("cpu").float().numpy())
