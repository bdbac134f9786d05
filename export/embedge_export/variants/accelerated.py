"""The variants for other execution providers than the CPU's, each written by the file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedge.manifest import Variant
from embedge_export.graph.route import Chosen
from embedge_export.precisions import CUDA_VARIANTS, OPENVINO_VARIANTS
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.weights import LoadedWeights
from embedge_export.variants.calibration import calibration_feeds
from embedge_export.variants.cuda import describe_for_cuda, write_cuda_variants
from embedge_export.variants.openvino import write_openvino_variants

if TYPE_CHECKING:
    import onnx


def write_accelerated_variants(
    checkpoint: Checkpoint,
    chosen: Chosen,
    tokenization: Tokenization,
    weights: LoadedWeights,
    inputs: Sequence[str],
    names: Sequence[str],
    written: tuple[onnx.ModelProto, Variant],
    folder: Path,
) -> tuple[dict[str, Variant], list[str]]:
    """Write the graphs for CUDA and OpenVINO into a bundle, where there are any among `names`.

    Args:
        checkpoint: its facts.
        chosen: how the float32 graph was made.
        tokenization: what they are asked with.
        weights: for the heads.
        inputs: that the bundle's graphs take.
        names: of the variants asked for.
        written: the float32 graph and its variant.
        folder: the bundle.

    Returns:
        The variants by name, and words about them.

    Raises:
        ExportError, VerificationError: as `write_cuda_variants` and `write_openvino_variants`.
    """
    variants: dict[str, Variant] = {}
    words: list[str] = []
    for_cuda = [name for name in names if name in CUDA_VARIANTS]
    for_openvino = [name for name in names if name in OPENVINO_VARIANTS]
    if not for_cuda and not for_openvino:
        return variants, words
    feeds = calibration_feeds(inputs, tokenization, pairs=False)
    if for_cuda:
        described = describe_for_cuda(checkpoint, chosen.described)
        made = write_cuda_variants(checkpoint, described, tokenization, weights, feeds, for_cuda, folder)
        variants |= made.variants
        words += made.words
    if for_openvino:
        variants |= write_openvino_variants(checkpoint, chosen, weights, feeds, for_openvino, written, folder)
    return variants, words
