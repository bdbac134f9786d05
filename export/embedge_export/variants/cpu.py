"""The variants for the CPU: float32 as its graph was made, and the smaller precisions that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from embedge.manifest import UNMEASURED, PrefixSpec, Variant
from embedge_export.families.structure import Load
from embedge_export.graph.attention import AttentionFacts, facts_of_built, prefix_of, score_heads
from embedge_export.graph.built.choices import CPU_FP32
from embedge_export.graph.built.cpu_attention import takes_prefix
from embedge_export.graph.built.prefixes import offer_prefix
from embedge_export.graph.outputs import reads_last_alone
from embedge_export.graph.route import Chosen
from embedge_export.precisions import VARIANTS, NamedVariant
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.variants.calibration import calibration_feeds
from embedge_export.variants.compressed import compressed
from embedge_export.variants.int8_attention import attend_in_int8, long_attention
from embedge_export.write.graph_files import save_graph

if TYPE_CHECKING:
    import onnx


def write_cpu_variants(
    graph: onnx.ModelProto,
    loads: Mapping[str, Load],
    chosen: Chosen,
    checkpoint: Checkpoint,
    tokenization: Tokenization,
    names: Sequence[str],
    folder: Path,
) -> dict[str, Variant]:
    """Write the graphs for the CPU into a bundle.

    Args:
        graph: of float32, with its heads; its weights may be gone from it afterwards.
        loads: what reads the weights that are not in it.
        chosen: how it was made.
        checkpoint: its facts.
        tokenization: what calibrating texts are tokenised with.
        names: of the variants asked for; float32 is written in any case, since the others are judged by it.
        folder: the bundle.

    Returns:
        The variants by name.
    """
    feeds = []
    if any(VARIANTS[name].stored.calibrated for name in names):
        inputs = [value.name for value in graph.graph.input]
        feeds = calibration_feeds(inputs, tokenization, pairs="score" in checkpoint.tasks)
    prefix = _offered_prefix(graph, chosen, checkpoint)
    saved = save_graph(graph, folder, VARIANTS["fp32"].stem, loads)
    disabled = CPU_FP32.disabled_optimizers if chosen.described is not None else ()
    if chosen.described is None:
        attention = AttentionFacts(score_heads=score_heads(graph, checkpoint.num_attention_heads))
    else:
        attention = facts_of_built(chosen.described.encoder)
    variants = {"fp32": _variant("fp32", saved, attention, disabled_optimizers=disabled, prefix=prefix)}
    long = None
    if chosen.described is not None:
        long = long_attention(chosen.described.encoder, tokenization.max_seq_len)
    for smaller in compressed(folder / saved[0], names, feeds):
        held = attention
        if long is not None and _is_exact_int8(VARIANTS[smaller.name]):
            attend_in_int8(smaller.graph, long)
            held = msgspec.structs.replace(
                attention,
                window_numbers=max(attention.window_numbers or 0, long.window_numbers),
                switch_lengths=tuple(sorted({*attention.switch_lengths, long.switch_length})),
            )
        variants[smaller.name] = _variant(
            smaller.name,
            save_graph(smaller.graph, folder, VARIANTS[smaller.name].stem),
            held,
            disabled_optimizers=smaller.disabled_optimizers,
            needs=smaller.needs,
            forms=smaller.forms,
            prefix=prefix,
        )
    return variants


def _offered_prefix(graph: onnx.ModelProto, chosen: Chosen, checkpoint: Checkpoint) -> PrefixSpec | None:
    """Let texts share what they begin with, where the graph and what it gives allow."""
    if chosen.described is None or not reads_last_alone(checkpoint):
        return None
    encoder = chosen.described.encoder
    if not takes_prefix(encoder):
        return None
    offer_prefix(graph, encoder)
    return prefix_of(encoder, checkpoint.passed_over_id)


def _is_exact_int8(variant: NamedVariant) -> bool:
    """Whether processors that load the variant multiply uint8 by int8 without overflow."""
    return variant.dtype == "int8" and not variant.unsigned


def _variant(
    name: str, saved: tuple[str, tuple[str, ...]], attention: AttentionFacts, **facts: Any
) -> Variant:
    return Variant(
        file=saved[0],
        data_files=saved[1],
        dtype=VARIANTS[name].dtype,
        fidelity=UNMEASURED,
        **msgspec.structs.asdict(attention),
        **facts,
    )
