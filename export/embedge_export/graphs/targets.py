"""Which operators are written for which processor and precision, each with the measurement that chose it.

The figures come from benchmarks/operators.py on a Zen 4 core (AVX-512 VNNI), onnxruntime 1.32, in nanoseconds per
element and thread unless said otherwise; make them again there when a processor or a version differs.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from embedge.manifest import Target as Device

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph is written.

    Attributes:
        device: execution provider.
        precision: of the weights and products.
        flash: attention by MultiHeadAttention, the mask carried by one more component of each head.
        disabled_optimizers: onnxruntime's own passes that would undo the choices.
    """

    device: Device
    precision: Precision
    flash: bool = True
    disabled_optimizers: tuple[str, ...] = ()


CPU_FP32 = Choices(device="cpu", precision="fp32", disabled_optimizers=("SkipLayerNormFusion",))
