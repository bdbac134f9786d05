"""Tiny bundles, texts, and what each text's embedding is, computed in numpy without the runtime."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests import bundles

from embedge._testing import tiny_model
from embedge.testing import tiny_bundle

NUM_TEXTS = 600
_LONGEST = 28
ATOL = 2e-6
"""Of components of unit vectors, float32; texts differ by far more."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A bundle and its answers.

    Attributes:
        folder: the bundle.
        texts: all of them different.
        rows: float32 (num_texts, hidden_size), of length 1.
    """

    folder: Path
    texts: list[str]
    rows: np.ndarray

    def wrong(self, indices: list[int], rows: np.ndarray) -> tuple[int, int]:
        """How many rows are no right answers, and how many of these are another text's.

        Args:
            indices: of the texts that were asked.
            rows: float32 (num_asked, hidden_size), their answers.
        """
        if rows.shape != (len(indices), self.rows.shape[1]):
            return len(indices), 0
        off = ~(np.abs(rows - self.rows[indices]).max(axis=1) <= ATOL)
        swapped = sum(bool((np.abs(self.rows - row).max(axis=1) <= ATOL).any()) for row in rows[off])
        return int(off.sum()), swapped


def make(folder: Path, seed: int) -> Known:
    """Write a bundle with the weights of a seed."""
    weights = tiny_model.make_weights(seed, 0, 1)
    texts = _texts()
    rows = np.stack([_row(weights, text) for text in texts])
    return Known(folder=tiny_bundle(folder, seed=seed), texts=texts, rows=rows)


def broken(folder: Path) -> list[Path]:
    """Bundles that fail to load, each at another stage: by a hash, in tokenizers, by our policy, in onnxruntime."""
    made = [tiny_bundle(folder / name) for name in ("altered", "tokenizer", "graph", "operator", "missing")]
    altered, tokenizer, graph, operator, missing = made
    (altered / "onnx" / "model.onnx").write_bytes((altered / "onnx" / "model.onnx").read_bytes()[:-1] + b"x")
    content = json.loads((tokenizer / "tokenizer.json").read_text())
    content["model"]["unk_token"] = content["model"]["type"] = "Nothing"
    (tokenizer / "tokenizer.json").write_text(json.dumps(content))
    bundles.rewrite(tokenizer)
    (graph / "onnx" / "model.onnx").write_bytes((graph / "onnx" / "model.onnx").read_bytes()[:-40])
    bundles.rewrite(graph)
    # read by us without complaint; refused by onnxruntime alone, which has built a part of the session then
    path = operator / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"\x22\x04Tanh", b"\x22\x04Tonh"))
    bundles.rewrite(operator)
    (missing / "tokenizer.json").unlink()
    return made


def _texts() -> list[str]:
    rng = random.Random(0)
    words = [word for word in tiny_model.VOCABULARY if word.isalpha() and word != "nan"]
    texts = {" ".join(rng.choices(words, k=rng.randint(2, _LONGEST))) for _ in range(2 * NUM_TEXTS)}
    return sorted(texts)[:: len(texts) // NUM_TEXTS][:NUM_TEXTS]


def _row(weights: tiny_model.TinyWeights, text: str) -> np.ndarray:
    words = [tiny_model.VOCABULARY.index(word) for word in text.split()]
    ids = [tiny_model.CLS, *words, tiny_model.SEP]
    row = tiny_model.hidden_states(weights, ids, [0] * len(ids)).mean(axis=0, dtype=np.float64)
    return (row / np.linalg.norm(row)).astype(np.float32)
