"""Queries and documents: which stored prompt each of them gets, and what has no such sides.

Source: sentence-transformers 6 `SentenceTransformer.encode_query` and `encode_document`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from embedge._calls.options import CallOptions
from embedge._rows.similarity import similarities
from embedge.errors import TaskNotSupportedError
from embedge.manifest import Manifest
from embedge.types import FloatArray

TextSide: TypeAlias = Literal["query", "document"]


def on_side(manifest: Manifest, side: TextSide, options: CallOptions) -> CallOptions:
    """A call's options with the tower of that name, which brings the stored prompt of its name, as `prompt_of` has it.

    Raises:
        TaskNotSupportedError: the bundle is the tower of the other side.
    """
    if manifest.tower is not None and manifest.tower != side:
        raise TaskNotSupportedError(
            f"bundle {manifest.name!r} is the {manifest.tower} tower of a model that embeds queries and documents "
            f"apart, so it embeds no {side}; expected the bundle of the {side} tower",
            task="embed",
            tasks=manifest.tasks,
        )
    return msgspec.structs.replace(options, tower=side)


def similarity(manifest: Manifest, embeddings_1: Any, embeddings_2: Any) -> FloatArray:
    """Compare embeddings as the checkpoint does; arguments and errors are those of EdgeModel.similarity."""
    if manifest.embedding_size is None or "embed" not in manifest.tasks:
        raise TaskNotSupportedError(
            f"bundle {manifest.name!r} has no embeddings of one row per text to compare; its tasks are "
            f"{', '.join(manifest.tasks)}. Use score, or a bundle that embeds.",
            task="embed",
            tasks=manifest.tasks,
        )
    return similarities(embeddings_1, embeddings_2, manifest.similarity)
