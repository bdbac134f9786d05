"""One tiny configuration per family, which every test that walks the table of families takes its models from."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.source.transformer import config_facts

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
VOCAB_SIZE = 64
_ENCODER = {"max_position_embeddings": 66}
_ROBERTA = _ENCODER | {"pad_token_id": 0, "type_vocab_size": 1}
_RELATIVE = _ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_GROUPED = {"num_key_value_heads": 2, "max_position_embeddings": 128}
_ROTARY = _GROUPED | {"head_dim": 8}
_WINDOWED = _ROTARY | {"sliding_window": 16}
_GROWING = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32,
    "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
}  # fmt: skip
_T5_SIZES = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
_T5 = {"eos_token_id": 3, "decoder_start_token_id": 0}  # a classifier runs the decoder too


@dataclass(frozen=True)
class Tiny:
    """A family's tiny configuration.

    Attributes:
        classes: what the names of its classes begin with.
        options: of its configuration, besides the sizes.
        sizes: SIZES, under the names that the family has for them.
        scale: deviation of its seeded weights; T5 does not scale its attention, and large ones would make it a test
            of rounding.
        module: where its classes are, of those that come with a checkpoint.
        stated: what checkpoints of such a family state, and the tiny code has no setting for.
    """

    classes: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)
    scale: float = 0.2
    module: str = "transformers"
    stated: Mapping[str, Any] = field(default_factory=dict)


TINY: dict[str, Tiny] = {
    "albert": Tiny("Albert", _ENCODER | {"embedding_size": 16}),
    "bert": Tiny("Bert", _ENCODER),
    "camembert": Tiny("Camembert", _ROBERTA),
    "deberta": Tiny("Deberta", _RELATIVE),
    "deberta-v2": Tiny("DebertaV2", _RELATIVE | {"position_buckets": 16}),
    "distilbert": Tiny(
        "DistilBert", _ENCODER, sizes={"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    ),
    "electra": Tiny("Electra", _ENCODER | {"embedding_size": 16}),
    "eurobert": Tiny("EuroBert", _GROUPED | {"classifier_pooling": "mean", "pad_token_id": 0}),
    "gemma": Tiny("Gemma", _ROTARY),
    "gemma2": Tiny("Gemma2", _WINDOWED),
    "gemma3_text": Tiny("Gemma3Text", _WINDOWED),
    "granite": Tiny(
        "Granite",
        _GROUPED
        | {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.2,
            "logits_scaling": 4.0,
        },
    ),
    "gte": Tiny("Gte", {"max_position_embeddings": 64, "pad_token_id": 0, "type_vocab_size": 2}),
    "jina_embeddings_v3": Tiny("JinaEmbeddingsV3", _ENCODER | {"pad_token_id": 0, "type_vocab_size": 2}),
    "llama": Tiny("Llama", _ROTARY),
    "ministral": Tiny("Ministral", _WINDOWED | {"layer_types": [SLIDING, FULL]}),
    "ministral3": Tiny("Ministral3", _ROTARY | {"pad_token_id": 0, "rope_parameters": dict(_GROWING)}),
    "mistral": Tiny("Mistral", _ROTARY),
    "modernbert": Tiny(
        "ModernBert",
        {"max_position_embeddings": 64, "local_attention": 8, "pad_token_id": 0, "reference_compile": False},
    ),
    "modernbert-decoder": Tiny(
        "ModernBertDecoder",
        {
            "max_position_embeddings": 64,
            "local_attention": 16,
            "pad_token_id": 0,
            "classifier_bias": True,
            "layer_types": [FULL, SLIDING],
        },
    ),
    "mpnet": Tiny("MPNet", _ENCODER | {"pad_token_id": 0}),
    "mt5": Tiny("MT5", _T5, _T5_SIZES, scale=0.05),
    "new": Tiny(
        "GteTiny",
        {"intermediate_size": 48},
        module="tests.checkpoints.remote.modeling_gte_tiny",
        stated={"model_type": "new", "pack_qkv": True, "position_embedding_type": "rope"},
    ),
    "nomic_bert": Tiny(
        "NomicTiny",
        sizes={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48},
        module="tests.checkpoints.remote.modeling_nomic_tiny",
        stated={
            "model_type": "nomic_bert",
            "activation_function": "swiglu",
            "qkv_proj_bias": False,
            "mlp_fc1_bias": False,
            "mlp_fc2_bias": False,
        },
    ),
    "olmo2": Tiny("Olmo2", _GROUPED | {"pad_token_id": 0}),
    "olmo3": Tiny(
        "Olmo3", _GROUPED | {"pad_token_id": 0, "sliding_window": 16, "layer_types": [SLIDING, FULL]}
    ),
    "phi3": Tiny("Phi3", _GROUPED | {"pad_token_id": 0}),
    "qwen2": Tiny("Qwen2", _GROUPED),
    "qwen3": Tiny("Qwen3", _ROTARY),
    "roberta": Tiny("Roberta", _ROBERTA),
    "smollm3": Tiny("SmolLM3", _GROUPED | {"pad_token_id": 0, "no_rope_layers": [1, 0]}),
    "t5": Tiny("T5", _T5, _T5_SIZES, scale=0.05),
    "xlm-roberta": Tiny("XLMRoberta", _ROBERTA),
}


def config(model_type: str, **changes: Any) -> Any:
    """The configuration as the library has it, with its defaults filled in."""
    tiny = TINY[model_type]
    options = {"vocab_size": VOCAB_SIZE, **tiny.sizes, **tiny.options, **changes}
    return getattr(_module(tiny), f"{tiny.classes}Config")(**options)


def facts(settings: Any, model_type: str) -> dict[str, Any]:
    """The configuration as the readers of families take it."""
    return config_facts(settings) | dict(TINY[model_type].stated)


def seeded(model_type: str, tail: str = "Model", seed: int = 0, **changes: Any) -> Any:
    """A torch model of a family with weights that are large enough to matter, ready for inference."""
    import torch

    torch.manual_seed(seed)
    tiny = TINY[model_type]
    kind = getattr(_module(tiny), tiny.classes + tail)
    settings = config(model_type, **changes)
    if tiny.module == "transformers":
        model = kind._from_config(settings, attn_implementation="eager")
    else:
        model = kind(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _module(tiny: Tiny) -> ModuleType:
    return importlib.import_module(tiny.module)
