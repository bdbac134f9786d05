"""What a bundle is asked: built-in texts that suit its main task, as many as its size allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from embedge.manifest import Manifest
from embedge.types import Task
from embedge_export.precisions import Comparison
from embedge_export.texts.many_kinds import JUDGED_TEXTS, paired
from embedge_export.texts.retrieval import (
    CALIBRATION_DOCUMENTS,
    QUICK_DOCUMENTS,
    RetrievalSet,
    built_in_set,
    candidates,
)

_QUICK_QUERIES = 40
_QUICK_CLASSIFIED = 200
_FEWEST = 24
_REFERENCE_SHARE = 1 / 6
_STEP_CHARS = 300
"""A chain's tag must not be cut off."""

_QUERY_PROMPTS = ("query", "search_query")
_DOCUMENT_PROMPTS = ("document", "passage", "corpus", "search_document")

Prompt: TypeAlias = str | tuple[str, str]
"""A text, or a query and a document."""


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """What every variant of a bundle is asked.

    Attributes:
        comparison: how the answers are compared.
        task: what is asked for.
        texts: retrieval set; embedders are asked its documents, its queries and the graded pairs.
        pairs: of a reranker, eight per query, the answer first.
        prompts: texts of a classifier.
        others: what people send beside English prose, as texts or as pairs.
        query_prompt, document_prompt: names of stored prompts.
    """

    comparison: Comparison
    task: Task
    texts: RetrievalSet
    pairs: tuple[tuple[str, str], ...] = ()
    prompts: tuple[str, ...] = ()
    others: tuple[Prompt, ...] = ()
    query_prompt: str | None = None
    document_prompt: str | None = None


def choose_questions(
    manifest: Manifest,
    size_bytes: int,
    *,
    step_tag: str | None = None,
    full: bool = False,
    alone: bool = False,
    answerable: Callable[[str], bool] = bool,
) -> Questions:
    """Choose what to ask a bundle.

    Args:
        manifest: of the bundle.
        size_bytes: of its float32 weights; the larger, the fewer texts, so that the gate takes seconds.
        step_tag: of a process reward model, as text.
        alone: float32 is asked for no other variant's sake, so that it has to answer little more than the reference.
        full: ask the whole set whatever the size, but for the documents that int8 is calibrated on.
        answerable: whether the tokenizer gives a text any token.
    """
    share = 1.0 if size_bytes < 150e6 else 0.5 if size_bytes < 600e6 else 0.2
    share = min(share, _REFERENCE_SHARE) if alone else share
    documents = max(_FEWEST, int(QUICK_DOCUMENTS * (min(share, 0.5) if manifest.sparse else share)))
    whole = built_in_set()
    texts = whole.subset(len(whole.documents) - CALIBRATION_DOCUMENTS if full else documents)
    comparison = comparison_of(manifest)
    # float32 alone was held against the reference on texts of all kinds already
    others = () if alone else tuple(filter(answerable, JUDGED_TEXTS))
    if comparison == "embed":
        return Questions(
            comparison=comparison,
            task="embed" if "embed" in manifest.tasks else "token_embed",
            texts=texts,
            others=others,
            query_prompt=next((name for name in _QUERY_PROMPTS if name in manifest.prompts), None),
            document_prompt=next((name for name in _DOCUMENT_PROMPTS if name in manifest.prompts), None),
        )
    if comparison == "score":
        queries = 6 * _QUICK_QUERIES if full else int(_QUICK_QUERIES * share)
        return Questions(
            comparison=comparison,
            task="score",
            texts=texts,
            pairs=tuple(candidates(texts, queries)),
            others=paired(others),
        )
    chosen = texts.documents if full else texts.documents[: int(_QUICK_CLASSIFIED * share)]
    if step_tag is not None:
        chosen = tuple(text.replace(". ", f".{step_tag} ") + step_tag for text in chosen)
        others = tuple(f"{text[:_STEP_CHARS]}{step_tag}" for text in others)
    return Questions(
        comparison=comparison, task=manifest.tasks[0], texts=texts, prompts=chosen, others=others
    )


def comparison_of(manifest: Manifest) -> Comparison:
    """How the answers to a bundle's main task are compared."""
    if manifest.late_interaction is not None or manifest.tasks[0] == "score":
        return "score"
    return "embed" if manifest.tasks[0] in ("embed", "token_embed") else "classify"


def main_prompts(asked: Questions) -> Sequence[Prompt]:
    """What the variant is timed with: documents, pairs or texts."""
    if asked.comparison == "score":
        return asked.pairs
    return asked.texts.documents if asked.comparison == "embed" else asked.prompts
