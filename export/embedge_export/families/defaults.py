"""What transformers fills in where a config.json is silent, for each architecture that is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from embedge_export.families.spelling import FULL, SLIDING


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an architecture's configuration without its library.

    Attributes:
        classes: what the names of its classes begin with.
        values: by key; None where it follows from others, or stands for nothing. These are the keys that are read.
        idle: keys that cannot change what is built, whatever they say.
        only: keys that nothing here reads, with the values at which they change nothing.
        names: other names of keys.
        theta: base of the rotation in each kind of layer, where it rotates.
        theta_names: keys of the generation before 5 that state `theta`.
        scaled: kinds of layers that the older rope_scaling is of.
    """

    classes: str
    values: Mapping[str, Any]
    idle: tuple[str, ...] = ()
    only: Mapping[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    names: Mapping[str, str] = msgspec.field(default_factory=dict)
    theta: Mapping[str, float] = msgspec.field(default_factory=dict)
    theta_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    scaled: tuple[str, ...] = (FULL, SLIDING)


COMMON: dict[str, tuple[Any, ...]] = {
    "cross_attention_hidden_size": (),
    "is_encoder_decoder": (False,),
    "pruned_heads": (),
}
"""As Defaults.only, for every architecture."""

_BERT: dict[str, Any] = {
    "add_cross_attention": False,
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "is_decoder": False,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
_ELECTRA_SUMMARY = (
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
)
"""Of the multiple-choice head alone."""
_MPNET = {
    key: value for key, value in _BERT.items() if key not in ("position_embedding_type", "type_vocab_size")
}
_LLAMA: dict[str, Any] = {
    "attention_bias": False,
    "head_dim": None,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": None,
    "pad_token_id": None,
    "rms_norm_eps": 1e-6,
    "rope_parameters": None,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
_QWEN: dict[str, Any] = {
    key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "head_dim", "mlp_bias")
} | {
    "intermediate_size": 22016,
    "layer_types": None,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
_ROTARY = {FULL: 10_000.0, SLIDING: 10_000.0}
_THETA = {"rope_theta": FULL}
_LOCAL_AND_GLOBAL = {FULL: 160_000.0, SLIDING: 10_000.0}


def _decoder(classes: str, values: Mapping[str, Any]) -> Defaults:
    return Defaults(classes=classes, values=values, theta=_ROTARY, theta_names=_THETA)


DEFAULTS: dict[str, Defaults] = {
    "albert": Defaults(
        classes="Albert",
        values=_BERT
        | {
            "embedding_size": 128,
            "hidden_act": "gelu_new",
            "hidden_size": 4096,
            "inner_group_num": 1,
            "intermediate_size": 16384,
            "num_attention_heads": 64,
            "num_hidden_groups": 1,
            "vocab_size": 30000,
        },
    ),
    "bert": Defaults(classes="Bert", values=_BERT),
    "camembert": Defaults(classes="Camembert", values=_BERT | {"pad_token_id": 1}),
    "distilbert": Defaults(
        classes="DistilBert",
        values={
            "activation": "gelu",
            "dim": 768,
            "hidden_dim": 3072,
            "max_position_embeddings": 512,
            "n_heads": 12,
            "n_layers": 6,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            "vocab_size": 30522,
        },
        # sinusoidal ones lie in the weights as a table does
        idle=("sinusoidal_pos_embds",),
        names={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    ),
    "electra": Defaults(
        classes="Electra",
        values=_BERT
        | {"embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4},
        idle=_ELECTRA_SUMMARY,
    ),
    "eurobert": _decoder(
        "EuroBert",
        _LLAMA
        | {
            "classifier_pooling": "late",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "max_position_embeddings": 8192,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 128001,
            "rms_norm_eps": 1e-5,
            "vocab_size": 128256,
        },
    ),
    "gemma3_text": Defaults(
        classes="Gemma3Text",
        values={
            "attention_bias": False,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "layer_types": None,
            "max_position_embeddings": 131_072,
            "num_attention_heads": 8,
            "num_hidden_layers": 26,
            "num_key_value_heads": 4,
            "pad_token_id": 0,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "rope_parameters": None,
            "sliding_window": 4096,
            "sliding_window_pattern": 6,
            "tie_word_embeddings": True,
            "use_bidirectional_attention": False,
            "vocab_size": 262_208,
        },
        # which is written, and sliding_window_pattern read
        only={"_sliding_window_pattern": (6,)},
        theta={FULL: 1_000_000.0, SLIDING: 10_000.0},
        theta_names={"rope_theta": FULL, "rope_local_base_freq": SLIDING},
        scaled=(FULL,),
    ),
    "gte": Defaults(
        classes="Gte",
        values={
            "hidden_act": "gelu",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 8192,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 1,
            "rope_parameters": None,
            "tie_word_embeddings": True,
            "type_vocab_size": 1,
            "vocab_size": 250_048,
        },
        theta={FULL: 160_000.0, SLIDING: 160_000.0},
        theta_names=_THETA,
    ),
    "llama": _decoder("Llama", _LLAMA),
    "mistral": _decoder(
        "Mistral",
        {key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "mlp_bias")}
        | {
            "intermediate_size": 14336,
            "max_position_embeddings": 131_072,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
        },
    ),
    "modernbert": Defaults(
        classes="ModernBert",
        values={
            "attention_bias": False,
            "classifier_activation": "gelu",
            "classifier_bias": False,
            "classifier_pooling": "cls",
            "decoder_bias": True,
            "global_attn_every_n_layers": 3,
            "hidden_activation": "gelu",
            "hidden_size": 768,
            "intermediate_size": 1152,
            "layer_types": None,
            "local_attention": 128,
            "max_position_embeddings": 8192,
            "mlp_bias": False,
            "norm_bias": False,
            "norm_eps": 1e-5,
            "num_attention_heads": 12,
            "num_hidden_layers": 22,
            "pad_token_id": 50283,
            "rope_parameters": None,
            "tie_word_embeddings": True,
            "vocab_size": 50368,
        },
        theta=_LOCAL_AND_GLOBAL,
        theta_names={"global_rope_theta": FULL, "local_rope_theta": SLIDING},
    ),
    "mpnet": Defaults(
        classes="MPNet",
        values=_MPNET | {"pad_token_id": 1, "relative_attention_num_buckets": 32, "vocab_size": 30527},
    ),
    "nomic_bert": Defaults(
        classes="NomicBert",
        values={
            "head_dim": None,
            "hidden_act": "silu",
            "hidden_size": 768,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 2048,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 0,
            "rope_parameters": None,
            "type_vocab_size": 2,
            "vocab_size": 30528,
        },
        idle=("tie_word_embeddings",),  # no head of words is built
        theta={FULL: 1000.0, SLIDING: 1000.0},
        theta_names=_THETA,
    ),
    "qwen2": _decoder("Qwen2", _QWEN | {"head_dim": None}),
    "qwen3": _decoder("Qwen3", _QWEN | {"attention_bias": False, "head_dim": 128}),
    "roberta": Defaults(classes="Roberta", values=_BERT | {"pad_token_id": 1, "vocab_size": 50265}),
    "xlm-roberta": Defaults(classes="XLMRoberta", values=_BERT | {"pad_token_id": 1}),
}
"""The built architectures of today's transformers, under the keys that it writes."""
