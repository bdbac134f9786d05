"""What transformers fills in where a config.json is silent, for each architecture that is built."""

from __future__ import annotations

from typing import Any

from embedge_export.families.completion import Defaults
from embedge_export.families.decoder_defaults import DECODERS
from embedge_export.families.spelling import FULL, SLIDING

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
_MODERNBERT: dict[str, Any] = {
    "attention_bias": False,
    "classifier_activation": "gelu",
    "classifier_bias": False,
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
}
_DEBERTA: dict[str, Any] = {
    "add_cross_attention": False,
    "embedding_size": None,
    "hidden_act": "gelu",
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "is_decoder": False,
    "layer_norm_eps": 1e-7,
    "legacy": True,
    "max_position_embeddings": 512,
    "max_relative_positions": -1,
    "num_attention_heads": 24,
    "num_hidden_layers": 24,
    "pad_token_id": 0,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": None,
    "pos_att_type": None,
    "position_biased_input": True,
    "relative_attention": False,
    "tie_word_embeddings": True,
    "type_vocab_size": 0,
    "vocab_size": 128_100,
}
_THETA = {"rope_theta": FULL}
_LOCAL_AND_GLOBAL = {FULL: 160_000.0, SLIDING: 10_000.0}


_ENCODERS: dict[str, Defaults] = {
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
    "deberta": Defaults(
        classes="Deberta",
        values=_DEBERTA
        | {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "talking_head": False,
            "vocab_size": 50265,
        },
        idle=("cls_dropout", "pooler_dropout"),
    ),
    "deberta-v2": Defaults(
        classes="DebertaV2",
        values=_DEBERTA
        | {
            "attention_head_size": None,
            "conv_kernel_size": None,
            "norm_rel_ebd": "none",
            "position_buckets": -1,
            "share_att_key": False,
        },
        # of a convolution that is not built, and dropout
        idle=("cls_dropout", "conv_act", "conv_groups", "pooler_dropout"),
    ),
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
    "jina_embeddings_v3": Defaults(
        classes="JinaEmbeddingsV3",
        values={
            "hidden_act": "gelu",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 8194,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "pad_token_id": 1,
            "rope_parameters": None,
            "tie_word_embeddings": True,
            "type_vocab_size": 1,
            "vocab_size": 250_002,
        },
        theta={FULL: 20_000.0, SLIDING: 20_000.0},
        theta_names=_THETA,
    ),
    "modernbert": Defaults(
        classes="ModernBert",
        values=_MODERNBERT | {"classifier_pooling": "cls", "decoder_bias": True},
        theta=_LOCAL_AND_GLOBAL,
        theta_names={"global_rope_theta": FULL, "local_rope_theta": SLIDING},
        has_two_rotations=True,
    ),
    "modernbert-decoder": Defaults(
        classes="ModernBertDecoder",
        values=_MODERNBERT | {"sliding_window": None},
        idle=("decoder_bias",),  # no head of words is built
        theta=_LOCAL_AND_GLOBAL,
        theta_names={"global_rope_theta": FULL, "local_rope_theta": SLIDING},
        has_two_rotations=True,
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
    "roberta": Defaults(classes="Roberta", values=_BERT | {"pad_token_id": 1, "vocab_size": 50265}),
    "xlm-roberta": Defaults(classes="XLMRoberta", values=_BERT | {"pad_token_id": 1}),
}
DEFAULTS: dict[str, Defaults] = dict(sorted((_ENCODERS | DECODERS).items()))
"""The built architectures of today's transformers, under the keys that it writes."""
