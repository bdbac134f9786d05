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
_LLAMA2 = {key: value for key, value in _LLAMA.items() if key not in ("attention_bias", "mlp_bias")}
_OLMO = {key: value for key, value in _LLAMA.items() if key not in ("head_dim", "mlp_bias")} | {
    "pad_token_id": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": 50304,
}
_MISTRAL = _LLAMA2 | {
    "intermediate_size": 14336,
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}
_GEMMA3_TEXT: dict[str, Any] = {
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
    "tie_word_embeddings": True,
    "use_bidirectional_attention": False,
    "vocab_size": 262_208,
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
    "gemma2": _decoder(
        "Gemma2",
        _GEMMA3_TEXT
        | {
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "max_position_embeddings": 8192,
            "use_bidirectional_attention": None,
            "vocab_size": 256_000,
        },
        full_every=2,
    ),
    "gemma3_text": Defaults(
        classes="Gemma3Text",
        values=_GEMMA3_TEXT | {"sliding_window_pattern": 6},
        # which is written, and sliding_window_pattern read
        only={"_sliding_window_pattern": (6,)},
        theta={FULL: 1_000_000.0, SLIDING: 10_000.0},
        theta_names={"rope_theta": FULL, "rope_local_base_freq": SLIDING},
        scaled=(FULL,),
        has_two_rotations=True,
    ),
    "granite": _decoder(
        "Granite",
        {key: value for key, value in _LLAMA.items() if key != "head_dim"}
        | {
            "attention_multiplier": 1.0,
            "embedding_multiplier": 1.0,
            "logits_scaling": 1.0,
            "residual_multiplier": 1.0,
        },
    ),
    "llama": _decoder("Llama", _LLAMA),
    "ministral": _decoder("Ministral", _MISTRAL | {"layer_types": None}),
    "ministral3": Defaults(
        classes="Ministral3",
        values=_MISTRAL
        | {
            "head_dim": 128,
            "max_position_embeddings": 262_144,
            "num_hidden_layers": 34,
            "pad_token_id": 11,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "vocab_size": 131_072,
        },
        theta=_ROTARY,
        theta_names=_THETA,
        rotation={
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 16.0,
            "llama_4_scaling_beta": 0.1,
            "max_position_embeddings": None,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 16384,
            "rope_theta": 1_000_000.0,
            "rope_type": "yarn",
        },
    ),
    "mistral": _decoder("Mistral", _MISTRAL),
    "olmo2": _decoder("Olmo2", _OLMO),
    "olmo3": Defaults(
        classes="Olmo3",
        values=_OLMO | {"layer_types": None, "sliding_window": 4096},
        # of the older words, which transformers 5 reads for some layers alone
        only={"rope_theta": (500_000.0,)},
        theta={FULL: 500_000.0, SLIDING: 500_000.0},
        scaled=(FULL,),
        has_two_rotations=True,
        full_every=4,
    ),
    "phi3": _decoder(
        "Phi3",
        _LLAMA2
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
    "smollm3": Defaults(
        classes="SmolLM3",
        values={key: value for key, value in _LLAMA.items() if key != "head_dim"}
        | {
            "hidden_size": 2048,
            "layer_types": None,
            "max_position_embeddings": 32768,
            "no_rope_layer_interval": 4,
            "no_rope_layers": None,
            "num_attention_heads": 16,
            "num_hidden_layers": 36,
            "num_key_value_heads": 4,
            "pad_token_id": 128_004,
            "sliding_window": None,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "vocab_size": 128_256,
        },
        theta={FULL: 2_000_000.0, SLIDING: 2_000_000.0},
        theta_names=_THETA,
    ),
}
"""And EuroBERT, which is made like them."""
