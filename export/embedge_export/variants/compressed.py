"""The smaller precisions of a float32 graph for the CPU, made one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge.manifest import Dtype
from embedge.types import IntArray
from embedge_export.precisions import VARIANTS, NamedVariant
from embedge_export.variants.calibration import Activations, calibrate
from embedge_export.variants.compress import float16, int4
from embedge_export.variants.editor import GraphEditor
from embedge_export.variants.int8 import DISABLED_OPTIMIZERS, int8

if TYPE_CHECKING:
    import onnx


class Compressed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A graph of a smaller precision.

    Attributes:
        name: of the variant.
        graph: its weights inside.
        disabled_optimizers: onnxruntime's fusions that must not run on it.
        needs: CPU features that it needs.
        forms: of its products, where they have several, in words.
    """

    name: str
    graph: onnx.ModelProto
    disabled_optimizers: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    forms: dict[str, int] = msgspec.field(default_factory=dict)


def compressed(
    graph: Path, names: Sequence[str], feeds: Sequence[Mapping[str, IntArray]]
) -> Iterator[Compressed]:
    """Make every variant for the CPU but fp32 from the float32 graph, one at a time.

    Args:
        graph: file of the float32 graph.
        names: of the variants asked for.
        feeds: inputs to calibrate with, where a variant's precision needs it.
    """
    asked = [
        each
        for each in VARIANTS.values()
        if each.name in names and each.target == "cpu" and each.dtype != "float32"
    ]
    activations = calibrate(graph, feeds) if any(each.stored.calibrated for each in asked) else {}
    for each in asked:
        yield _MAKERS[each.dtype](GraphEditor.open(graph), each, activations)


def _float16(editor: GraphEditor, variant: NamedVariant, _: Mapping[str, Activations]) -> Compressed:
    return Compressed(name=variant.name, graph=float16(editor), needs=variant.needs)


def _int8(editor: GraphEditor, variant: NamedVariant, activations: Mapping[str, Activations]) -> Compressed:
    made = int8(editor, activations, unsigned=variant.unsigned)
    return Compressed(
        name=variant.name,
        graph=made.graph,
        disabled_optimizers=DISABLED_OPTIMIZERS,
        needs=variant.needs,
        forms={str(form): count for form, count in made.forms.items()},
    )


def _int4(editor: GraphEditor, variant: NamedVariant, _: Mapping[str, Activations]) -> Compressed:
    return Compressed(name=variant.name, graph=int4(editor), needs=variant.needs)


_MAKERS: dict[Dtype, Callable[[GraphEditor, NamedVariant, Mapping[str, Activations]], Compressed]] = {
    "float16": _float16,
    "int8": _int8,
    "int4": _int4,
}
"""What makes the graph of each precision."""
