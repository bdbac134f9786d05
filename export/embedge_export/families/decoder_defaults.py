"""What transformers fills in where the config.json of a decoder is silent; see families/defaults.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedge_export.families.completion import Defaults
from embedge_export.families.spelling import FULL, SLIDING

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


def _decoder(classes: str, values: Mapping[str, Any], **more: Any) -> Defaults:
    return Defaults(classes=classes, values=values, **more, theta=_ROTARY, theta_names=_THETA)


DECODERS: dict[str, Defaults] = {
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
    "gemma": _decoder(
        "Gemma",
        {key: value for key, value in _LLAMA.items() if key != "mlp_bias"}
        | {
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 3072,
            "intermediate_size": 24576,
            "max_position_embeddings": 8192,
            "num_attention_heads": 16,
            "num_hidden_layers": 28,
            "num_key_value_heads": 16,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
            "use_bidirectional_attention": None,
            "vocab_size": 256_000,
        },
        idle=("hidden_activation",),  # whose class reads hidden_act alone
        meant={"hidden_act": {"gelu": "gelu_pytorch_tanh"}},  # as the first releases were published
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
    "phi3": _decoder(
        "Phi3",
        {key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "mlp_bias")}
        | {
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "pad_token_id": 32000,
            "partial_rotary_factor": 1.0,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "vocab_size": 32064,
        },
        idle=("embd_pdrop", "resid_pdrop"),  # used while a model is trained
    ),
    "qwen2": _decoder("Qwen2", _QWEN | {"head_dim": None}),
    "qwen3": _decoder("Qwen3", _QWEN | {"attention_bias": False, "head_dim": 128}),
}
"""And EuroBERT, which is made like them."""
