"""Encoders in half precision for CUDA: fused operators, and no padding between the embedding and the last layer.

Encoders whose tokens see each other, at learnt or rotary positions, all or within a window, take the packed operators
of onnxruntime's CUDA provider, which its CPU provider lacks. Decoders, and encoders whose heads share keys, take them
in float16 for ragged batches. Their other batches take ONNX's own Attention, which both have, on rows with padding, and
so do all batches of relative positions, capped scores and queries that grow. Sums of products are kept in float32 by
the kernels; the last hidden states are given as float32, and what pools them computes in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from embedge_export.families.structure import Attention, Encoder, Head, Layer, Load
from embedge_export.graph.built.build import finish
from embedge_export.graph.built.canvas import Canvas
from embedge_export.graph.built.choices import RAGGED_DECODERS, Choices, Form
from embedge_export.graph.built.cpu_blocks import Blocks
from embedge_export.graph.built.cuda_attention import CudaAttention
from embedge_export.graph.built.cuda_blocks import CudaBlocks, Sum
from embedge_export.graph.built.positions import PositionNodes
from embedge_export.graph.built.weights import Weights

if TYPE_CHECKING:
    import onnx

_HEAD_MULTIPLE = 8
_LENGTH_MULTIPLE = 8
_RECENT_OPSET = 24
"""Of the first Attention that takes the number of a text's real tokens; RotaryEmbedding came before it."""


def suited(encoder: Encoder, choices: Choices) -> Choices:
    """The choices, or those of other operators where theirs do not have the encoder's attention."""
    if choices.attention == "standard" or all(layer.attention.is_plain for layer in encoder.layers):
        return choices
    if all(_can_pack(layer.attention) for layer in encoder.layers):
        return msgspec.structs.replace(choices, attention="separate", separate_from=None)
    can_pack = choices.packed and all(_has_plain_scores(layer.attention) for layer in encoder.layers)
    return msgspec.structs.replace(
        choices,
        attention="standard",
        packed=False,
        separate_from=None,
        packed_below=RAGGED_DECODERS if can_pack else None,
    )


def _can_pack(block: Attention) -> bool:
    """Whether PackedMultiHeadAttention has it: heads have keys of their own, and no token is hidden by causality."""
    own_keys = block.num_heads == block.num_kv_heads
    return own_keys and not block.causal and _has_plain_scores(block)


def _has_plain_scores(block: Attention) -> bool:
    """Whether PackedMultiHeadAttention has it once keys are written for every head, and causality as a mask."""
    plain = not block.relative and block.disentangled is None and block.softcap is None
    return plain and block.growth is None


def for_queries(choices: Choices) -> Choices:
    """The form for one short text, without branches and with rows of a fixed number: what a CUDA graph can capture."""
    return msgspec.structs.replace(
        choices,
        attention="standard",
        packed=False,
        separate_from=None,
        packed_below=None,
        split_matrices=choices.split_matrices or choices.attention == "merged",
    )


def twins(choices: Choices) -> list[Choices]:
    """The choices' forms with operators that the CPU has as well, in float32 and with padding kept."""
    forms: list[Form] = [choices.attention]
    if choices.separate_from is not None:
        forms = ["merged", "separate", "standard"]
    elif choices.packed_below is not None:
        forms = ["separate", "standard"]
    plain = msgspec.structs.replace(
        choices, precision="fp32", packed=False, separate_from=None, packed_below=None
    )
    return [msgspec.structs.replace(plain, attention=form) for form in forms]


def without_idle_windows(encoder: Encoder, max_seq_len: int) -> Encoder:
    """The encoder without the windows that no text is long enough for: without a mask, attention is faster."""

    def widened(layer: Layer) -> Layer:
        block = layer.attention
        if block.window is None:
            return layer
        reach = block.window[0] if block.causal else min(block.window)
        if reach < max_seq_len - 1:
            return layer
        return msgspec.structs.replace(layer, attention=msgspec.structs.replace(block, window=None))

    return msgspec.structs.replace(encoder, layers=tuple(widened(layer) for layer in encoder.layers))


def score_heads_on_cuda(encoder: Encoder) -> int | None:
    """Heads whose scores a run on a GPU holds at once.

    Its kernels work in blocks, but not on heads of odd sizes; scores of distances or with a cap are made for all heads.
    """
    blocks = [layer.attention for layer in encoder.layers]
    in_blocks = all(block.head_dim % _HEAD_MULTIPLE == 0 for block in blocks)
    if in_blocks and all(block.disentangled is None and block.softcap is None for block in blocks):
        return None
    return max(block.num_heads for block in blocks)


def pad_to(encoder: Encoder, choices: Choices) -> int:
    """What a batch's padded length should be a multiple of: kernels that add masks to scores load that many at once."""
    blocks = [layer.attention for layer in encoder.layers]
    masked = choices.packed_below is not None or any(
        block.window is not None
        or block.relative
        or block.disentangled is not None
        or block.softcap is not None
        for block in blocks
    )
    return _LENGTH_MULTIPLE if masked and choices.attention != "merged" else 1


def build_cuda(
    encoder: Encoder, weights: Weights, choices: Choices, head: Head | None = None
) -> tuple[onnx.ModelProto, dict[str, Load]]:
    """Write the graph of an encoder for CUDA.

    Args:
        encoder: what it is made of.
        weights: where its weights are.
        choices: which operators to write, as `suited` gives them.
        head: what follows the last hidden states, if anything; in float32.

    Returns:
        As `build.build`. attention_mask must be 1 at the first tokens of a text and 0 after them.
    """
    from onnx import TensorProto

    turned = any(layer.attention.rotary is not None for layer in encoder.layers)
    canvas = Canvas(opset=_RECENT_OPSET) if turned or choices.attention == "standard" else Canvas()
    alternative = _alternative(canvas, choices)
    if alternative is None:
        hidden = _body(canvas, encoder, weights, choices)
    else:
        condition, other = alternative
        chosen, left = canvas.branch(), canvas.branch()
        then = chosen, [_body(chosen, encoder, weights, other)]
        otherwise = left, [_body(left, encoder, weights, choices)]
        (hidden,) = canvas.choose(condition, then, otherwise, TensorProto.FLOAT)
    if head is not None:
        positions = PositionNodes(canvas, weights, encoder.relative)
        hidden = Blocks(canvas, weights, positions).head(hidden, head)
    return finish(canvas, encoder, hidden, head)


def _alternative(canvas: Canvas, choices: Choices) -> tuple[str, Choices] | None:
    """When a batch takes another form, and which; None where all take the same."""
    if choices.separate_from is not None:
        other = msgspec.structs.replace(choices, attention="separate", split_matrices=True)
        return _is_long(canvas, *choices.separate_from), other
    if choices.packed_below is not None:
        other = msgspec.structs.replace(choices, attention="separate", packed=True)
        return _is_ragged(canvas, *choices.packed_below), other
    return None


def _padded_length(canvas: Canvas) -> str:
    return canvas.op("Gather", canvas.op("Shape", "input_ids"), canvas.constant(1))


def _is_long(canvas: Canvas, length: int, tokens: int) -> str:
    """Whether a batch is so long and has so many tokens, padding included; no value on the device is read."""
    canvas.scope("form")
    long = canvas.op("GreaterOrEqual", _padded_length(canvas), canvas.constant(length))
    large = canvas.op("GreaterOrEqual", canvas.op("Size", "input_ids"), canvas.constant(tokens))
    return canvas.op("And", long, large)


def _is_ragged(canvas: Canvas, percent: int, tokens: int) -> str:
    """Whether fewer tokens of a batch are real, one percent less for every so many of its length; it is waited for."""
    canvas.scope("form")
    length = _padded_length(canvas)
    share = canvas.op("Sub", canvas.constant(percent * tokens), length)
    real = canvas.op("ReduceSum", "attention_mask", keepdims=0)
    return canvas.op(
        "Less",
        canvas.op("Mul", real, canvas.constant(100 * tokens)),
        canvas.op("Mul", canvas.op("Size", "input_ids"), share),
    )


def _body(canvas: Canvas, encoder: Encoder, weights: Weights, choices: Choices) -> str:
    """Token ids to the last hidden states, float32."""
    from onnx import TensorProto

    blocks = CudaBlocks(canvas, weights, choices, PositionNodes(canvas, weights, encoder.relative))
    attention = CudaAttention(blocks)
    state = Sum(rows=blocks.embed(encoder.embedding))
    for index, layer in enumerate(encoder.layers):
        for name, around, block in (
            (f"layers.{index}.attention", layer.around_attention, layer.attention),
            (f"layers.{index}.feed_forward", layer.around_feed_forward, layer.feed_forward),
        ):
            canvas.scope(name)
            rows, state = blocks.add_norm(state, around.norm_in)
            delta, bias = (
                attention.attend(rows, block)
                if isinstance(block, Attention)
                else blocks.feed_forward(rows, block)
            )
            if around.norm_out is not None:
                delta, bias = blocks.norm(blocks.add_bias(delta, bias), around.norm_out), None
            if around.scale != 1.0:
                factor = canvas.constant(around.scale, blocks.dtype)
                delta, bias = canvas.op("Mul", blocks.add_bias(delta, bias), factor), None
            state = Sum(rows=state.rows, delta=delta, bias=bias)
            if around.norm_after is not None:
                rows, _ = blocks.add_norm(state, around.norm_after, keep_sum=False)
                state = Sum(rows=rows)
    canvas.scope("final")
    rows, _ = blocks.add_norm(state, encoder.final_norm, keep_sum=False)
    return canvas.op("Cast", blocks.pad(rows), to=TensorProto.FLOAT)
