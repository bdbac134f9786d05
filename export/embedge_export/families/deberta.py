"""DeBERTa, in its three versions: BERT whose attention keeps contents and distances apart."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from embedge_export.families.bert_like import BERT_LAYER, bert_embedding, bert_encoder, masked_head
from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import (
    TENSORFLOW_NORMS,
    Config,
    UnsupportedError,
    activation,
    classifier,
    expect,
    layer_norm,
    linear,
)
from embedge_export.families.structure import (
    Attention,
    Disentangled,
    Encoder,
    Head,
    Layer,
    Linear,
    Tensor,
)

_FEWEST_BUCKETS = 4
_NAMES = msgspec.structs.replace(
    BERT_LAYER,
    query="attention.self.query_proj",
    key="attention.self.key_proj",
    value="attention.self.value_proj",
)


def _first(config: Config) -> Encoder:
    """The first version: heads' rows alternate in one projection, and keys have no bias."""
    expect(config, talking_head=False, embedding_size=int(config["hidden_size"]))
    encoder = _encoder(config)
    layers = tuple(_merged(layer, index, encoder.hidden_size) for index, layer in enumerate(encoder.layers))
    return msgspec.structs.replace(encoder, layers=layers)


def _merged(layer: Layer, index: int, size: int) -> Layer:
    """A layer as the first version stores it."""
    at, attention = f"encoder.layer.{index}.attention.self", layer.attention

    def part(number: int, bias: str | None) -> Linear:
        share = (number, 3, attention.head_dim)
        return Linear(
            weight=Tensor(name=f"{at}.in_proj.weight", shape=(3 * size, size), share=share),
            bias=None if bias is None else Tensor(name=f"{at}.{bias}", shape=(size,)),
        )

    relative = attention.disentangled
    if relative is not None:
        relative = msgspec.structs.replace(
            relative,
            key=relative.key and linear(f"{at}.pos_proj", size, size, bias=False),
            query=relative.query and linear(f"{at}.pos_q_proj", size, size),
        )
    attention = msgspec.structs.replace(
        attention,
        query=part(0, "q_bias"),
        key=part(1, None),
        value=part(2, "v_bias"),
        disentangled=relative,
    )
    return msgspec.structs.replace(layer, attention=attention)


def _encoder(config: Config) -> Encoder:
    size = int(config["hidden_size"])
    if int(config.get("conv_kernel_size") or 0) > 0:
        raise UnsupportedError(
            f"conv_kernel_size={config['conv_kernel_size']!r} has no built graph; expected 0"
        )
    expect(config, embedding_size=size, attention_head_size=size // int(config["num_attention_heads"]))
    embedding = bert_embedding(config)
    embedding = msgspec.structs.replace(
        embedding, positions=embedding.positions if config.get("position_biased_input", True) else None
    )
    encoder = bert_encoder(config, embedding, _NAMES, lambda index: f"encoder.layer.{index}")
    layers = tuple(_disentangled(config, layer, index) for index, layer in enumerate(encoder.layers))
    return msgspec.structs.replace(encoder, layers=layers)


def _disentangled(config: Config, layer: Layer, index: int) -> Layer:
    """The layer with scores of distances, and all scores divided by the root of how many kinds there are."""
    stated = config.get("pos_att_type") or []
    if not isinstance(stated, list) or any(kind not in ("c2p", "p2c") for kind in stated):
        raise UnsupportedError(f"pos_att_type={stated!r} has no built graph; expected c2p and p2c")
    kinds = set(stated)
    attention = msgspec.structs.replace(
        layer.attention, scale=(layer.attention.head_dim * (1 + len(kinds))) ** -0.5
    )
    if config.get("relative_attention") and kinds:
        relative = _scores(config, attention, f"encoder.layer.{index}.attention.self", kinds)
        attention = msgspec.structs.replace(attention, disentangled=relative)
    return msgspec.structs.replace(layer, attention=attention)


def _scores(config: Config, attention: Attention, at: str, kinds: set[str]) -> Disentangled:
    size = int(config["hidden_size"])
    farthest = int(config.get("max_relative_positions", -1))
    farthest = farthest if farthest > 0 else int(config["max_position_embeddings"])
    buckets = int(config.get("position_buckets", -1))
    normed = "layer_norm" in [
        word.strip() for word in str(config.get("norm_rel_ebd", "none")).lower().split("|")
    ]
    key, query = attention.key, attention.query
    if not config.get("share_att_key", False):
        key, query = (linear(f"{at}.{name}", size, size) for name in ("pos_key_proj", "pos_query_proj"))
    span = buckets if buckets > 0 else farthest
    return Disentangled(
        table=Tensor(name="encoder.rel_embeddings.weight", shape=(2 * span, size)),
        norm=layer_norm("encoder.LayerNorm", size, float(config["layer_norm_eps"])) if normed else None,
        row_at=rows_of_distances(buckets, farthest),
        key=key if "c2p" in kinds else None,
        query=query if "p2c" in kinds else None,
    )


def rows_of_distances(buckets: int, farthest: int) -> tuple[int, ...]:
    """Row of each distance from -d to d, where d is the first that is as all further ones.

    Args:
        buckets: near distances have one each, up to half of them, further ones share them logarithmically; 0 or less
            for one each.
        farthest: distance of the last bucket.
    """
    if buckets <= 0:
        return tuple(np.clip(np.arange(-farthest, farthest + 1) + farthest, 0, 2 * farthest - 1).tolist())
    middle = buckets // 2
    if buckets < _FEWEST_BUCKETS or farthest - 1 <= middle:
        raise UnsupportedError(
            f"position_buckets={buckets} with distances up to {farthest} has no built graph; "
            f"expected {_FEWEST_BUCKETS} or more, and less than twice {farthest - 1}"
        )
    growth = (farthest - 1) / middle
    last = math.ceil(middle * growth ** ((buckets - middle) / (middle - 1))) + 1
    # in float32 and the reference's order: a bucket's edge must fall on the same side
    far = np.arange(middle + 1, last + 1).astype(np.float32) / np.float32(middle)
    share = np.log(far) / np.log(np.float32(growth)) * np.float32(middle - 1)
    later = np.concatenate([np.arange(1, middle + 1), np.ceil(share).astype(np.int64) + middle])
    distances = np.concatenate([-later[::-1], [0], later])
    return tuple(np.clip(distances + buckets, 0, 2 * buckets - 1).tolist())


def _head(config: Config, kind: HeadKind) -> Head:
    size = int(config["hidden_size"])
    if kind == "sequence":
        expect(config, pooler_hidden_size=size)
        return Head(
            pooling="CLS",
            first=linear("pooler.dense", size, size),
            activation=activation(config["pooler_hidden_act"]),
            last=classifier(config, size),
        )
    at, names = "cls.predictions", ("transform.dense", "transform.LayerNorm", "bias")
    if not config.get("legacy", True):
        at, names = "lm_predictions.lm_head", ("dense", "LayerNorm", "bias")
    dense, norm, bias = (f"{at}.{name}" for name in names)
    return masked_head(config, kind, dense, norm, bias, activation(config["hidden_act"]))


DEBERTA_V2 = Family(
    bounded_positions=False,
    encoder=_encoder,
    head=_head,
    prefixes=("deberta.",),
    renames=TENSORFLOW_NORMS,
)
DEBERTA = msgspec.structs.replace(DEBERTA_V2, encoder=_first)
