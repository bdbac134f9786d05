"""The table: which reader understands the configuration of each family."""

from __future__ import annotations

from collections.abc import Callable

from embedge_export.families import bert_like, decoders, rotary_like
from embedge_export.families.parts import Config, UnsupportedError
from embedge_export.families.structure import Encoder

FAMILIES: dict[str, Callable[[Config], Encoder]] = {
    "albert": bert_like.albert,
    "bert": bert_like.bert,
    "camembert": bert_like.roberta,
    "distilbert": bert_like.distilbert,
    "electra": bert_like.electra,
    "gemma3_text": decoders.gemma3_text,
    "llama": decoders.llama,
    "mistral": decoders.llama,
    "modernbert": rotary_like.modernbert,
    "mpnet": bert_like.mpnet,
    "new": rotary_like.gte_new,
    "nomic_bert": rotary_like.nomic_bert,
    "qwen2": decoders.qwen2,
    "qwen3": decoders.qwen3,
    "roberta": bert_like.roberta,
    "xlm-roberta": bert_like.roberta,
}

PREFIXES = ("model.", "bert.", "roberta.", "distilbert.", "mpnet.", "electra.", "albert.", "new.")
"""What a checkpoint with a head puts before the names of its encoder."""


_MOST_LAYERS = 1000
"""No model has as many; a graph of a damaged configuration would fill the memory."""


def read_encoder(config: Config) -> Encoder:
    """Describe the encoder of a configuration.

    Args:
        config: transformers' config.to_dict(), with its defaults filled in.

    Raises:
        UnsupportedError: its family, or one of its options, is not in the table.
    """
    read = FAMILIES.get(str(config["model_type"]))
    if read is None:
        raise UnsupportedError(
            f"model_type {config['model_type']!r} has no built graph; expected one of {', '.join(FAMILIES)}"
        )
    for key in ("num_hidden_layers", "n_layers", "n_layer"):
        layers = config.get(key, 1)
        if not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
            raise UnsupportedError(f"{key}={layers!r} has no built graph; expected 1 to {_MOST_LAYERS}")
    return read(config)
