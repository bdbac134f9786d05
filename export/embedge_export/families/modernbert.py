"""ModernBERT and its decoder: norms before, windows and another theta in some layers."""

from __future__ import annotations

import msgspec

from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import (
    Config,
    UnsupportedError,
    activation,
    classifier,
    expect,
    layer_norm,
    linear,
    rows,
)
from embedge_export.families.rotary import rotary
from embedge_export.families.rotary_layers import RotaryLayer, rotary_encoder
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.structure import (
    Embedding,
    Encoder,
    FeedForward,
    Head,
    Layer,
    Linear,
    Norm,
    Sublayer,
    Tensor,
)


def _encoder(config: Config, ropes: Config | None = None, side: int | None = None) -> Encoder:
    """The encoder, with its own rope_parameters and window or those given."""
    ropes = config["rope_parameters"] if ropes is None else ropes
    size, inner, heads, count = (
        int(config[key])
        for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    )
    bias, mlp_bias = bool(config["attention_bias"]), bool(config["mlp_bias"])
    act = activation(config["hidden_activation"])
    side = int(config["local_attention"]) // 2 if side is None else side

    def norm(name: str) -> Norm:
        return layer_norm(name, size, float(config["norm_eps"]), bool(config["norm_bias"]))

    def layer(index: int) -> RotaryLayer:
        at = f"layers.{index}"
        kind = config["layer_types"][index]
        units = linear(f"{at}.mlp.Wi", 2 * inner, size, mlp_bias)
        return RotaryLayer(
            merged=linear(f"{at}.attn.Wqkv", 3 * size, size, bias),
            output=linear(f"{at}.attn.Wo", size, size, bias),
            rotary=rotary(ropes[kind], size // heads),
            window=(side, side) if kind == SLIDING else None,
            feed_forward=FeedForward(
                gate=rows(units, 0, inner),
                up=rows(units, inner, 2 * inner),
                down=linear(f"{at}.mlp.Wo", size, inner, mlp_bias),
                activation=act,
            ),
            # the embedding's norm stands before the first layer
            around_attention=Sublayer(norm_in=norm(f"{at}.attn_norm") if index else None),
            around_feed_forward=Sublayer(norm_in=norm(f"{at}.mlp_norm")),
        )

    vocab_size = int(config["vocab_size"])
    embedding = Embedding(
        words=Tensor(name="embeddings.tok_embeddings.weight", shape=(vocab_size, size)),
        norm=norm("embeddings.norm"),
    )
    return rotary_encoder(
        size, heads, count, layer, embedding, vocab_size=vocab_size, final_norm=norm("final_norm")
    )


def _decoder(config: Config) -> Encoder:
    """ModernBERT's decoder: projections apart, and a token sees no later one."""
    expect(config, is_causal=True)
    side = config.get("sliding_window")  # the one that transformers 4 keeps
    side = int(config["local_attention"]) // 2 if side is None else int(side)
    encoder = _encoder(config, _ropes(config), side)
    size, bias = encoder.hidden_size, bool(config["attention_bias"])
    before = side - 1  # transformers counts the token itself in

    def changed(index: int, layer: Layer) -> Layer:
        query, key, value = (
            linear(f"layers.{index}.attn.{name}_proj", size, size, bias) for name in ("q", "k", "v")
        )
        attention = msgspec.structs.replace(
            layer.attention,
            query=query,
            key=key,
            value=value,
            causal=True,
            window=None if layer.attention.window is None else (before, 0),
        )
        return msgspec.structs.replace(layer, attention=attention)

    layers = tuple(changed(index, layer) for index, layer in enumerate(encoder.layers))
    return msgspec.structs.replace(encoder, layers=layers)


def _ropes(config: Config) -> Config:
    """rope_parameters of both kinds of layers; transformers 4 reads local_rope_theta for neither."""
    ropes: Config = config["rope_parameters"]
    return ropes if config.get("global_rope_theta") is None else dict.fromkeys((FULL, SLIDING), ropes[FULL])


def _decoder_head(config: Config, kind: HeadKind) -> Head:
    if kind != "sequence":
        raise UnsupportedError(f"a head of kind {kind!r} has no built graph; expected one for the sequence")
    size, bias = int(config["hidden_size"]), bool(config["classifier_bias"])
    return Head(
        pooling="LAST",
        passed_over_id=config["pad_token_id"],
        first=linear("head.dense", size, size, bias),
        activation=activation(config["classifier_activation"]),
        norm=layer_norm("head.norm", size, float(config["norm_eps"]), bool(config["norm_bias"])),
        last=linear("classifier", len(config["id2label"]), size, bias),
    )


def _head(config: Config, kind: HeadKind) -> Head:
    size, vocab_size = int(config["hidden_size"]), int(config["vocab_size"])
    first = linear("head.dense", size, size, bool(config["classifier_bias"]))
    norm = layer_norm("head.norm", size, float(config["norm_eps"]), bool(config["norm_bias"]))
    act = activation(config["classifier_activation"])
    if kind == "vocabulary":
        last = Linear(
            weight=Tensor(name="embeddings.tok_embeddings.weight", shape=(vocab_size, size)),
            bias=Tensor(name="decoder.bias", shape=(vocab_size,)) if config["decoder_bias"] else None,
        )
        return Head(first=first, activation=act, norm=norm, last=last)
    pooling = str(config["classifier_pooling"]).upper()
    if pooling not in ("CLS", "MEAN"):
        raise UnsupportedError(f"classifier_pooling={pooling!r} has no built head; expected 'cls' or 'mean'")
    return Head(
        pooling=("MEAN" if pooling == "MEAN" else "CLS") if kind == "sequence" else None,
        first=first,
        activation=act,
        norm=norm,
        last=classifier(config, size),
    )


MODERNBERT = Family(
    bounded_positions=False,
    # it would compile itself where it finds a GPU, and no trace can follow that
    load_options={"reference_compile": False},
    encoder=_encoder,
    head=_head,
    prefixes=("model.",),
)
MODERNBERT_DECODER = Family(
    pooling="LAST",
    bounded_positions=False,
    rounding_units=1024,
    encoder=_decoder,
    head=_decoder_head,
    prefixes=("model.",),
)
