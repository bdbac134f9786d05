"""Heads of classifiers and masked-language models: what stands between the last hidden states and the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from embedge_export.families.parts import Config, UnsupportedError, activation, layer_norm, linear
from embedge_export.families.structure import Activation, Head, Linear, Tensor

Kind: TypeAlias = Literal["sequence", "token", "vocabulary"]
_Read: TypeAlias = Callable[[Config, Kind], Head]


def read_head(config: Config, kind: Kind) -> Head:
    """Describe a head.

    Args:
        config: transformers' config.to_dict().
        kind: logits of the sequence, of each token, or of the vocabulary at each token.

    Raises:
        UnsupportedError: the family's head is not in the table.
    """
    read = _HEADS.get(str(config["model_type"]))
    if read is None:
        raise UnsupportedError(
            f"model_type {config['model_type']!r} has no built head; expected one of {', '.join(_HEADS)}"
        )
    return read(config, kind)


def _bert(config: Config, kind: Kind) -> Head:
    size = int(config["hidden_size"])
    if kind == "sequence":
        return _pooled(linear("pooler.dense", size, size), "tanh", _classifier(config, size))
    at = "cls.predictions"
    return _masked(
        config, kind, f"{at}.transform.dense", f"{at}.transform.LayerNorm", f"{at}.bias", _act(config)
    )


def _albert(config: Config, kind: Kind) -> Head:
    size = int(config["hidden_size"])
    if kind == "sequence":
        return _pooled(linear("pooler", size, size), "tanh", _classifier(config, size))
    at = "predictions"
    return _masked(config, kind, f"{at}.dense", f"{at}.LayerNorm", f"{at}.bias", _act(config))


def _electra(config: Config, kind: Kind) -> Head:
    size = int(config["hidden_size"])
    if kind == "sequence":
        return _pooled(
            linear("classifier.dense", size, size), "gelu", _classifier(config, size, "classifier.out_proj")
        )
    at = "generator_predictions"
    return _masked(config, kind, f"{at}.dense", f"{at}.LayerNorm", "generator_lm_head.bias", "gelu")


def _roberta(config: Config, kind: Kind) -> Head:
    size = int(config["hidden_size"])
    if kind == "sequence":
        return _pooled(
            linear("classifier.dense", size, size), "tanh", _classifier(config, size, "classifier.out_proj")
        )
    return _masked(config, kind, "lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "gelu")


def _distilbert(config: Config, kind: Kind) -> Head:
    size = int(config["dim"])
    if kind == "sequence":
        return _pooled(linear("pre_classifier", size, size), "relu", _classifier(config, size))
    facts = dict(config) | {"hidden_size": size, "layer_norm_eps": 1e-12}
    names = ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias")
    return _masked(facts, kind, *names, activation(config["activation"]))


def _modernbert(config: Config, kind: Kind) -> Head:
    size = int(config["hidden_size"])
    first = linear("head.dense", size, size, bool(config["classifier_bias"]))
    norm = layer_norm("head.norm", size, float(config["norm_eps"]), bool(config["norm_bias"]))
    act = activation(config["classifier_activation"])
    if kind == "vocabulary":
        last = Linear(
            weight=Tensor(name="embeddings.tok_embeddings.weight", shape=(int(config["vocab_size"]), size)),
            bias=Tensor(name="decoder.bias", shape=(int(config["vocab_size"]),))
            if config["decoder_bias"]
            else None,
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
        last=_classifier(config, size),
    )


_HEADS: dict[str, _Read] = {
    "albert": _albert,
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "modernbert": _modernbert,
    "mpnet": _roberta,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}


def _act(config: Config) -> Activation:
    return activation(config["hidden_act"])


def _classifier(config: Config, size: int, name: str = "classifier") -> Linear:
    return linear(name, len(config["id2label"]), size)


def _pooled(first: Linear, act: Activation, last: Linear) -> Head:
    return Head(pooling="CLS", first=first, activation=act, last=last)


def _masked(config: Config, kind: Kind, dense: str, norm: str, bias: str, act: Activation) -> Head:
    """The classifier of each token, or a transformation and the table of words."""
    size = int(config["hidden_size"])
    if kind == "token":
        return Head(last=_classifier(config, size))
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
