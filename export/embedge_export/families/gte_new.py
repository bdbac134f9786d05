"""GTE's new layout (model_type "new", "gte" in transformers): rotary positions, gated units, BERT's norms."""

from __future__ import annotations

import msgspec

from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import (
    TENSORFLOW_NORMS,
    Config,
    activation,
    classifier,
    expect,
    layer_norm,
    linear,
    rows,
)
from embedge_export.families.rotary import ntk_rotary, rotary
from embedge_export.families.rotary_layers import RotaryLayer, embedding_with_types, rotary_encoder
from embedge_export.families.spelling import FULL
from embedge_export.families.structure import Encoder, FeedForward, Head, Linear, Rotary, Sublayer, Tensor


def _encoder(config: Config) -> Encoder:
    expect(
        config,
        position_embedding_type="rope",
        pack_qkv=True,
        layer_norm_type="layer_norm",
        logn_attention_scale=False,
    )
    size, inner, heads, count, vocab_size = (
        int(config[key])
        for key in (
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_hidden_layers",
            "vocab_size",
        )
    )
    epsilon = float(config["layer_norm_eps"])
    positions = _rotary(config, size // heads)
    act = activation(config["hidden_act"])

    def layer(index: int) -> RotaryLayer:
        at = f"encoder.layer.{index}"
        units = linear(f"{at}.mlp.up_gate_proj", 2 * inner, size, bias=False)
        return RotaryLayer(
            merged=linear(f"{at}.attention.qkv_proj", 3 * size, size),
            output=linear(f"{at}.attention.o_proj", size, size),
            rotary=positions,
            feed_forward=FeedForward(
                up=rows(units, 0, inner),
                gate=rows(units, inner, 2 * inner),
                down=linear(f"{at}.mlp.down_proj", size, inner),
                activation=act,
            ),
            around_attention=Sublayer(norm_after=layer_norm(f"{at}.attn_ln", size, epsilon)),
            around_feed_forward=Sublayer(norm_after=layer_norm(f"{at}.mlp_ln", size, epsilon)),
        )

    norm = layer_norm("embeddings.LayerNorm", size, epsilon)
    embedding = embedding_with_types(config, vocab_size, size, norm)
    return rotary_encoder(size, heads, count, layer, embedding, vocab_size=vocab_size)


def _rotary(config: Config, size: int) -> Rotary:
    stated = config["rope_parameters"][FULL]
    if stated["rope_type"] == "ntk":
        return ntk_rotary(float(stated["rope_theta"]), size, float(stated["factor"]), stated.get("mixed_b"))
    return rotary(stated, size)


def _head(config: Config, kind: HeadKind) -> Head:
    size, vocab_size = int(config["hidden_size"]), int(config["vocab_size"])
    if kind == "token":
        return Head(last=classifier(config, size))
    if kind == "sequence":
        first = linear("pooler.dense", size, size)
        return Head(pooling="CLS", first=first, activation="tanh", last=classifier(config, size))
    return Head(
        first=linear("lm_head.dense", size, size),
        activation="gelu",
        norm=layer_norm("lm_head.norm", size, float(config["layer_norm_eps"])),
        last=Linear(
            weight=Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, size)),
            bias=Tensor(name="lm_head.decoder.bias", shape=(vocab_size,)),
        ),
    )


GTE_NEW = Family(
    bounded_positions=False, remote=True, encoder=_encoder, prefixes=("new.",), renames=TENSORFLOW_NORMS
)
GTE = msgspec.structs.replace(GTE_NEW, remote=False, head=_head, prefixes=("gte.", "new."))
"""transformers' own class, which stores its weights under the names of the code that it replaces."""
