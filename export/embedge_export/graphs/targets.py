"""Which operators are written for which processor and precision, each with the measurement that chose it.

The figures come from benchmarks/operators.py on a Zen 4 core (AVX-512 VNNI), onnxruntime 1.32, in nanoseconds per
element and thread unless said otherwise; make them again there when a processor or a version differs. Those for CUDA
come from benchmarks/gpu on an H100, onnxruntime-gpu 1.31.
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
        separate_from: CUDA: a batch of such length and of so many tokens, padding included, takes the other form of
            merged_attention; None for never.
        disabled_optimizers: onnxruntime's own passes that would undo the choices.
    """

    device: Device
    precision: Precision
    flash: bool = True
    packed: bool = False
    merged_attention: bool = False
    separate_from: tuple[int, int] | None = None
    disabled_optimizers: tuple[str, ...] = ()


CPU_FP32 = Choices(
    device="cpu", precision="fp32", disabled_optimizers=("SkipLayerNormFusion", "BiasGeluFusion")
)
"""Both fusions take longer than what they replace: BiasGelu by 1 to 2 % of MiniLM's whole run."""
CUDA_FP16 = Choices(
    device="cuda", precision="fp16", packed=True, merged_attention=True, separate_from=(96, 8192)
)
"""PackedAttention, PackedMultiHeadAttention for long texts; padding taken off once.

Millions of real tokens a second of BERT-base by (batch, tokens), and one query in milliseconds:

| operator | 64 x 128 | 256 x 128 | 256 x 32 | 32 x 512 | ragged | query |
|---|---|---|---|---|---|---|
| PackedAttention | 1.94 | 2.08 | 1.89 | 1.67 | 2.00 | 0.96 |
| PackedMultiHeadAttention | 1.92 | 2.18 | 1.68 | 1.94 | 1.93 | 1.26 |
| Attention | 2.15 | 2.27 | 1.90 | 2.08 | 1.11 | 1.54 |
| MultiHeadAttention | 2.08 | 2.13 | 1.89 | 1.79 | 1.09 | 1.87 |

Padding costs Attention half of a ragged batch (256 texts of 4 to 128 tokens); where there is none it leads by up to a
tenth, and by a quarter at 512 tokens.
"""
CUDA_PLAIN = Choices(device="cuda", precision="fp32", flash=False)
"""Single operators only, to be brought to half precision by `half.to_half`."""
CUDA_TWIN = Choices(device="cuda", precision="fp32", merged_attention=True)
"""CUDA_FP16 with operators that the CPU has as well, to be held against the float32 graph."""
