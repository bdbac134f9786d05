"""What a variant's batches take of the memory, by what its manifest and its graph tell."""

from __future__ import annotations

from embedge._batches.memory import BatchMemory
from embedge._contents.graph import GraphFacts
from embedge._sessions.onnxruntime import causal_in_blocks
from embedge.manifest import Variant


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
    )


def score_heads(spec: Variant) -> int | None:
    """Heads whose scores a run on the CPU holds at once, with the onnxruntime that is here."""
    if spec.score_heads is not None or spec.causal_heads is None:
        return spec.score_heads
    return None if causal_in_blocks() else spec.causal_heads
