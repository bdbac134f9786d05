"""Decoders used as encoders: Llama, Mistral, Phi3, Qwen2, Qwen3, Gemma, Gemma3 text; and EuroBERT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import (
    Config,
    UnsupportedError,
    activation,
    classifier,
    expect,
    linear,
    rms_norm,
    rows,
)
from embedge_export.families.rotary import rotary
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.structure import (
    Attention,
    Embedding,
    Encoder,
    FeedForward,
    Head,
    Layer,
    Norm,
    Sublayer,
    Tensor,
    Window,
)

FACTS = Family(pooling="LAST", bounded_positions=False, rounding_units=1024, prefixes=("model.",))
"""What decoders have in common.

Their hidden states reach magnitudes of 10 to 100, so that float32 itself leaves a hundred times its rounding of 1.
"""


class _Traits(msgspec.Struct, frozen=True, kw_only=True):
    """In what decoders differ.

    Attributes:
        windows: of each layer, in transformers' count, which takes the token itself in; None for all tokens.
        qkv_bias, output_bias: of attention's projections.
        merged: queries, keys and values are rows of one projection, gate and up of another.
        head_norms: queries and keys are normalised per head.
        norm_offset: added to the weights of norms.
        four_norms: two more norms a layer, on what attention and feed-forward give.
        sight: "causal", a token sees no later token; "both", it does, and with a window of w as many as w tokens on
            either side; "both_exclusive", only those nearer than that.
        scale: factor on the products of queries and keys; None for one over the root of a head's size.
        embedding_scale: factor on the words' rows.
        activation: key that states it.
    """

    windows: tuple[int | None, ...]
    qkv_bias: bool
    output_bias: bool
    merged: bool = False
    head_norms: bool = False
    norm_offset: float = 0.0
    four_norms: bool = False
    sight: Literal["causal", "both", "both_exclusive"] = "causal"
    scale: float | None = None
    embedding_scale: float = 1.0
    activation: Literal["hidden_act", "hidden_activation"] = "hidden_act"


def _llama(config: Config) -> Encoder:
    return _decoder(config, _llama_traits(config, window=None))


def _eurobert(config: Config) -> Encoder:
    """EuroBERT: Llama whose tokens see each other."""
    return _decoder(config, msgspec.structs.replace(_llama_traits(config, window=None), sight="both"))


def _mistral(config: Config) -> Encoder:
    """Mistral: Llama with a window."""
    return _decoder(config, _llama_traits(config, window=config.get("sliding_window")))


def _phi3(config: Config) -> Encoder:
    """Phi3: Mistral with merged projections."""
    kinds = {rope["rope_type"] for rope in config["rope_parameters"].values()}
    if not kinds <= {"default", "longrope"}:
        raise UnsupportedError(
            f"rope_type {sorted(kinds)} is not one that Phi3 has; expected default or longrope"
        )
    traits = _llama_traits(config, window=config.get("sliding_window"))
    return _decoder(config, msgspec.structs.replace(traits, qkv_bias=False, output_bias=False, merged=True))


def _gemma(config: Config) -> Encoder:
    """Gemma: Llama with scaled embeddings and norms that multiply by 1 + w."""
    expect(config, use_bidirectional_attention=False)
    traits = _llama_traits(config, window=None)
    scale = int(config["hidden_size"]) ** 0.5
    return _decoder(config, msgspec.structs.replace(traits, norm_offset=1.0, embedding_scale=scale))


def _llama_traits(config: Config, window: int | None) -> _Traits:
    bias = bool(config.get("attention_bias", False))
    windows = (window,) * int(config["num_hidden_layers"])
    return _Traits(windows=windows, qkv_bias=bias, output_bias=bias, sight=_sight(config))


def _qwen2(config: Config) -> Encoder:
    """Qwen2: biases on queries, keys and values."""
    windows = _windows(config)
    return _decoder(config, _Traits(windows=windows, qkv_bias=True, output_bias=False, sight=_sight(config)))


def _qwen3(config: Config) -> Encoder:
    """Qwen3: queries and keys are normalised per head."""
    bias = bool(config.get("attention_bias", False))
    traits = _Traits(
        windows=_windows(config), qkv_bias=bias, output_bias=bias, head_norms=True, sight=_sight(config)
    )
    return _decoder(config, traits)


def _gemma3_text(config: Config) -> Encoder:
    """Gemma3 text: four norms a layer, scaled embeddings, windows with a theta of their own."""
    expect(config, attn_logit_softcapping=None, final_logit_softcapping=None)
    bias = bool(config.get("attention_bias", False))
    both = bool(config.get("use_bidirectional_attention", False))
    traits = _Traits(
        windows=_windows(config),
        qkv_bias=bias,
        output_bias=bias,
        head_norms=True,
        norm_offset=1.0,
        four_norms=True,
        sight="both_exclusive" if both and config["is_causal"] else _sight(config),
        scale=float(config["query_pre_attn_scalar"]) ** -0.5,
        embedding_scale=int(config["hidden_size"]) ** 0.5,
        activation="hidden_activation",
    )
    return _decoder(config, traits)


def _sight(config: Config) -> Literal["causal", "both"]:
    return "causal" if config["is_causal"] else "both"


def _windows(config: Config) -> tuple[int | None, ...]:
    kinds = config["layer_types"]
    if not set(kinds) <= {FULL, SLIDING}:
        raise UnsupportedError(
            f"layer_types {sorted(set(kinds))} have no built graph; expected {FULL}, {SLIDING}"
        )
    return tuple(int(config["sliding_window"]) if kind == SLIDING else None for kind in kinds)


def _decoder(config: Config, traits: _Traits) -> Encoder:
    size = int(config["hidden_size"])
    mlp_bias = bool(config.get("mlp_bias", False))
    inner = int(config["intermediate_size"])
    act = activation(config[traits.activation])
    attention = _attention_of(config, traits)

    def norm(name: str) -> Norm:
        return rms_norm(name, size, float(config["rms_norm_eps"]), traits.norm_offset)

    def layer(index: int, kind: str, window: int | None) -> Layer:
        at = f"layers.{index}"
        gate, up = (linear(f"{at}.mlp.{name}_proj", inner, size, mlp_bias) for name in ("gate", "up"))
        if traits.merged:
            both = linear(f"{at}.mlp.gate_up_proj", 2 * inner, size, mlp_bias)
            gate, up = rows(both, 0, inner), rows(both, inner, 2 * inner)
        after = norm(f"{at}.post_attention_layernorm")  # before feed-forward, unless there are four
        return Layer(
            attention=attention(f"{at}.self_attn", kind, window),
            feed_forward=FeedForward(
                gate=gate,
                up=up,
                down=linear(f"{at}.mlp.down_proj", size, inner, mlp_bias),
                activation=act,
            ),
            around_attention=Sublayer(
                norm_in=norm(f"{at}.input_layernorm"), norm_out=after if traits.four_norms else None
            ),
            around_feed_forward=Sublayer(
                norm_in=norm(f"{at}.pre_feedforward_layernorm") if traits.four_norms else after,
                norm_out=norm(f"{at}.post_feedforward_layernorm") if traits.four_norms else None,
            ),
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
        final_norm=norm("norm"),
    )


def _attention_of(config: Config, traits: _Traits) -> Callable[[str, str, int | None], Attention]:
    """What makes the attention of a layer, from its name, its kind and its window."""
    size, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or size // heads)
    if heads % kv_heads:
        raise UnsupportedError(f"{heads} heads do not divide among {kv_heads} heads of keys")
    rotations = {
        kind: rotary(config["rope_parameters"][kind], head_dim) for kind in set(config["layer_types"])
    }

    def norm(name: str) -> Norm | None:
        if not traits.head_norms:
            return None
        return rms_norm(name, head_dim, float(config["rms_norm_eps"]), traits.norm_offset)

    def attention(at: str, kind: str, window: int | None) -> Attention:
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
            query_norm=norm(f"{at}.q_norm"),
            key_norm=norm(f"{at}.k_norm"),
            rotary=rotations[kind],
            causal=traits.sight == "causal",
            window=_window(window, traits),
        )

    return attention


def _window(window: int | None, traits: _Traits) -> Window | None:
    """Sides of a window, of which transformers' causal and Gemma3's masks do not see the last token."""
    if window is None:
        return None
    before = window if traits.sight == "both" else window - 1
    return (before, 0 if traits.sight == "causal" else before)


def _eurobert_head(config: Config, kind: HeadKind) -> Head:
    size = int(config["hidden_size"])
    if kind == "token":
        return Head(last=classifier(config, size))
    if kind == "vocabulary":
        return Head(last=linear("lm_head", int(config["vocab_size"]), size, bool(config["mlp_bias"])))
    pooling = {"bos": "CLS", "mean": "MEAN"}.get(config["classifier_pooling"])
    if pooling is None:
        raise UnsupportedError(
            f"classifier_pooling={config['classifier_pooling']!r} has no built head; expected 'bos' or 'mean'"
        )
    return Head(
        pooling="CLS" if pooling == "CLS" else "MEAN",
        first=linear("dense", size, size),
        activation="gelu",
        last=classifier(config, size),
    )


EUROBERT = msgspec.structs.replace(FACTS, pooling="MEAN", encoder=_eurobert, head=_eurobert_head)
GEMMA = msgspec.structs.replace(FACTS, encoder=_gemma)
GEMMA3_TEXT = msgspec.structs.replace(FACTS, encoder=_gemma3_text)
LLAMA = msgspec.structs.replace(FACTS, encoder=_llama)
MISTRAL = msgspec.structs.replace(FACTS, encoder=_mistral)
PHI3 = msgspec.structs.replace(FACTS, encoder=_phi3)
QWEN2 = msgspec.structs.replace(FACTS, encoder=_qwen2)
QWEN3 = msgspec.structs.replace(FACTS, encoder=_qwen3)
