"""A table: for each family, what its configuration and its weights' names mean.

Each entry reads a configuration (transformers' `config.to_dict()`, defaults filled in) into an Encoder. An
option that the builder does not know makes the entry refuse, and the traced graph serves instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from embedge.errors import ExportError
from embedge_export.graphs.rotary import rotary, rotary_ntk
from embedge_export.graphs.structure import (
    Activation,
    Attention,
    Embedding,
    Encoder,
    FeedForward,
    Layer,
    Linear,
    Norm,
    Positions,
    RelativeBias,
    Sublayer,
    Tensor,
)

Config: TypeAlias = Mapping[str, Any]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
    "geglu": "gelu",
    "relu": "relu",
}


class UnsupportedError(ExportError):
    """The builder does not know this configuration; the traced graph does."""


def read_encoder(config: Config) -> Encoder:
    """Describe the encoder of a configuration.

    Raises:
        UnsupportedError: its family, or one of its options, is not in the table.
    """
    family = FAMILIES.get(str(config["model_type"]))
    if family is None:
        raise UnsupportedError(
            f"model_type {config['model_type']!r} has no built graph; expected one of {', '.join(FAMILIES)}"
        )
    return family(config)


def _linear(name: str, out_features: int, in_features: int, bias: bool = True) -> Linear:
    return Linear(
        weight=Tensor(name=f"{name}.weight", shape=(out_features, in_features)),
        bias=Tensor(name=f"{name}.bias", shape=(out_features,)) if bias else None,
    )


def _rows(linear: Linear, start: int, stop: int) -> Linear:
    """Rows of a merged projection."""
    bias = linear.bias
    return Linear(
        weight=Tensor(name=linear.weight.name, shape=linear.weight.shape, rows=(start, stop)),
        bias=None if bias is None else Tensor(name=bias.name, shape=bias.shape, rows=(start, stop)),
    )


def _layer_norm(name: str, size: int, epsilon: float, bias: bool = True) -> Norm:
    return Norm(
        kind="layer",
        epsilon=epsilon,
        weight=Tensor(name=f"{name}.weight", shape=(size,)),
        bias=Tensor(name=f"{name}.bias", shape=(size,)) if bias else None,
    )


def _rms_norm(name: str, size: int, epsilon: float, offset: float = 0.0) -> Norm:
    return Norm(
        kind="rms", epsilon=epsilon, weight=Tensor(name=f"{name}.weight", shape=(size,), offset=offset)
    )


def _activation(name: Any) -> Activation:
    if name not in _ACTIVATIONS:
        raise UnsupportedError(f"activation {name!r} has no built graph; expected one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _expect(config: Config, **expected: Any) -> None:
    for key, value in expected.items():
        if key in config and config[key] not in (value, None):
            raise UnsupportedError(f"{key}={config[key]!r} has no built graph; expected {value!r}")


def _self_attention(
    size: int, heads: int, query: Linear, key: Linear, value: Linear, output: Linear, **options: Any
) -> Attention:
    if size % heads:
        raise UnsupportedError(f"hidden size {size} is not a multiple of {heads} heads")
    head_dim = size // heads
    return Attention(
        query=query,
        key=key,
        value=value,
        output=output,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        **options,
    )


def _post_norms(attention: Norm, feed_forward: Norm) -> dict[str, Sublayer]:
    return {
        "around_attention": Sublayer(norm_after=attention),
        "around_feed_forward": Sublayer(norm_after=feed_forward),
    }


def _bert_embedding(
    config: Config, prefix: str = "embeddings", norm: str = "LayerNorm", **changes: Any
) -> Embedding:
    size = int(config.get("embedding_size") or config["hidden_size"])
    rows = int(config["max_position_embeddings"])
    types = int(config.get("type_vocab_size") or 0)
    facts: dict[str, Any] = {
        "words": Tensor(name=f"{prefix}.word_embeddings.weight", shape=(int(config["vocab_size"]), size)),
        "positions": Positions(
            table=Tensor(name=f"{prefix}.position_embeddings.weight", shape=(rows, size))
        ),
        "types": Tensor(name=f"{prefix}.token_type_embeddings.weight", shape=(types, size)) if types else None,
        "norm": _layer_norm(f"{prefix}.{norm}", size, float(config["layer_norm_eps"])),
    }
    return Embedding(**(facts | changes))


def _bert(config: Config) -> Encoder:
    _expect(config, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    size, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    epsilon = float(config["layer_norm_eps"])
    activation = _activation(config["hidden_act"])
    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{index}"
        layers.append(
            Layer(
                attention=_self_attention(
                    size,
                    int(config["num_attention_heads"]),
                    _linear(f"{at}.attention.self.query", size, size),
                    _linear(f"{at}.attention.self.key", size, size),
                    _linear(f"{at}.attention.self.value", size, size),
                    _linear(f"{at}.attention.output.dense", size, size),
                ),
                feed_forward=FeedForward(
                    up=_linear(f"{at}.intermediate.dense", inner, size),
                    down=_linear(f"{at}.output.dense", size, inner),
                    activation=activation,
                ),
                **_post_norms(
                    _layer_norm(f"{at}.attention.output.LayerNorm", size, epsilon),
                    _layer_norm(f"{at}.output.LayerNorm", size, epsilon),
                ),
            )
        )
    return Encoder(
        embedding=_bert_embedding(config),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
    )


def _electra(config: Config) -> Encoder:
    encoder = _bert(config)
    small, size = int(config["embedding_size"]), int(config["hidden_size"])
    projection = None if small == size else _linear("embeddings_project", size, small)
    return _with_embedding(encoder, _bert_embedding(config, projection=projection))


def _roberta(config: Config) -> Encoder:
    """Positions count the tokens that are not padding, from pad_token_id + 1; token types are always 0."""
    base = _bert_embedding(config)
    assert base.positions is not None
    positions = Positions(table=base.positions.table, kind="tokens", padding_id=int(config["pad_token_id"]))
    return _with_embedding(_bert(config), _bert_embedding(config, positions=positions, types_input=False))


def _with_embedding(encoder: Encoder, embedding: Embedding) -> Encoder:
    import msgspec

    return msgspec.structs.replace(encoder, embedding=embedding)


def _distilbert(config: Config) -> Encoder:
    size, inner, epsilon = int(config["dim"]), int(config["hidden_dim"]), 1e-12
    activation = _activation(config["activation"])
    layers = []
    for index in range(int(config["n_layers"])):
        at = f"transformer.layer.{index}"
        layers.append(
            Layer(
                attention=_self_attention(
                    size,
                    int(config["n_heads"]),
                    *(_linear(f"{at}.attention.{part}_lin", size, size) for part in ("q", "k", "v", "out")),
                ),
                feed_forward=FeedForward(
                    up=_linear(f"{at}.ffn.lin1", inner, size),
                    down=_linear(f"{at}.ffn.lin2", size, inner),
                    activation=activation,
                ),
                **_post_norms(
                    _layer_norm(f"{at}.sa_layer_norm", size, epsilon),
                    _layer_norm(f"{at}.output_layer_norm", size, epsilon),
                ),
            )
        )
    facts = dict(config) | {"hidden_size": size, "layer_norm_eps": epsilon}
    return Encoder(
        embedding=_bert_embedding(facts, types=None),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
    )


def _mpnet(config: Config) -> Encoder:
    size, inner, heads = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    epsilon = float(config["layer_norm_eps"])
    activation = _activation(config["hidden_act"])
    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{index}"
        layers.append(
            Layer(
                attention=_self_attention(
                    size,
                    heads,
                    *(_linear(f"{at}.attention.attn.{part}", size, size) for part in ("q", "k", "v", "o")),
                    relative=True,
                ),
                feed_forward=FeedForward(
                    up=_linear(f"{at}.intermediate.dense", inner, size),
                    down=_linear(f"{at}.output.dense", size, inner),
                    activation=activation,
                ),
                **_post_norms(
                    _layer_norm(f"{at}.attention.LayerNorm", size, epsilon),
                    _layer_norm(f"{at}.output.LayerNorm", size, epsilon),
                ),
            )
        )
    base = _bert_embedding(config, types=None)
    assert base.positions is not None
    # transformers fixes MPNet's padding id at 1
    positions = Positions(table=base.positions.table, kind="tokens", padding_id=1)
    buckets = int(config["relative_attention_num_buckets"])
    return Encoder(
        embedding=_bert_embedding(config, types=None, positions=positions),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
        relative=RelativeBias(
            table=Tensor(name="encoder.relative_attention_bias.weight", shape=(buckets, heads)), max_distance=128
        ),
    )


def _albert(config: Config) -> Encoder:
    _expect(config, position_embedding_type="absolute")
    size, inner, small = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "embedding_size")
    )
    if int(config["inner_group_num"]) != 1:
        raise UnsupportedError(f"inner_group_num={config['inner_group_num']} has no built graph; expected 1")
    epsilon = float(config["layer_norm_eps"])
    activation = _activation(config["hidden_act"])
    count, groups = int(config["num_hidden_layers"]), int(config["num_hidden_groups"])
    layers = []
    for index in range(count):
        at = f"encoder.albert_layer_groups.{index * groups // count}.albert_layers.0"
        layers.append(
            Layer(
                attention=_self_attention(
                    size,
                    int(config["num_attention_heads"]),
                    *(
                        _linear(f"{at}.attention.{part}", size, size)
                        for part in ("query", "key", "value", "dense")
                    ),
                ),
                feed_forward=FeedForward(
                    up=_linear(f"{at}.ffn", inner, size),
                    down=_linear(f"{at}.ffn_output", size, inner),
                    activation=activation,
                ),
                **_post_norms(
                    _layer_norm(f"{at}.attention.LayerNorm", size, epsilon),
                    _layer_norm(f"{at}.full_layer_layer_norm", size, epsilon),
                ),
            )
        )
    return Encoder(
        embedding=_bert_embedding(
            config, projection=_linear("encoder.embedding_hidden_mapping_in", size, small)
        ),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
    )
