"""How a checkpoint's graph is made: built from its weights where the builder knows the family, else traced."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from embedge.errors import ExportError, MissingExtraError
from embedge_export.families.parts import UnsupportedError, expect
from embedge_export.families.structure import Encoder, Head, Load, tensors
from embedge_export.families.table import FAMILIES, read_encoder, read_head
from embedge_export.graph.built.build import build
from embedge_export.graph.built.choices import Choices
from embedge_export.graph.built.cuda import (
    build_cuda,
    for_queries,
    pad_to,
    score_heads_on_cuda,
    suited,
    twins,
    without_idle_windows,
)
from embedge_export.graph.built.fit import check_finite, check_fit
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.graph.outputs import traces_base
from embedge_export.source.causal_reranker import CausalReranker
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.libraries import how_to_install, is_light
from embedge_export.source.repository import weight_files
from embedge_export.spec import ExportSpec

if TYPE_CHECKING:
    import onnx

Made: TypeAlias = "tuple[onnx.ModelProto, Mapping[str, Load]]"
Route: TypeAlias = Literal[
    "built from the table",
    "built from the weights",
    "traced by optimum",
    "traced by torch.onnx",
    "given as a file",
]


class Described(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What all built graphs of a checkpoint are made from; see `describe`.

    Attributes:
        encoder, head: what they are made of; no head where the checkpoint has none, or it is attached afterwards.
        weights: where their weights are.
    """

    encoder: Encoder
    head: Head | None
    weights: StoredWeights


class Chosen(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a checkpoint's graph is made, and what it is built from where that was found out."""

    route: Route
    described: Described | None = None


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


def choose_route(checkpoint: Checkpoint, spec: ExportSpec) -> Chosen:
    """How the graph of a checkpoint is made.

    Raises:
        UnsupportedError: `spec.route` is "build", and the builder does not know the checkpoint.
        ExportError: the export goes without torch, and the weights do not fit config.json.
        MissingExtraError: the export goes without torch, and nothing but torch makes such a graph.
    """
    if checkpoint.kind == "static":
        return Chosen(route="built from the table")
    if isinstance(checkpoint.what, CausalReranker) and checkpoint.family.head is not None:
        raise ExportError(
            f"a {checkpoint.model_type} model has a head between its hidden states and its words, and is asked for the "
            "likelihood of words; expected one whose words follow its hidden states. Pass another --task."
        )
    if is_light(spec):
        return Chosen(route="built from the weights", described=_describe_alone(checkpoint, spec))
    if spec.route == "build":
        return Chosen(route="built from the weights", described=describe(checkpoint))
    # an operator set is a wish about the trace: built graphs have their own
    if spec.route == "auto" and spec.opset is None:
        with contextlib.suppress(UnsupportedError):
            return Chosen(route="built from the weights", described=describe(checkpoint))
    if checkpoint.is_decoder and checkpoint.facts.head == "sequence" and checkpoint.family.head is not None:
        raise ExportError(
            f"a traced {checkpoint.model_type} classifier takes the last token that is not the padding token, which "
            "a text may hold; expected a built graph. Leave out --route and --opset."
        )
    from embedge_export.graph.traced import described_by_optimum

    by_optimum = described_by_optimum(checkpoint)
    return Chosen(route="traced by optimum" if by_optimum else "traced by torch.onnx")


def describe(checkpoint: Checkpoint) -> Described:
    """Read a checkpoint's configuration and the names of its weights, once for all graphs that are built of it.

    Raises:
        UnsupportedError: the builder does not know the family, an option of it, its head, or the names of the weights.
    """
    described = _read(checkpoint)
    for tensor in (*tensors(described.encoder), *tensors(described.head)):
        if not described.weights.has(tensor):
            raise UnsupportedError(
                f"the weights have no {tensor.name!r} of shape {tensor.shape}; expected it for a built graph"
            )
    return described


def describe_for(device: str, checkpoint: Checkpoint, described: Described | None, advice: str) -> Described:
    """What a checkpoint's graphs for an accelerator are built from.

    Args:
        device: as `optimize_for` names it.
        checkpoint: its facts.
        described: what its float32 graph is built from; None where that is traced.
        advice: ends the message.

    Raises:
        ExportError: the checkpoint has no such graphs.
    """
    try:
        return describe(checkpoint) if described is None else described
    except UnsupportedError as error:
        raise ExportError(
            f"optimize_for={device!r} needs a graph that is built from the weights: {error}. {advice}"
        ) from error


def _describe_alone(checkpoint: Checkpoint, spec: ExportSpec) -> Described:
    """What a graph is built from where nothing else can make it, and nothing else looks at the weights."""
    if spec.route == "trace" or spec.opset is not None:
        raise MissingExtraError(
            "a graph is traced with torch and transformers, and this export goes without them; expected neither "
            f"--route trace nor --opset. {how_to_install()}"
        )
    try:
        described = _read(checkpoint)
    except UnsupportedError as error:
        raise MissingExtraError(
            f"{error}; without torch and transformers it cannot be traced. {how_to_install()}"
        ) from error
    check_fit(
        described.encoder, described.head, described.weights, leaves_over=bool(checkpoint.config_kwargs)
    )
    return described


def _read(checkpoint: Checkpoint) -> Described:
    if checkpoint.kind == "static":
        raise UnsupportedError("static embeddings have no encoder; expected a transformer")
    config = checkpoint.config
    try:
        encoder = read_encoder(config)
        kind = None if traces_base(checkpoint) else checkpoint.facts.head
        head = None if kind is None else read_head(config, kind)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnsupportedError(
            f"config.json cannot be read for a built graph: {type(error).__name__}: {error}; expected the values of "
            f"a {checkpoint.model_type} model. Correct it, or pass --route trace."
        ) from error
    if head is not None and head.last.weight.name == encoder.embedding.words.name:
        expect(config, tie_word_embeddings=True)
    family = FAMILIES[str(config["model_type"])]
    weights = StoredWeights(weight_files(checkpoint.transformer), family.prefixes, family.renames)
    return Described(encoder=encoder, head=head, weights=weights)


def check_values(described: Described) -> None:
    """Refuse weights that are not numbers, where nothing has loaded them before.

    Raises:
        ExportError: one holds NaN or infinity.
    """
    check_finite((*tensors(described.encoder), *tensors(described.head)), described.weights)


def build_from_weights(described: Described) -> Made:
    """Build the float32 graph of a checkpoint.

    Returns:
        The graph, without values in its weights, and what reads them.
    """
    return build(described.encoder, described.weights, head=described.head)


def build_plain(described: Described) -> Made:
    """Build the float32 graph with attention in single operators, which other execution providers know."""
    return build(described.encoder, described.weights, head=described.head, plain=True)


def build_for_cuda(described: Described, choices: Choices, max_seq_len: int) -> ForCuda:
    """Build a checkpoint's graphs of CUDA's operators.

    Args:
        described: what they are built from.
        choices: CUDA_FP16 or CUDA_BF16.
        max_seq_len: no text is longer.
    """
    encoder = without_idle_windows(described.encoder, max_seq_len)
    weights, head = described.weights, described.head
    chosen = suited(encoder, choices)
    single = for_queries(chosen)
    return ForCuda(
        graph=build_cuda(encoder, weights, chosen, head),
        for_queries=None if single == chosen else build_cuda(encoder, weights, single, head),
        score_heads=score_heads_on_cuda(encoder),
        pad_to_multiple_of=pad_to(encoder, chosen),
    )


def has_query_graph(described: Described, choices: Choices) -> bool:
    """Whether `build_for_cuda` gives a second graph."""
    chosen = suited(described.encoder, choices)
    return for_queries(chosen) != chosen


def build_twins(described: Described, choices: Choices, max_seq_len: int) -> list[Made]:
    """Each form that the graphs of `build_for_cuda` have, for the CPU's provider: in float32, with padding kept.

    Arguments are its own.
    """
    encoder = without_idle_windows(described.encoder, max_seq_len)
    return [
        build_cuda(encoder, described.weights, form, described.head)
        for form in twins(suited(encoder, choices))
    ]
