"""What decoders are made of: the traits in which they differ, and their layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from embedge_export.families.parts import Config, UnsupportedError, activation, linear, rms_norm, rows
from embedge_export.families.rotary import rotary
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.structure import (
    Attention,
    Embedding,
    Encoder,
    FeedForward,
    Growth,
    Layer,
    Norm,
    Sublayer,
    Tensor,
    Window,
)


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """In what decoders differ.

    Attributes:
        windows: of each layer, in transformers' count, which takes the token itself in; None for all tokens.
        qkv_bias, output_bias: of attention's projections.
        merged: queries, keys and values are rows of one projection, gate and up of another.
        query_norms: queries and keys are normalised, per head or all heads together.
        norm_offset: added to the weights of norms.
        norms: what is normalised in a layer: what attention and feed-forward are given ("in"), what they give ("out"),
            or both.
        sight: "causal", a token sees no later token; "both", it does, and with a window of w as many as w tokens on
            either side; "both_exclusive", only those nearer than that.
        scale: factor on the products of queries and keys; None for one over the root of a head's size.
        softcap: of attention's scores.
        growth: of queries.
        rotations: rope_parameters of each kind of layers; None where they are the configuration's.
        unrotated: indices of layers without positions.
        embedding_scale: factor on the words' rows.
        residual_scale: factor on what attention and feed-forward give.
        activation: key that states it.
    """

    windows: tuple[int | None, ...]
    qkv_bias: bool
    output_bias: bool
    merged: bool = False
    query_norms: Literal["none", "head", "all heads"] = "none"
    norm_offset: float = 0.0
    norms: Literal["in", "out", "both"] = "in"
    sight: Literal["causal", "both", "both_exclusive"] = "causal"
    scale: float | None = None
    softcap: float | None = None
    growth: Growth | None = None
    rotations: Mapping[str, Config] | None = None
    unrotated: tuple[int, ...] = ()
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    activation: Literal["hidden_act", "hidden_activation"] = "hidden_act"


def decoder(config: Config, traits: Traits) -> Encoder:
    """Describe a decoder.

    Args:
        config: as in_new_words gives it.
        traits: of its family.

    Raises:
        UnsupportedError: an option is not known here.
    """
    size, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    mlp_bias = bool(config.get("mlp_bias", False))
    act = activation(config[traits.activation])
    attention = _attention_of(config, traits)

    def layer(index: int, kind: str, window: int | None) -> Layer:
        at = f"layers.{index}"
        gate, up = (linear(f"{at}.mlp.{name}_proj", inner, size, mlp_bias) for name in ("gate", "up"))
        if traits.merged:
            both = linear(f"{at}.mlp.gate_up_proj", 2 * inner, size, mlp_bias)
            gate, up = rows(both, 0, inner), rows(both, inner, 2 * inner)
        around_attention, around_feed_forward = _around(config, traits, at)
        return Layer(
            attention=attention(f"{at}.self_attn", kind, window, rotates=index not in traits.unrotated),
            feed_forward=FeedForward(
                gate=gate,
                up=up,
                down=linear(f"{at}.mlp.down_proj", size, inner, mlp_bias),
                activation=act,
            ),
            around_attention=around_attention,
            around_feed_forward=around_feed_forward,
        )

    vocab_size = int(config["vocab_size"])
    words = Tensor(name="embed_tokens.weight", shape=(vocab_size, size))
    return Encoder(
        embedding=Embedding(words=words, scale=traits.embedding_scale),
        layers=tuple(
            layer(index, kind, window)
            for index, (kind, window) in enumerate(zip(config["layer_types"], traits.windows, strict=True))
        ),
        hidden_size=size,
        vocab_size=vocab_size,
        final_norm=_norm(config, traits, "norm"),
    )


def windows_of(config: Config) -> tuple[int | None, ...]:
    """The window of each layer, by its kind.

    Raises:
        UnsupportedError: a kind is not known.
    """
    kinds = config["layer_types"]
    if not set(kinds) <= {FULL, SLIDING}:
        raise UnsupportedError(
            f"layer_types {sorted(set(kinds))} have no built graph; expected {FULL}, {SLIDING}"
        )
    return tuple(int(config["sliding_window"]) if kind == SLIDING else None for kind in kinds)


def _norm(config: Config, traits: Traits, name: str) -> Norm:
    return rms_norm(name, int(config["hidden_size"]), float(config["rms_norm_eps"]), traits.norm_offset)


def _around(config: Config, traits: Traits, at: str) -> tuple[Sublayer, Sublayer]:
    """Norms around attention and around feed-forward: "post_attention" is before feed-forward where nothing else is."""

    def norm(name: str) -> Norm:
        return _norm(config, traits, f"{at}.{name}_layernorm")

    scale, after = traits.residual_scale, norm("post_attention")
    if traits.norms == "in":
        return Sublayer(norm_in=norm("input"), scale=scale), Sublayer(norm_in=after, scale=scale)
    both = traits.norms == "both"
    return (
        Sublayer(norm_in=norm("input") if both else None, norm_out=after, scale=scale),
        Sublayer(
            norm_in=norm("pre_feedforward") if both else None, norm_out=norm("post_feedforward"), scale=scale
        ),
    )


def _attention_of(config: Config, traits: Traits) -> Callable[..., Attention]:
    """What makes the attention of a layer, from its name, its kind, its window, and whether it rotates."""
    size, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or size // heads)
    if heads % kv_heads:
        raise UnsupportedError(f"{heads} heads do not divide among {kv_heads} heads of keys")
    stated = config["rope_parameters"] if traits.rotations is None else traits.rotations
    rotations = {kind: rotary(stated[kind], head_dim) for kind in set(config["layer_types"])}

    def norm(name: str, count: int) -> Norm | None:
        if traits.query_norms == "none":
            return None
        normed = head_dim if traits.query_norms == "head" else count * head_dim
        return rms_norm(name, normed, float(config["rms_norm_eps"]), traits.norm_offset)

    def attention(at: str, kind: str, window: int | None, *, rotates: bool) -> Attention:
        wide, narrow = heads * head_dim, kv_heads * head_dim
        query = linear(f"{at}.q_proj", wide, size, traits.qkv_bias)
        key, value = (linear(f"{at}.{name}", narrow, size, traits.qkv_bias) for name in ("k_proj", "v_proj"))
        if traits.merged:
            all_three = linear(f"{at}.qkv_proj", wide + 2 * narrow, size, traits.qkv_bias)
            ends = (0, wide, wide + narrow, wide + 2 * narrow)
            query, key, value = (rows(all_three, ends[part], ends[part + 1]) for part in range(3))
        return Attention(
            query=query,
            key=key,
            value=value,
            output=linear(f"{at}.o_proj", size, heads * head_dim, traits.output_bias),
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            scale=head_dim**-0.5 if traits.scale is None else traits.scale,
            query_norm=norm(f"{at}.q_norm", heads),
            key_norm=norm(f"{at}.k_norm", kv_heads),
            norms_of="all heads" if traits.query_norms == "all heads" else "head",
            rotary=rotations[kind] if rotates else None,
            growth=traits.growth,
            softcap=traits.softcap,
            causal=traits.sight == "causal",
            window=_window(window, traits),
        )

    return attention


def _window(window: int | None, traits: Traits) -> Window | None:
    """Sides of a window, of which transformers' causal and Gemma3's masks do not see the last token."""
    if window is None:
        return None
    before = window if traits.sight == "both" else window - 1
    return (before, 0 if traits.sight == "causal" else before)
