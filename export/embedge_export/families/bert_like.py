"""Families with learnt positions and norms after each addition: BERT and its relatives, and their heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from embedge_export.families.family import Family, HeadKind, ReadEncoder, ReadHead
from embedge_export.families.parts import (
    TENSORFLOW_NORMS,
    Config,
    UnsupportedError,
    activation,
    classifier,
    expect,
    layer_norm,
    linear,
    self_attention,
)
from embedge_export.families.structure import (
    Embedding,
    Encoder,
    FeedForward,
    Head,
    HiddenActivation,
    Layer,
    LearntPositions,
    Linear,
    RelativeBias,
    Sublayer,
    Tensor,
)


class LayerNames(msgspec.Struct, frozen=True, kw_only=True):
    """What a family calls the parts of a layer, after the layer's own prefix."""

    query: str
    key: str
    value: str
    output: str
    attention_norm: str
    up: str
    down: str
    feed_forward_norm: str


BERT_LAYER = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
_DISTILBERT = LayerNames(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    feed_forward_norm="output_layer_norm",
)
_MPNET = LayerNames(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    output="attention.attn.o",
    attention_norm="attention.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    feed_forward_norm="output.LayerNorm",
)
_ALBERT = LayerNames(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.dense",
    attention_norm="attention.LayerNorm",
    up="ffn",
    down="ffn_output",
    feed_forward_norm="full_layer_layer_norm",
)


def _bert(config: Config) -> Encoder:
    """BERT: learnt positions from 0, token types."""
    return bert_encoder(config, bert_embedding(config), BERT_LAYER, lambda index: f"encoder.layer.{index}")


def _electra(config: Config) -> Encoder:
    """ELECTRA: BERT with an embedding of its own size."""
    small, size = int(config["embedding_size"]), int(config["hidden_size"])
    projection = None if small == size else linear("embeddings_project", size, small)
    embedding = bert_embedding(config, projection=projection)
    return bert_encoder(config, embedding, BERT_LAYER, lambda index: f"encoder.layer.{index}")


def _roberta(config: Config) -> Encoder:
    """RoBERTa: positions count the tokens that are not padding, after pad_token_id; mostly one token type."""
    embedding = bert_embedding(config, types_input=int(config.get("type_vocab_size") or 0) > 1)
    embedding = _counting(embedding, int(config["pad_token_id"]))
    return bert_encoder(config, embedding, BERT_LAYER, lambda index: f"encoder.layer.{index}")


def _distilbert(config: Config) -> Encoder:
    """DistilBERT: BERT without token types."""
    facts = _distilbert_facts(config)
    embedding = bert_embedding(facts, types=None)
    return bert_encoder(facts, embedding, _DISTILBERT, lambda index: f"transformer.layer.{index}")


def _distilbert_facts(config: Config) -> Config:
    """DistilBERT's settings under BERT's names."""
    return dict(config) | {
        "hidden_size": config["dim"],
        "intermediate_size": config["hidden_dim"],
        "num_hidden_layers": config["n_layers"],
        "num_attention_heads": config["n_heads"],
        "hidden_act": config["activation"],
        "layer_norm_eps": 1e-12,
    }


def _mpnet(config: Config) -> Encoder:
    """MPNet: positions as RoBERTa's, and one relative-position bias for all layers."""
    # transformers fixes MPNet's padding id at 1
    embedding = _counting(bert_embedding(config, types=None), 1)
    encoder = bert_encoder(config, embedding, _MPNET, lambda index: f"encoder.layer.{index}", relative=True)
    table = Tensor(
        name="encoder.relative_attention_bias.weight",
        shape=(int(config["relative_attention_num_buckets"]), int(config["num_attention_heads"])),
    )
    return msgspec.structs.replace(encoder, relative=RelativeBias(table=table, max_distance=128))


def _albert(config: Config) -> Encoder:
    """ALBERT: layers share weights, the embedding is factorised."""
    if int(config["inner_group_num"]) != 1:
        raise UnsupportedError(f"inner_group_num={config['inner_group_num']} has no built graph; expected 1")
    small, size = int(config["embedding_size"]), int(config["hidden_size"])
    embedding = bert_embedding(config, projection=linear("encoder.embedding_hidden_mapping_in", size, small))
    count, groups = int(config["num_hidden_layers"]), int(config["num_hidden_groups"])

    def at(index: int) -> str:
        return f"encoder.albert_layer_groups.{index * groups // count}.albert_layers.0"

    return bert_encoder(config, embedding, _ALBERT, at)


def bert_embedding(config: Config, **changes: Any) -> Embedding:
    """Words, learnt positions and types under BERT's names; `changes` replace fields of the result."""
    size = int(config.get("embedding_size") or config["hidden_size"])
    vocab_size, rows = int(config["vocab_size"]), int(config["max_position_embeddings"])
    types = int(config.get("type_vocab_size") or 0)
    table = Tensor(name="embeddings.position_embeddings.weight", shape=(rows, size))
    facts: dict[str, Any] = {
        "words": Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, size)),
        "positions": LearntPositions(table=table),
        "types": Tensor(name="embeddings.token_type_embeddings.weight", shape=(types, size))
        if types
        else None,
        "norm": layer_norm("embeddings.LayerNorm", size, float(config["layer_norm_eps"])),
    }
    return Embedding(**(facts | changes))


def _counting(embedding: Embedding, padding_id: int) -> Embedding:
    assert embedding.positions is not None
    positions = LearntPositions(table=embedding.positions.table, kind="tokens", padding_id=padding_id)
    return msgspec.structs.replace(embedding, positions=positions)


def bert_encoder(
    config: Config,
    embedding: Embedding,
    names: LayerNames,
    name_of_layer: Callable[[int], str],
    relative: bool = False,
) -> Encoder:
    """An encoder of BERT's kind, norms after each addition.

    Args:
        config: with BERT's keys.
        embedding: before the first layer.
        names: of a layer's parts.
        name_of_layer: what stands before them, by index.
        relative: scores get the encoder's relative-position bias.
    """
    expect(config, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    size, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    epsilon = float(config["layer_norm_eps"])
    act = activation(config["hidden_act"])
    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = name_of_layer(index)
        layers.append(
            Layer(
                attention=self_attention(
                    size,
                    int(config["num_attention_heads"]),
                    (linear(f"{at}.{name}", size, size) for name in (names.query, names.key, names.value)),
                    linear(f"{at}.{names.output}", size, size),
                    relative=relative,
                ),
                feed_forward=FeedForward(
                    up=linear(f"{at}.{names.up}", inner, size),
                    down=linear(f"{at}.{names.down}", size, inner),
                    activation=act,
                ),
                around_attention=Sublayer(
                    norm_after=layer_norm(f"{at}.{names.attention_norm}", size, epsilon)
                ),
                around_feed_forward=Sublayer(
                    norm_after=layer_norm(f"{at}.{names.feed_forward_norm}", size, epsilon)
                ),
            )
        )
    return Encoder(
        embedding=embedding,
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
    )


def _bert_head(config: Config, kind: HeadKind) -> Head:
    if kind == "sequence":
        return _pooled(config, "pooler.dense", "tanh")
    at = "cls.predictions"
    act = activation(config["hidden_act"])
    return masked_head(config, kind, f"{at}.transform.dense", f"{at}.transform.LayerNorm", f"{at}.bias", act)


def _albert_head(config: Config, kind: HeadKind) -> Head:
    if kind == "sequence":
        return _pooled(config, "pooler", "tanh")
    at = "predictions"
    act = activation(config["hidden_act"])
    return masked_head(config, kind, f"{at}.dense", f"{at}.LayerNorm", f"{at}.bias", act)


def _electra_head(config: Config, kind: HeadKind) -> Head:
    if kind == "sequence":
        return _pooled(config, "classifier.dense", "gelu", "classifier.out_proj")
    at = "generator_predictions"
    return masked_head(config, kind, f"{at}.dense", f"{at}.LayerNorm", "generator_lm_head.bias", "gelu")


def roberta_head(config: Config, kind: HeadKind) -> Head:
    """RoBERTa's head, and those of MPNet and Jina embeddings v3."""
    if kind == "sequence":
        return _pooled(config, "classifier.dense", "tanh", "classifier.out_proj")
    return masked_head(config, kind, "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "gelu")


def _distilbert_head(config: Config, kind: HeadKind) -> Head:
    facts = _distilbert_facts(config)
    if kind == "sequence":
        return _pooled(facts, "pre_classifier", "relu")
    names = ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias")
    return masked_head(facts, kind, *names, activation(config["activation"]))


def _pooled(config: Config, first: str, act: HiddenActivation, last: str = "classifier") -> Head:
    """Two projections of the first token, by their names, and the activation between them."""
    size = int(config["hidden_size"])
    return Head(
        pooling="CLS", first=linear(first, size, size), activation=act, last=classifier(config, size, last)
    )


def masked_head(
    config: Config, kind: HeadKind, dense: str, norm: str, bias: str, act: HiddenActivation
) -> Head:
    """The classifier of each token, or a transformation and the table of words."""
    size = int(config["hidden_size"])
    if kind == "token":
        return Head(last=classifier(config, size))
    small = int(config.get("embedding_size") or size)
    vocab_size = int(config["vocab_size"])
    return Head(
        first=linear(dense, small, size),
        activation=act,
        norm=layer_norm(norm, small, float(config["layer_norm_eps"])),
        last=Linear(
            weight=Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, small)),
            bias=Tensor(name=bias, shape=(vocab_size,)),
        ),
    )


def _family(encoder: ReadEncoder, head: ReadHead, prefix: str, *, position_offset: int = 0) -> Family:
    return Family(
        position_offset=position_offset,
        encoder=encoder,
        head=head,
        prefixes=(prefix,),
        renames=TENSORFLOW_NORMS,
    )


ALBERT = _family(_albert, _albert_head, "albert.")
BERT = _family(_bert, _bert_head, "bert.")
DISTILBERT = _family(_distilbert, _distilbert_head, "distilbert.")
ELECTRA = _family(_electra, _electra_head, "electra.")
MPNET = _family(_mpnet, roberta_head, "mpnet.", position_offset=2)
ROBERTA = _family(_roberta, roberta_head, "roberta.", position_offset=2)
"""RoBERTa, CamemBERT and XLM-RoBERTa."""
