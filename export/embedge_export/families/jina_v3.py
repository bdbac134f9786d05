"""Jina embeddings v3, as transformers has it: XLM-RoBERTa with rotary positions, one projection for all three."""

from __future__ import annotations

from embedge_export.families.bert_like import roberta_head
from embedge_export.families.family import Family
from embedge_export.families.parts import Config, activation, layer_norm, linear, rows, self_attention
from embedge_export.families.rotary import rotary
from embedge_export.families.rotary_layers import embedding_with_types
from embedge_export.families.spelling import FULL
from embedge_export.families.structure import Encoder, FeedForward, Layer, Sublayer


def _encoder(config: Config) -> Encoder:
    size, inner, heads, vocab_size = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
    )
    epsilon, act = float(config["layer_norm_eps"]), activation(config["hidden_act"])
    positions = rotary(config["rope_parameters"][FULL], size // heads)

    def layer(index: int) -> Layer:
        at = f"encoder.layers.{index}"
        merged = linear(f"{at}.mixer.Wqkv", 3 * size, size)
        return Layer(
            attention=self_attention(
                size,
                heads,
                (rows(merged, part * size, (part + 1) * size) for part in range(3)),
                linear(f"{at}.mixer.out_proj", size, size),
                rotary=positions,
            ),
            feed_forward=FeedForward(
                up=linear(f"{at}.mlp.fc1", inner, size),
                down=linear(f"{at}.mlp.fc2", size, inner),
                activation=act,
            ),
            around_attention=Sublayer(norm_after=layer_norm(f"{at}.norm1", size, epsilon)),
            around_feed_forward=Sublayer(norm_after=layer_norm(f"{at}.norm2", size, epsilon)),
        )

    return Encoder(
        embedding=embedding_with_types(config, vocab_size, size, layer_norm("emb_ln", size, epsilon)),
        layers=tuple(layer(index) for index in range(int(config["num_hidden_layers"]))),
        hidden_size=size,
        vocab_size=vocab_size,
    )


JINA_EMBEDDINGS_V3 = Family(
    pooling="MEAN", bounded_positions=False, encoder=_encoder, head=roberta_head, prefixes=("roberta.",)
)
