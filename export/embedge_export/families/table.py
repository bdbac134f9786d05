"""The table of architectures by the model_type of their configurations, and what is looked up in it."""

from __future__ import annotations

from embedge.errors import ExportError
from embedge_export.families import (
    bert_like,
    deberta,
    decoders,
    gte_new,
    jina_v3,
    modernbert,
    nomic_bert,
    traced_only,
)
from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import Config, UnsupportedError
from embedge_export.families.spelling import LAYER_COUNTS, in_new_words
from embedge_export.families.structure import Encoder, Head

FAMILIES: dict[str, Family] = {
    "albert": bert_like.ALBERT,
    "bert": bert_like.BERT,
    "camembert": bert_like.ROBERTA,
    "deberta": deberta.DEBERTA,
    "deberta-v2": deberta.DEBERTA_V2,
    "distilbert": bert_like.DISTILBERT,
    "electra": bert_like.ELECTRA,
    "eurobert": decoders.EUROBERT,
    "gemma": decoders.GEMMA,
    "gemma2": decoders.GEMMA2,
    "gemma3_text": decoders.GEMMA3_TEXT,
    "granite": decoders.GRANITE,
    "gte": gte_new.GTE,
    "jina_embeddings_v3": jina_v3.JINA_EMBEDDINGS_V3,
    "llama": decoders.LLAMA,
    "ministral": decoders.MINISTRAL,
    "ministral3": decoders.MINISTRAL3,
    "mistral": decoders.MISTRAL,
    "modernbert": modernbert.MODERNBERT,
    "modernbert-decoder": modernbert.MODERNBERT_DECODER,
    "mpnet": bert_like.MPNET,
    "mt5": traced_only.MT5,
    "new": gte_new.GTE_NEW,
    "nomic_bert": nomic_bert.NOMIC_BERT,
    "olmo2": decoders.OLMO2,
    "olmo3": decoders.OLMO3,
    "phi3": decoders.PHI3,
    "qwen2": decoders.QWEN2,
    "qwen3": decoders.QWEN3,
    "roberta": bert_like.ROBERTA,
    "smollm3": decoders.SMOLLM3,
    "t5": traced_only.T5,
    "xlm-roberta": bert_like.ROBERTA,
}
"""Every architecture here has a tiny configuration in tests/families, from which it is exported and verified."""

STATIC = Family(pooling="MEAN", bounded_positions=False, default_max_seq_len=1_000_000)
"""Static embeddings have no architecture, and no limit."""

_UNKNOWN = Family(pooling=None, bounded_positions=False, remote=True)
"""Code of a checkpoint's own that is not in the table."""

_ODD_VALUES = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What a reader meets with where a file states a value of another type or size than any model has."""
_MOST_LAYERS = 1000
"""No model has as many; a graph of a damaged configuration would fill the memory."""


def family_of(model_type: str, *, remote: bool = False) -> Family:
    """Look an architecture up.

    Args:
        model_type: as its config states it.
        remote: its code comes with the checkpoint, whatever transformers has under the same name.

    Raises:
        ExportError: it is not in the table.
    """
    family = FAMILIES.get(model_type)
    if family is not None and (family.remote == remote or family.native):
        return family
    if remote:
        return _UNKNOWN
    known = ", ".join(name for name, family in FAMILIES.items() if not family.remote or family.native)
    raise ExportError(
        f"model_type {model_type!r} is not an architecture that embedge knows; expected one of "
        f"{known}. Open an issue with the model's name to have it added."
    )


def read_encoder(config: Config) -> Encoder:
    """Describe the encoder of a configuration.

    Args:
        config: transformers' config.to_dict(), of either generation, with its defaults filled in.

    Raises:
        UnsupportedError: its family has no reader, or it states an option that the reader does not know.
    """
    family = FAMILIES.get(str(config["model_type"]))
    if family is None or family.encoder is None:
        known = ", ".join(name for name, family in FAMILIES.items() if family.encoder is not None)
        raise UnsupportedError(
            f"model_type {config['model_type']!r} has no built graph; expected one of {known}"
        )
    check_layers(config)
    try:
        return family.encoder(in_new_words(config))
    except _ODD_VALUES as error:
        raise UnsupportedError(f"config.json has no built graph: {type(error).__name__} {error}") from error


def check_layers(config: Config) -> None:
    """Refuse a number of layers that no model has, before anything makes a list of them.

    Raises:
        UnsupportedError: it is no whole number, or out of range.
    """
    for key in LAYER_COUNTS:
        layers = config.get(key, 1)
        if isinstance(layers, bool) or not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
            raise UnsupportedError(f"{key}={layers!r} has no built graph; expected 1 to {_MOST_LAYERS}")


def read_head(config: Config, kind: HeadKind) -> Head:
    """Describe the head of a configuration.

    Args:
        config: transformers' config.to_dict().
        kind: logits of the sequence, of each token, or of the vocabulary at each token.

    Raises:
        UnsupportedError: its family has no reader of heads, or it states an option that the reader does not know.
    """
    family = FAMILIES.get(str(config["model_type"]))
    if family is None or family.head is None:
        known = ", ".join(name for name, family in FAMILIES.items() if family.head is not None)
        raise UnsupportedError(
            f"model_type {config['model_type']!r} has no built head; expected one of {known}"
        )
    try:
        return family.head(config, kind)
    except _ODD_VALUES as error:
        raise UnsupportedError(f"config.json has no built head: {type(error).__name__} {error}") from error
