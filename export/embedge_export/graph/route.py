"""How a checkpoint's graph is made: built from its weights where the builder knows the family, else traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from embedge_export.families.heads import read_head
from embedge_export.families.parts import UnsupportedError
from embedge_export.families.structure import Encoder, Head, tensors
from embedge_export.families.table import PREFIXES, read_encoder
from embedge_export.graph.built.build import build
from embedge_export.graph.built.canvas import Load
from embedge_export.graph.built.choices import Choices
from embedge_export.graph.built.cuda import (
    build_cuda,
    for_queries,
    pad_to,
    score_heads,
    suited,
    twins,
    without_idle_windows,
)
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.graph.outputs import traces_base
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.repository import weight_files
from embedge_export.source.transformer import read_config
from embedge_export.spec import ExportSpec

if TYPE_CHECKING:
    import onnx

Made: TypeAlias = "tuple[onnx.ModelProto, Mapping[str, Load]]"
Route: TypeAlias = Literal[
    "built from the table", "built from the weights", "traced by optimum", "traced by torch.onnx"
]


def build_from_weights(checkpoint: Checkpoint) -> Made:
    """Build a checkpoint's graph.

    Returns:
        The graph, without values in its weights, and what reads them.

    Raises:
        UnsupportedError: the builder does not know the family, an option of it, its head, or the names of the weights.
    """
    encoder, head, weights = _describe(checkpoint)
    return build(encoder, weights, head=head)


class ForCuda(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Graphs of CUDA's operators, and what the manifest tells of them; see manifest.Variant.

    Attributes:
        graph: for batches.
        for_queries: for one short text; None where `graph` does.
    """

    graph: Made
    for_queries: Made | None
    score_heads: int | None
    pad_to_multiple_of: int


def build_for_cuda(checkpoint: Checkpoint, choices: Choices, max_seq_len: int) -> ForCuda:
    """Build a checkpoint's graphs of CUDA's operators.

    Args:
        checkpoint: what they are built from.
        choices: CUDA_FP16 or CUDA_BF16.
        max_seq_len: no text is longer.

    Raises:
        UnsupportedError: as `build_from_weights`.
    """
    encoder, head, weights = _describe_for_cuda(checkpoint, max_seq_len)
    chosen = suited(encoder, choices)
    single = for_queries(chosen)
    return ForCuda(
        graph=build_cuda(encoder, weights, chosen, head),
        for_queries=None if single == chosen else build_cuda(encoder, weights, single, head),
        score_heads=score_heads(encoder),
        pad_to_multiple_of=pad_to(encoder, chosen),
    )


def has_query_graph(checkpoint: Checkpoint, choices: Choices) -> bool:
    """Whether `build_for_cuda` gives a second graph.

    Raises:
        UnsupportedError: as `build_from_weights`.
    """
    encoder, _, _ = _describe(checkpoint)
    chosen = suited(encoder, choices)
    return for_queries(chosen) != chosen


def build_twins(checkpoint: Checkpoint, choices: Choices, max_seq_len: int) -> list[Made]:
    """Each form that the graphs of `build_for_cuda` have, for the CPU's provider: in float32, with padding kept.

    Arguments and errors are its own.
    """
    encoder, head, weights = _describe_for_cuda(checkpoint, max_seq_len)
    return [build_cuda(encoder, weights, form, head) for form in twins(suited(encoder, choices))]


def _describe_for_cuda(
    checkpoint: Checkpoint, max_seq_len: int
) -> tuple[Encoder, Head | None, StoredWeights]:
    encoder, head, weights = _describe(checkpoint)
    return without_idle_windows(encoder, max_seq_len), head, weights


def choose_route(checkpoint: Checkpoint, spec: ExportSpec) -> Route:
    """How the graph of a checkpoint is made.

    Raises:
        UnsupportedError: `spec.route` is "build", and the builder does not know the checkpoint.
    """
    if checkpoint.kind == "static":
        return "built from the table"
    if spec.route == "build":
        _describe(checkpoint)
        return "built from the weights"
    # an operator set is a wish about the trace: built graphs have their own
    if spec.route == "auto" and spec.opset is None and can_build(checkpoint):
        return "built from the weights"
    from embedge_export.graph.traced import described_by_optimum

    return "traced by optimum" if described_by_optimum(checkpoint) else "traced by torch.onnx"


def can_build(checkpoint: Checkpoint) -> bool:
    """Whether `build_from_weights` succeeds."""
    try:
        _describe(checkpoint)
    except UnsupportedError:
        return False
    return True


def _describe(checkpoint: Checkpoint) -> tuple[Encoder, Head | None, StoredWeights]:
    if checkpoint.kind == "static":
        raise UnsupportedError("static embeddings have no encoder; expected a transformer")
    config = read_config(checkpoint.transformer, checkpoint.trust_remote_code).to_dict()
    try:
        encoder = read_encoder(config)
        kind = None if traces_base(checkpoint) else checkpoint.facts.head
        head = None if kind is None else read_head(config, kind)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnsupportedError(
            f"config.json cannot be read for a built graph: {type(error).__name__}: {error}; expected the values of "
            f"a {checkpoint.model_type} model. Correct it, or pass --route trace."
        ) from error
    weights = StoredWeights(weight_files(checkpoint.transformer), PREFIXES)
    for tensor in (*tensors(encoder), *tensors(head)):
        if not weights.has(tensor):
            raise UnsupportedError(
                f"the weights have no {tensor.name!r} of shape {tensor.shape}; expected it for a built graph"
            )
    return encoder, head, weights
