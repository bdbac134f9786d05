"""The float32 reference: each text by itself, no padding, straight from the checkpoint, in torch or in numpy."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from embedge.manifest import Manifest
from embedge.types import FloatArray, Task
from embedge_export.precisions import Comparison
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.embedder import Splade
from embedge_export.source.modules import Chain, Dense, LayerNorm, Module, Normalize, Pooling
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import LoadedWeights
from embedge_export.verify.at_once import at_once
from embedge_export.verify.computation import Computation, Encoding
from embedge_export.verify.in_numpy import InNumpy
from embedge_export.verify.in_torch import InTorch

TaskAnswers: TypeAlias = dict[Task, FloatArray]
"""Raw answers to one text or pair, by task."""


def open_reference(
    weights: LoadedWeights, checkpoint: Checkpoint, tokenization: Tokenization, *, light: bool
) -> Reference:
    """A checkpoint's reference in numpy where the export goes without torch, else in torch.

    Raises:
        UnsupportedError: it is to be in numpy, and the structure of its network is not known.
    """
    computation: Computation = InNumpy(checkpoint) if light else InTorch(weights.model)
    return Reference(computation, weights, checkpoint, tokenization)


class Reference:
    """Answers each task of a checkpoint.

    Args:
        computation: what it computes with.
        weights: what `load_weights` returned.
        checkpoint: its facts.
        tokenization: its tokenizer.
    """

    def __init__(
        self,
        computation: Computation,
        weights: LoadedWeights,
        checkpoint: Checkpoint,
        tokenization: Tokenization,
    ) -> None:
        self.computation = computation
        self._checkpoint = checkpoint
        self._tokenization = tokenization
        self._modules = weights.modules
        self._table = weights.table
        self._tokenizing = threading.Lock()  # a tokenizer is set to its limit, and then asked

    def has_tokens(self, text: str) -> bool:
        """Whether the tokenizer gives a text any token."""
        return bool(self._tokenization.encode(text)["input_ids"])

    def answers(self, inputs: Sequence[tuple[str, str | None]]) -> list[TaskAnswers | None]:
        """Answer texts and pairs as `answer` does each, in their order."""
        return at_once(
            lambda each: self.answer(*each),
            inputs,
            lambda each: len(each[0]) + len(each[1] or ""),
            self.computation.num_threads,
        )

    def answer(self, text: str, document: str | None = None) -> TaskAnswers | None:
        """Compute every task's answer for one text or pair.

        Returns:
            By task, before cut, normalisation and activation: float32 (size,) or, for token tasks, (num_tokens, size).
            None where the tokenizer gives no token at all.
        """
        checkpoint = self._checkpoint
        if checkpoint.late_interaction is not None and document is not None:
            return {"score": np.array([self._max_sim(text, document)], dtype=np.float32)}
        with self._tokenizing:
            encoding = self._tokenization.encode(text, document)
        if not encoding["input_ids"]:
            return None
        if self._table is not None:
            return self._static(self._table, np.array(encoding["input_ids"]))
        match checkpoint.kind:
            case "embedding":
                return self._embed(encoding)
            case "late_interaction":
                hidden = self.computation.hidden_states(encoding)
                return {"token_embed": self._run(checkpoint.token_rows, hidden)}
            case "pooled_classifier":
                hidden = self.computation.hidden_states(encoding)
                return self._classified(self._run(checkpoint.rows, hidden), document)
            case "causal_reranker":
                return {"score": self._log_odds(encoding)}
        logits = self.computation.logits(encoding)
        if isinstance(checkpoint.what, Splade):
            return {"embed": self.computation.term_weights(logits, checkpoint.what)}
        if checkpoint.kind == "token_classifier":
            return {"token_classify": self._unbiased(logits)}
        if checkpoint.kind == "reward":
            return {"token_classify": self._unbiased(self._steps(logits, encoding["input_ids"]))}
        return self._classified(logits, document)

    def _classified(self, logits: FloatArray, document: str | None) -> TaskAnswers:
        scores = document is not None and "score" in self._checkpoint.tasks
        return {"score" if scores else "classify": self._unbiased(logits)}

    def _static(self, table: FloatArray, token_ids: np.ndarray) -> TaskAnswers:
        rows = table[token_ids]
        ignored = self._tokenization.ignored_id
        kept = rows if ignored is None else rows[token_ids != ignored]
        pooled = self.computation.pool(kept, "MEAN") if len(kept) else np.zeros_like(rows[0])
        return {"embed": self._run(self._checkpoint.rows[1:], pooled), "token_embed": rows}

    def _embed(self, encoding: Encoding) -> TaskAnswers:
        hidden = self.computation.hidden_states(encoding)
        return {
            "embed": self._run(self._checkpoint.rows, hidden),
            "token_embed": self._run(self._checkpoint.token_rows, hidden),
        }

    def _run(self, chain: Chain, rows: FloatArray) -> FloatArray:
        """What a chain of modules makes of one text's rows."""
        for module in chain:
            rows = self._module(module, rows)
        return rows

    def _module(self, module: Module, rows: FloatArray) -> FloatArray:
        match module:
            case Pooling():
                return np.concatenate([self.computation.pool(rows, mode) for mode in module.modes])
            case Normalize():
                return self.computation.unit(rows)
            case LayerNorm():
                return self.computation.layer_norm(rows, self._modules[module])
            case Dense():
                return self.computation.dense(rows, module, self._modules[module])

    def _max_sim(self, query: str, document: str) -> float:
        spec = self._checkpoint.late_interaction
        assert spec is not None
        asked, _ = self._late_rows(query, spec.query_len, spec.query_marker_id, expand=spec.expand_query)
        rows, token_ids = self._late_rows(document, spec.document_len, spec.document_marker_id, expand=False)
        kept = rows[[index for index, token in enumerate(token_ids) if token not in spec.skip_token_ids]]
        return float((asked @ kept.T).max(axis=1).sum())

    def _late_rows(
        self, text: str, limit: int, marker: int | None, *, expand: bool
    ) -> tuple[FloatArray, list[int]]:
        spec = self._checkpoint.late_interaction
        assert spec is not None
        room = limit - (marker is not None)
        with self._tokenizing:
            encoding = self._tokenization.tokenizer(text, truncation=True, max_length=room)
        token_ids = list(encoding["input_ids"])
        if marker is not None:
            token_ids.insert(len(self._tokenization.spec.prefix_ids), marker)
        attended = [1] * len(token_ids)
        if expand and spec.expansion_token_id is not None:
            missing = limit - len(token_ids)
            token_ids += [spec.expansion_token_id] * missing
            attended += [int(spec.attend_to_expansion)] * missing
        hidden = self.computation.hidden_states({"input_ids": token_ids, "attention_mask": attended})
        return self.computation.unit(self._run(self._checkpoint.token_rows, hidden)), token_ids

    def _log_odds(self, encoding: Encoding) -> FloatArray:
        reranker = self._checkpoint.what
        assert isinstance(reranker, CausalReranker)
        if reranker.no_id is None:
            return self.computation.word_logits(encoding, [reranker.yes_id])
        yes, no = self.computation.word_logits(encoding, [reranker.yes_id, reranker.no_id])
        return np.array([yes - no], dtype=np.float32)

    def _steps(self, logits: FloatArray, token_ids: list[int]) -> FloatArray:
        pooling = self._checkpoint.pooling
        if pooling is None or pooling.step_tag_id is None:
            return logits
        return logits[[index for index, token in enumerate(token_ids) if token == pooling.step_tag_id]]

    def _unbiased(self, logits: FloatArray) -> FloatArray:
        head = self._checkpoint.head
        return logits - np.float32(head.logit_bias or 0.0) if head else logits


def finish(
    rows: FloatArray,
    manifest: Manifest,
    comparison: Comparison,
    computation: Computation,
    task: Task = "embed",
) -> FloatArray:
    """Make a user's answer of raw ones: by a reference's functions, so that the SDK's are not compared with themselves.

    Args:
        rows: float32 (num_rows, size), before cut, normalisation and activation.
        manifest: states what the SDK does with them by default.
        comparison: how the answers will be compared.
        computation: the reference's.
        task: whose answers they are.

    Returns:
        float32 (num_rows, dimensions or size).
    """
    if comparison == "embed":
        whole = computation.unit(rows) if manifest.normalize else rows
        return whole[:, : manifest.dimensions] if task == "embed" else whole
    if manifest.head is None:
        return rows
    activation = manifest.head.score_activation if comparison == "score" else manifest.head.activation
    return computation.activate(rows, activation)
