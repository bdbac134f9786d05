"""ModernBERT: norms before, windows and another theta in some layers."""

from __future__ import annotations

from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import (
    Config,
    UnsupportedError,
    activation,
    classifier,
    layer_norm,
    linear,
    rows,
)
from embedge_export.families.rotary import rotary
from embedge_export.families.rotary_layers import RotaryLayer, rotary_encoder
from embedge_export.families.spelling import SLIDING
from embedge_export.families.structure import (
    Embedding,
    Encoder,
    FeedForward,
    Head,
    Linear,
    Norm,
    Sublayer,
    Tensor,
)


def _encoder(config: Config) -> Encoder:
    size, inner, heads, count = (
        int(config[key])
        for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    )
    bias, mlp_bias = bool(config["attention_bias"]), bool(config["mlp_bias"])
    act = activation(config["hidden_activation"])
    side = int(config["local_attention"]) // 2

    def norm(name: str) -> Norm:
        return layer_norm(name, size, float(config["norm_eps"]), bool(config["norm_bias"]))

    def layer(index: int) -> RotaryLayer:
        at = f"layers.{index}"
        kind = config["layer_types"][index]
        units = linear(f"{at}.mlp.Wi", 2 * inner, size, mlp_bias)
        return RotaryLayer(
            merged=linear(f"{at}.attn.Wqkv", 3 * size, size, bias),
            output=linear(f"{at}.attn.Wo", size, size, bias),
            rotary=rotary(config["rope_parameters"][kind], size // heads),
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
