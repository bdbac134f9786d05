"""What a variant and its batches take of the memory, by what its manifest and its graph tell."""

from __future__ import annotations

import msgspec

from embedge._batches.memory import BatchMemory
from embedge._batches.prefixes import Prefixes
from embedge._contents.graph import GraphFacts
from embedge._contents.graphs import table_bytes
from embedge._sessions.onnxruntime import causal_in_blocks
from embedge.manifest import Variant

MOST_PREFIX_BYTES = 256 * 2**20
"""Of the prefixes that a model keeps; one of 300 tokens takes 69 MB of a model of Qwen3-0.6B's size."""
_PREFIX_SHARE = 4
"""Of a limit, a part for them."""


def batch_memory(spec: Variant, facts: GraphFacts, limit_bytes: int) -> BatchMemory:
    """Of a variant on the CPU, with the onnxruntime that is here.

    Args:
        spec: the variant.
        facts: of its graph.
        limit_bytes: for all batches that run at once.
    """
    return BatchMemory(
        numbers_per_token=facts.numbers_per_token + (spec.window_numbers or 0),
        score_heads=score_heads(spec) or 0,
        limit_bytes=limit_bytes,
        prefix_heads=0 if spec.prefix is None else spec.prefix.score_heads,
    )


def load_bytes(spec: Variant, facts: GraphFacts, num_bytes: int) -> tuple[int, int]:
    """What a session on the CPU takes at most while it is opened, and then.

    Args:
        spec: the variant.
        facts: of its graph.
        num_bytes: of its files.
    """
    tables = table_bytes(facts)
    copied = num_bytes - tables  # as read, and as onnxruntime has it: the CPU computes in float32
    kept = tables + copied * (2 if spec.dtype in ("float16", "bfloat16") else 1)
    return copied + kept, kept


def prefixes_of(spec: Variant, memory: BatchMemory | None) -> tuple[Prefixes | None, BatchMemory | None]:
    """What keeps the prefixes of a variant on the CPU, and what is left for its batches where there is a limit.

    Args:
        spec: the variant.
        memory: of its batches, with the whole limit.
    """
    if spec.prefix is None:
        return None, memory
    if memory is None:
        return Prefixes(spec.prefix, MOST_PREFIX_BYTES), None
    kept = min(MOST_PREFIX_BYTES, memory.limit_bytes // _PREFIX_SHARE)
    left = msgspec.structs.replace(memory, limit_bytes=memory.limit_bytes - kept, prefix_bytes=kept)
    return Prefixes(spec.prefix, kept), left


def score_heads(spec: Variant) -> int | None:
    """Heads whose scores a run on the CPU holds at once, with the onnxruntime that is here."""
    if spec.score_heads is not None or spec.causal_heads is None:
        return spec.score_heads
    return None if causal_in_blocks() else spec.causal_heads
