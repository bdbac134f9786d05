"""Which operators are written for which processor and precision, each with the measurement that chose it.

The figures come from benchmarks/operators on a Zen 4 core (AVX-512 VNNI), onnxruntime 1.32, in nanoseconds per
element and thread unless said otherwise; make them again there when a processor or a version differs. Those for CUDA
come from benchmarks/gpu on an H100, onnxruntime-gpu 1.31.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
Form: TypeAlias = Literal["merged", "separate", "standard"]


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph is written.

    Attributes:
        precision: of the weights and products.
        packed: CUDA: padding is taken off before the first layer and put back after the last.
        attention: CUDA: "merged" multiplies by the weights of queries, keys and values and attends in one operator,
            "separate" multiplies before it; "standard" is ONNX's operator, on separate products.
        split_matrices: CUDA: "separate" and "standard" take parts of the matrix that "merged" has, and share it.
        separate_from: CUDA: from such a length and so many tokens on, padding included, a batch takes "separate" in
            place of "merged"; None for never.
        packed_below: CUDA: a batch with fewer real tokens takes "separate" without padding in place of "standard" with
            it: in percent, and one percent less for every so many tokens of its length; None for never.
        disabled_optimizers: onnxruntime's own passes that would undo the choices.
    """

    precision: Precision
    packed: bool = False
    attention: Form = "separate"
    split_matrices: bool = False
    separate_from: tuple[int, int] | None = None
    packed_below: tuple[int, int] | None = None
    disabled_optimizers: tuple[str, ...] = ()


CPU_FP32 = Choices(precision="fp32", disabled_optimizers=("SkipLayerNormFusion", "BiasGeluFusion"))
"""Both fusions take longer than what they replace: BiasGelu by 1 to 2 % of MiniLM's whole run.

Attention as cpu_attention.py writes it, milliseconds of processor time of one thread, rotation included, by (batch,
tokens); single operators hold scores of whole texts, 12 bytes for each head and pair of tokens:

| heads, and what a token sees | form | 8 x 128 | 2 x 512 | 1 x 2,048 | MB at 8,192 |
|---|---|---|---|---|---|
| 6 x 64, all | single operators | 4.3 | 12.9 | 95 | |
| | MultiHeadAttention, the mask in a component | 4.0 | 10.5 | 73 | 80 |
| 6 x 64, 64 on either side | single operators | 4.9 | 17.6 | 134 | |
| | blocks of 64, or one block of a short text | 4.3 | 10.3 | 23 | 132 |
| 8 of 4 x 64, all earlier | single operators | 8.5 | 17.1 | 159 | |
| | ONNX's Attention (opset 23) | 7.1 | 14.2 | 128 | 2,476 |
| | GroupQueryAttention | 8.0 | 15.0 | 75 | 95 |
| 8 of 4 x 64, 511 earlier | single operators | 6.2 | 16.1 | 210 | |
| | GroupQueryAttention with its window | 5.7 | 17.4 | 84 | 95 |
| | blocks of 128, or one block | 7.5 | 15.9 | 53 | |

onnxruntime's kernel holds all scores where they are capped. 8 of 4 x 64, without the rotation, onnxruntime 1.32, on a
core of an EPYC that others shared, so that the ratios alone hold:

| form | 32 x 20 | 8 x 128 | 2 x 512 | 1 x 2,048 | MB of the kernel at 4,096 |
|---|---|---|---|---|---|
| single operators | 1.3 | 4.9 | 18 | 148 | |
| GroupQueryAttention with its cap | 1.9 | 9.9 | 32 | 251 | 560 |
| causal_blocks.py, 64 queries at a time | 2.8 | 5.1 | 11 | 68 | |
| GroupQueryAttention, no cap | 1.4 | 4.9 | 14 | 71 | 32 |

Blocks of 128 take 1.04 to 1.2 times as long from 128 tokens on. Where 1,500 earlier ones are seen, blocks of 64 take 57
ms at 2,048 and 141 at 4,096, the kernel with its window 81 and 279; so wide windows are in blocks, too.

In int8 graphs causal attention of long texts has 8 bits, as variants/int8_blocks.py writes it; 8 of 4 x 64, without the
rotation, milliseconds by tokens of one text:

| form | 256 | 512 | 1,024 | 2,048 |
|---|---|---|---|---|
| GroupQueryAttention | 1.9 | 7.2 | 21.0 | 68.7 |
| blocks of 128, both products in 8 bits | 1.8 | 4.5 | 12.7 | 41.0 |
| blocks of 64, both products in 8 bits | 1.8 | 5.0 | 14.9 | 49.3 |
| blocks of 128, scores in 8 bits | 1.5 | 4.4 | 13.3 | 48.6 |
| blocks of 128, float32 | 1.7 | 4.8 | 16.5 | 64.3 |

An 8-layer Qwen3 of 512 takes 1.16 times less in all at 512 tokens and 1.3 times at 2,048. In float32 that would be 7 %,
so the kernel stays. So does MultiHeadAttention, which an encoder's whole attention has: 6 x 64, 2,048 tokens 71 ms, 57
with both products in 8 bits, 61 with scores in 8 bits, 85 in such blocks in float32, and 2 to 8 % of ModernBERT's run.
Nanoseconds for each score of a block: scores 1.35 in float32 and 0.50 in 8 bits, their softmax 0.35, a mask 0.21,
largest values 0.08, rounding 0.14, times values 1.40 and 0.40; the kernel takes 2.9 for all.
"""
CUDA_FP16 = Choices(precision="fp16", packed=True, attention="merged", separate_from=(96, 8192))
"""PackedAttention, PackedMultiHeadAttention for long texts; padding taken off once.

Millions of real tokens a second of BERT-base by (batch, tokens), and one query in milliseconds:

| operator | 64 x 128 | 256 x 128 | 256 x 32 | 32 x 512 | ragged | query |
|---|---|---|---|---|---|---|
| PackedAttention | 1.96 | 2.11 | 1.93 | 1.67 | 1.98 | 1.02 |
| PackedMultiHeadAttention | 1.97 | 2.19 | 1.71 | 1.95 | 1.91 | 1.24 |
| Attention | 2.13 | 2.21 | 1.89 | 2.06 | 1.10 | 1.06 |
| ONNX's Attention | 2.15 | 2.19 | 1.88 | 2.01 | 1.12 | 1.53 |

PackedAttention copies its product to put the heads apart, and has no FlashAttention; the other one has it, on three
products. At 96 tokens it makes 2.10 against 1.98 (340 texts), at 64 2.05 against 2.08 (1,024 texts); below 8,192 tokens
in all the three products fill the card worse (32 x 128: 1.70 against 1.77). Which form a batch takes follows from its
shape, so that nothing on the device is waited for. The matrices are stored once; onnxruntime keeps those of attention
in the card's memory a second time, as it splits them at load.

Padding costs Attention half of a ragged batch (256 texts of 4 to 128 tokens). Where there is none it leads, but by
cuDNN's kernels, which onnxruntime plans anew for each shape in each thread: 47 ms for a batch that then takes 1.6.
ONNX's Attention plans nothing and is as fast there: 5 to 10 % where 8,192 or 16,384 tokens are all real, but 1 % in the
32,768 and more of a long call, for which a third branch would have to wait for a count on the device.

Rotary positions are turned before PackedMultiHeadAttention, windows are added to its scores. Millions of real tokens a
second of ModernBERT-base, packed against ONNX's Attention with padding: 64 x 128 1.06 against 0.85, 32 x 512 0.91
against 0.76, ragged 1.07 against 0.49. GroupQueryAttention, which normalises heads and turns them by itself, makes
0.363 against 0.352 at Qwen3-0.6B's size and 64 x 128 (bfloat16 0.355 against 0.311), but attends by cuDNN's kernels,
planned anew for each shape, and a query takes 3.6 against 3.3 ms. Where the time goes stands in
benchmarks/results/gpu.md; products in FP8 make a third of float16's rate there.
"""
RAGGED_DECODERS = 92, 51
"""`packed_below` of decoders, and of encoders whose heads share keys.

PackedMultiHeadAttention has neither causality nor shared keys, so a mask is added to its scores, and keys and values
are repeated for each head. Thousands of real tokens a second at Qwen3-0.6B's size by texts x length and real tokens:

| texts x length | packed, 60 % | 75 % | 85 % | 90 % | 95 % | padded, 60 % | 75 % | 85 % | 90 % | 95 % | as fast at |
|---|---|---|---|---|---|---|---|---|---|---|---|
| 1,024 x 32 | 328 | 338 | 337 | 335 | 341 | 207 | 260 | 291 | 308 | 324 | 100 % |
| 256 x 128 | 330 | 330 | 330 | 331 | 332 | 221 | 276 | 309 | 326 | 345 | 91 % |
| 128 x 256 | 310 | 314 | 312 | 311 | 311 | 221 | 271 | 307 | 324 | 340 | 87 % |
| 64 x 512 | 285 | 283 | 277 | 275 | 273 | 208 | 262 | 297 | 313 | 330 | 80 % |
| 32 x 768 | 259 | 254 | 250 | 247 | 244 | 207 | 255 | 288 | 304 | 320 | 75 % |
| 16 x 1,024 | 234 | 224 | 222 | 221 | 219 | 207 | 250 | 277 | 292 | 307 | 68 % |

From 128 tokens on the line is within 4 percent of these shares.

How many tokens are real stands on the card and is waited for; full batches make what they make without the branch (64 x
128: 347 to 350 either way). Half-filled batches of 256 x 128, other ways:

| form | thousand tokens/s |
|---|---|
| keys and values repeated by Concat, PackedMultiHeadAttention | 319 |
| by Expand | 317 |
| by Gather | 307 |
| padding restored for ONNX's Attention alone | 286 |
| PagedAttention on pages made in the graph | 194 |
| all with padding | 182 |

PagedAttention starts groups of threads for texts as long as all tokens together, and takes 47 of 92 ms with that.
Padding restored for attention alone is faster than packed attention from 1,024 tokens on (16 x 2,048, half of them
real: 230, packed 188, with padding 184), but would be a third copy of every layer.
"""
CUDA_BF16 = Choices(precision="bf16", attention="standard")
"""For what float16 does not hold. The packed operators have no bfloat16."""
