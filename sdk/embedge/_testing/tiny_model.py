"""A model of a few kilobytes for test bundles: vocabulary, tokenizer, weights, graph, and the same in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from embedge._rows.heads import dense
from embedge._rows.pooling import pool
from embedge._testing.onnx_writer import GraphWriter
from embedge.types import FloatArray, PoolingMode

PAD, UNK, CLS, SEP, MASK, QUERY, DOCUMENT = range(7)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[Q]", "[D]")
_WORDS = """
the a of in and is was no not very good bad fine river bridge water stone road house city light dark warm cold
open closed north south day night first last query document yes what where how long small . , ? ! : - nan
"""
VOCABULARY = (*SPECIALS, *_WORDS.split())
HIDDEN_SIZE = 8
DENSE_SIZE = 6
HIDDEN, POOLED, TOKENS, LOGITS = "last_hidden_state", "sentence_embedding", "token_embeddings", "logits"


class TinyWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the tiny model, float32.

    Attributes:
        tokens: (vocab_size, hidden_size); the row of the word "nan" is NaN.
        segments: (2, hidden_size).
        positions: (hidden_size,), times the position.
        dense, dense_bias: (dense_size, hidden_size * number of poolings) and (dense_size,).
        head, head_bias: (num_labels, hidden_size) and (num_labels,).
        terms: (vocab_size, hidden_size), for sparse embeddings.
    """

    tokens: FloatArray
    segments: FloatArray
    positions: FloatArray
    dense: FloatArray
    dense_bias: FloatArray
    head: FloatArray
    head_bias: FloatArray
    terms: FloatArray


def make_weights(seed: int, num_labels: int, num_modes: int) -> TinyWeights:
    """Draw the parameters; the same seed gives the same ones on every machine."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> FloatArray:
        return rng.standard_normal(shape).astype(np.float32)

    tokens = draw(len(VOCABULARY), HIDDEN_SIZE)
    tokens[VOCABULARY.index("nan")] = np.nan
    return TinyWeights(
        tokens=tokens,
        segments=draw(2, HIDDEN_SIZE),
        positions=np.float32(0.1) * draw(HIDDEN_SIZE),
        dense=draw(DENSE_SIZE, HIDDEN_SIZE * num_modes),
        dense_bias=draw(DENSE_SIZE),
        head=draw(num_labels, HIDDEN_SIZE),
        head_bias=draw(num_labels),
        terms=draw(len(VOCABULARY), HIDDEN_SIZE),
    )


def hidden_states(weights: TinyWeights, token_ids: Sequence[int], type_ids: Sequence[int]) -> FloatArray:
    """The last hidden states of one sequence in numpy, float32 (num_tokens, hidden_size)."""
    rows = weights.tokens[list(token_ids)] + weights.segments[list(type_ids)]
    context = rows.mean(axis=0, keepdims=True)
    positions = np.arange(len(rows), dtype=np.float32)[:, None] * weights.positions
    return np.tanh(rows + context + positions)


def pooled_row(
    weights: TinyWeights, hidden: FloatArray, modes: Sequence[PoolingMode], *, with_dense: bool
) -> FloatArray:
    """The pooled output of one sequence in numpy, float32 (size,)."""
    row = pool(hidden[None], np.ones((1, len(hidden))), modes)[0]
    return dense(row, weights.dense, weights.dense_bias, "Tanh") if with_dense else row


def tokenizer_json(*, special_tokens: bool) -> bytes:
    """tokenizer.json: words between white space and punctuation, "[CLS] … [SEP]" and "[CLS] … [SEP] … [SEP]"."""

    def part(kind: str, name: str, type_id: int) -> dict[str, Any]:
        return {kind: {"id": name, "type_id": type_id}}

    cls, sep, second_sep = (
        part("SpecialToken", "[CLS]", 0),
        part("SpecialToken", "[SEP]", 0),
        part("SpecialToken", "[SEP]", 1),
    )
    first, second = part("Sequence", "A", 0), part("Sequence", "B", 1)
    template = {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, second_sep],
        "special_tokens": {
            name: {"id": name, "ids": [token_id], "tokens": [name]}
            for name, token_id in (("[CLS]", CLS), ("[SEP]", SEP))
        },
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return msgspec.json.encode(
        {
            "version": "1.0",
            # every exported tokenizer.json may carry these; a bundle's reader must ignore them
            "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
            "padding": None,
            "added_tokens": [{"id": i, "content": name, **flags} for i, name in enumerate(SPECIALS)],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": template if special_tokens else None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: i for i, word in enumerate(VOCABULARY)},
                "unk_token": "[UNK]",
            },
        }
    )


class TinyGraph:
    """The model as an ONNX graph; outputs are added as a bundle needs them.

    Args:
        weights: its parameters.
        inputs: of input_ids, attention_mask, token_type_ids, position_ids.
    """

    def __init__(self, weights: TinyWeights, inputs: Sequence[str]) -> None:
        self._weights = weights
        self._writer = g = GraphWriter("tiny")
        for name in inputs:
            g.input(name, ("batch_size", "sequence_length"))
        self._seq_axis = g.constant([1], np.int64)
        self._mask = g.node("Cast", "attention_mask", to=1)
        self._counted = g.node("CumSum", self._mask, g.constant(1, np.int64))
        self._num_tokens = g.node("ReduceSum", self._mask, self._seq_axis)
        rows = g.node("Gather", g.constant(weights.tokens), "input_ids")
        if "token_type_ids" in inputs:
            segments = g.node("Gather", g.constant(weights.segments), "token_type_ids")
            rows = g.node("Add", rows, segments)
        context = self._sum(rows, g.node("Div", self._mask, self._num_tokens), keepdims=1)
        if "position_ids" in inputs:
            position = g.node("Cast", "position_ids", to=1)
        else:
            position = g.node("Sub", self._counted, g.constant(1))
        positions = g.node("Mul", self._column(position), g.constant(weights.positions))
        g.node("Tanh", g.node("Add", g.node("Add", rows, context), positions), output=HIDDEN)
        self._declare(HIDDEN, "batch_size", "sequence_length", HIDDEN_SIZE)

    def add_pooled(self, modes: Sequence[PoolingMode], *, with_dense: bool) -> None:
        """Add the output `sentence_embedding`."""
        rows = [self._pool(mode) for mode in modes]
        pooled = self._writer.node("Concat", *rows, axis=1)
        size = HIDDEN_SIZE * len(modes)
        if with_dense:
            pooled, size = self._dense(pooled), DENSE_SIZE
        self._writer.node("Identity", pooled, output=POOLED)
        self._declare(POOLED, "batch_size", size)

    def add_token_dense(self) -> None:
        """Add the output `token_embeddings`: the Dense module applied to every token."""
        self._writer.node("Identity", self._dense(HIDDEN), output=TOKENS)
        self._declare(TOKENS, "batch_size", "sequence_length", DENSE_SIZE)

    def add_logits(self, mode: PoolingMode | None) -> None:
        """Add the output `logits`: of the pooled row, or of every token where mode is None."""
        rows = HIDDEN if mode is None else self._pool(mode)
        self._linear(rows, self._weights.head, self._weights.head_bias, output=LOGITS)
        num_labels = len(self._weights.head)
        if mode is None:
            self._declare(LOGITS, "batch_size", "sequence_length", num_labels)
        else:
            self._declare(LOGITS, "batch_size", num_labels)

    def add_terms(self) -> None:
        """Add the output `sentence_embedding` as SPLADE has it: max over tokens of log(1 + relu(term logits))."""
        g = self._writer
        logits = g.node("MatMul", HIDDEN, g.constant(self._weights.terms.T))
        weights = g.node("Log", g.node("Add", g.node("Relu", logits), g.constant(1)))
        real = g.node("Mul", weights, self._column(self._mask))
        g.node("ReduceMax", real, self._seq_axis, keepdims=0, output=POOLED)
        self._declare(POOLED, "batch_size", len(VOCABULARY))

    def to_bytes(self) -> bytes:
        """Content of the .onnx file."""
        return self._writer.to_bytes()

    def _pool(self, mode: PoolingMode) -> str:
        g = self._writer
        if mode == "MAX":
            floor = g.node("Mul", g.node("Sub", self._column(self._mask), g.constant(1)), g.constant(100))
            return g.node("ReduceMax", g.node("Add", HIDDEN, floor), self._seq_axis, keepdims=0)
        ranks = g.node("Mul", self._counted, self._mask)
        weights = {
            "CLS": lambda: g.node("Cast", g.node("Equal", ranks, g.constant(1)), to=1),
            "LAST": lambda: g.node("Cast", g.node("Equal", ranks, self._num_tokens), to=1),
            "MEAN": lambda: g.node("Div", self._mask, self._num_tokens),
            "MEAN_SQRT_LEN": lambda: g.node("Div", self._mask, g.node("Sqrt", self._num_tokens)),
            "WEIGHTEDMEAN": lambda: g.node("Div", ranks, g.node("ReduceSum", ranks, self._seq_axis)),
        }[mode]()
        return self._sum(HIDDEN, weights, keepdims=0)

    def _sum(self, rows: str, weights: str, *, keepdims: int) -> str:
        weighted = self._writer.node("Mul", rows, self._column(weights))
        return self._writer.node("ReduceSum", weighted, self._seq_axis, keepdims=keepdims)

    def _column(self, row: str) -> str:
        return self._writer.node("Unsqueeze", row, self._writer.constant([2], np.int64))

    def _dense(self, rows: str) -> str:
        return self._writer.node("Tanh", self._linear(rows, self._weights.dense, self._weights.dense_bias))

    def _linear(self, rows: str, weight: FloatArray, bias: FloatArray, output: str | None = None) -> str:
        g = self._writer
        return g.node("Add", g.node("MatMul", rows, g.constant(weight.T)), g.constant(bias), output=output)

    def _declare(self, name: str, *dims: str | int) -> None:
        self._writer.output(name, dims)
