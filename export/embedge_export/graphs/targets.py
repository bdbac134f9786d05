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
        packed: CUDA: padding is taken off before the first layer and put back after the last.
        merged_attention: CUDA: one operator multiplies by the weights of queries, keys and values and attends.
        disabled_optimizers: onnxruntime's own passes that would undo the choices.
    """

    device: Device
    precision: Precision
    flash: bool = True
    packed: bool = False
    merged_attention: bool = False
    disabled_optimizers: tuple[str, ...] = ()


CPU_FP32 = Choices(device="cpu", precision="fp32", disabled_optimizers=("SkipLayerNormFusion",))
CUDA_FP16 = Choices(device="cuda", precision="fp16", packed=True)
CUDA_PLAIN = Choices(device="cuda", precision="fp32", flash=False)
"""Single operators only, to be brought to half precision by `half.to_half`."""
CUDA_TWIN = Choices(device="cuda", precision="fp32")
"""CUDA_FP16 with operators that the CPU has as well, to be held against the float32 graph."""
