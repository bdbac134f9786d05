"""Modules that are not exported: one row each of why, and of what can be done instead."""

from __future__ import annotations

from pathlib import Path

from embedge.errors import ExportError
from embedge_export.source.repository import inside
from embedge_export.source.towers import tower_names

EXPECTED = (
    "Transformer, Pooling, Dense, Normalize, LayerNorm, Dropout, SpladePooling, LogitScore, MultiVectorMask or "
    "StaticEmbedding"
)
FIRST = "a Transformer, MLMTransformer or StaticEmbedding module first"
_WORDS = "reads words by a tokenizer of sentence-transformers' own, which bundles do not have"
_OTHER_MODEL = "Train a StaticEmbedding in its place, or run it with sentence-transformers"
_AFTER = "Save the model without it where you can do that after embedding"
_AT_ALL = "Save the model without it, or run it with sentence-transformers."
_TOWER = "Export each alone, into a bundle of its own: --tower {tower}"

REFUSED: dict[str, tuple[str, str]] = {
    "Asym": ("chooses among towers by the text's task", _TOWER),
    "BoW": ("counts words by a vocabulary of its own", _OTHER_MODEL),
    "CLIPModel": ("embeds images, too", "Export a model of texts alone"),
    "CNN": ("convolves rows of tokens, which no builder has", _OTHER_MODEL),
    "HierarchicalTokenPooling": ("clusters a document's rows", f"{_AFTER}, such as with its pool()"),
    "LSTM": ("runs through the rows of tokens in turn, which no builder has", _OTHER_MODEL),
    "LambdaTokenPooling": ("calls a function of Python", f"{_AFTER}, such as with its pool()"),
    "Router": ("chooses among towers by the text's task", _TOWER),
    "SparseAutoEncoder": (
        "makes a dense embedding sparse, which no builder has",
        "Save the model without it to export the dense embedding",
    ),
    "SparseStaticEmbedding": (
        "gives each token id one weight, without a network",
        "Look the weights up in its files; export the tower of documents with --tower document",
    ),
    "WeightedLayerPooling": (
        "takes the hidden states of all layers, of which a graph gives the last",
        "Train with the last layer alone, or run it with sentence-transformers",
    ),
    "WordEmbeddings": (_WORDS, _OTHER_MODEL),
    "WordWeights": (
        "weights each token's row by its word, by whose weights means are divided, which no builder has",
        "Save the model without it, or run it with sentence-transformers",
    ),
}
"""By class: what it does that a bundle does not, and what to do."""


def refuse(kind: str, folder: Path, path: str, *, first: bool) -> ExportError:
    """The error for a module that is not exported.

    Args:
        kind: its class.
        folder: the checkpoint.
        path: the module's folder within it.
        first: it is the first module.
    """
    opening = f"modules.json {'begins with' if first else 'holds a'} {kind}"
    if not first:
        opening += " module"
    if kind not in REFUSED:
        expected = FIRST if first else EXPECTED
        return ExportError(f"{opening}, which embedge does not know; expected {expected}. {_AT_ALL}")
    why, instead = REFUSED[kind]
    if instead is _TOWER:
        towers = tower_names(inside(folder, path))
        why += f" ({', '.join(towers)})" if towers else ""
        instead = _TOWER.format(tower=next(iter(reversed(towers)), "document"))
    return ExportError(f"{opening}, which {why}; expected {FIRST if first else EXPECTED}. {instead}.")
