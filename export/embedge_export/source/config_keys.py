"""Every key of config.json accounted for: transformers reads it, it cannot change numbers, or it is refused by name."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedge.errors import ExportError
from embedge_export.source.fields import unknown_keys, wrong_value
from embedge_export.source.generations import refuse_read_otherwise
from embedge_export.source.libraries import is_older

_ORIGIN = "says where the file came from"
_ELSEWHERE = "read by embedge itself"
_PRECISION = "weights are read in float32 whatever they are stored in"
_TRAINING = "used while a model is trained"
_GENERATION = "used while text is generated; nothing generates here"
_KERNEL = "chooses among ways to compute the same numbers"
_OUTPUT = "chooses what a model returns besides"
_TENSORFLOW = "of a TensorFlow head that transformers never had"
_UNREAD = "stands in published files, and no model of transformers reads it"
_LANGUAGE_HEAD = "changes what is said about the next token, before a head that no bundle of such a model has"
_TOKENS = "id of a token, which the tokenizer states itself"

_BY_REASON: dict[str, tuple[str, ...]] = {
    _ORIGIN: (
        "_commit_hash", "_name_or_path", "base_model", "language", "license", "model_name", "model_type", "mteb",
        "name_or_path", "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
    ),
    _ELSEWHERE: (
        "_num_labels", "architectures", "auto_map", "id2label", "is_matryoshka", "label2id", "logit_bias",
        "matryoshka_dimensions", "max_seq_length", "model_max_length", "num_labels", "problem_type", "prompts",
        "sbert_ce_default_activation_function", "sentence_transformers", "tokenizer_class",
    ),
    _PRECISION: ("dtype", "torch_dtype", "use_bfloat16"),
    _TRAINING: (
        "attention_dropout", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob",
        "dropout", "dropout_rate", "embedding_dropout", "finetuning_task", "gradient_checkpointing",
        "hidden_dropout_prob", "init_std", "initializer_cutoff_factor", "initializer_factor", "initializer_range",
        "mlp_dropout", "qa_dropout", "seq_classif_dropout", "sparse_pred_ignore_index", "sparse_prediction",
        "tf_legacy_loss", "tie_encoder_decoder",
    ),
    _GENERATION: (
        "bad_words_ids", "begin_suppress_tokens", "cache_implementation", "decoder_start_token_id",
        "diversity_penalty", "do_sample",
        "early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
        "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens",
        "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "prefix",
        "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "suppress_tokens",
        "task_specific_params", "temperature", "top_k", "top_p", "typical_p",
    ),
    _KERNEL: (
        "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
        "attn_implementation", "chunk_size_feed_forward", "deterministic_flash_attn", "pretraining_tp",
        "reference_compile", "repad_logits_with_grad", "torchscript", "xla_device",
    ),
    _OUTPUT: (
        "output_attentions", "output_hidden_states", "output_past", "output_scores", "return_dict", "use_cache",
    ),
    _TENSORFLOW: (
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type",
    ),
    _UNREAD: (
        "down_scale_factor", "gap_size", "generator_size", "is_llama_config", "layers_to_keep", "n_positions",
        "net_structure_type", "num_memory_blocks", "padding_idx", "tie_weights_",
    ),
    _LANGUAGE_HEAD: ("scale_decoder_outputs",),
    _TOKENS: (
        "bos_token_id", "cls_token_id", "eos_token_id", "mask_token_id", "sep_token_id", "unk_token_id",
    ),
}  # fmt: skip
HARMLESS: dict[str, str] = {key: reason for reason, keys in _BY_REASON.items() for key in keys}
"""Keys that cannot change what an encoder answers, each with the reason."""

HARMLESS_AT: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "full_attn_mod": (1,),
    "is_decoder": (False,),
    "lm_head_bias": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1, 1.0),
    "position_embedding_type": ("absolute",),
    "rope_interleaved": (False,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
}
"""Keys that say at these values what a model does that does not have them."""

HARMLESS_BESIDE = {
    "hidden_act": "hidden_activation",
    "hidden_activation": "hidden_act",
    "layer_norm_eps": "norm_eps",
    "sliding_window_size": "sliding_window",
}
"""Keys that say the same once more where the other one, which is read, has the same value."""

_QUANTIZED = (
    "the weights are quantised, which nothing here reads; expected floats. Export what they were made of"
)
_BY_NEIGHBOURS = (
    "transformers attends in both directions only where no text of a batch is padded, so that a text's numbers depend "
    "on its neighbours; expected is_causal false instead"
)
_IN_PIECES = "transformers refuses every text whose length is no multiple of it; expected 0"
_REFUSED: dict[tuple[str, str], str] = {
    ("", "chunk_size_feed_forward"): _IN_PIECES,
    ("", "compression_config"): _QUANTIZED,
    ("", "quantization_config"): _QUANTIZED,
    ("gemma", "use_bidirectional_attention"): _BY_NEIGHBOURS,
    ("gemma2", "use_bidirectional_attention"): _BY_NEIGHBOURS,
}
"""By model_type ("" for all) and key: why a value that is set is refused, whether transformers knows it or not."""

_READ = re.compile(
    r"""config\.([a-z]\w*)|attr\(\s*(?:self\.)?config,\s*["'](\w+)["']|kwargs\.(?:get|pop)\(\s*["'](\w+)["']"""
)


def check_keys(stated: Mapping[str, Any], config: Any, *, translated: Sequence[str]) -> None:
    """Refuse what would be passed over.

    Args:
        stated: config.json, without the keys that the caller answers for.
        config: what transformers read of it.
        translated: keys that were put into words which it knows.

    Raises:
        ExportError: a key is not known here, or has a value that nothing here can honour.
    """
    model_type = str(stated.get("model_type"))
    refuse_read_otherwise(stated, 4 if is_older() else 5)
    known = known_keys(type(config))
    unknown = []
    for key, value in stated.items():
        if says_nothing(value):
            continue
        refuse_values(key, value, model_type)
        if key not in known and key not in translated and not is_harmless(key, stated, model_type):
            unknown.append(key)
    if unknown:
        import transformers

        raise refuse_unknown(
            unknown, stated, f"transformers {transformers.__version__}", "Install the version that saved it."
        )


def refuse_unknown(
    unknown: Sequence[str], stated: Mapping[str, Any], reader: str, advice: str
) -> ExportError:
    """The error for keys of config.json that nobody is known to read.

    Args:
        unknown: the keys.
        stated: config.json.
        reader: who does not know them.
        advice: what to do, as a sentence.
    """
    saved = stated.get("transformers_version")
    origin = f" (the checkpoint was saved by transformers {saved})" if saved else ""
    who = f"{reader} does not know for model_type {str(stated.get('model_type'))!r}{origin}"
    return unknown_keys(unknown, stated, "config.json states", who, "keys that it reads", advice)


def known_keys(config_class: type) -> frozenset[str]:
    """Keys that a class of transformers, or the model that belongs to it, reads; its source is read once."""
    if config_class not in _KNOWN:
        _KNOWN[config_class] = _read_known_keys(config_class)
    return _KNOWN[config_class]


_KNOWN: dict[type, frozenset[str]] = {}


def _read_known_keys(config_class: type) -> frozenset[str]:
    known: set[str] = set(getattr(config_class, "attribute_map", None) or ())
    try:
        known.update(config_class().to_dict())
    except (TypeError, ValueError):  # a class without defaults
        known.update(inspect.signature(config_class).parameters)
    for parent in config_class.__mro__:
        known.update(vars(parent).get("__annotations__", {}))
        if "__init__" in vars(parent):
            known.update(inspect.signature(vars(parent)["__init__"]).parameters)
    own = Path(inspect.getfile(config_class))
    for path in (own, own.with_name(own.name.replace("configuration_", "modeling_"))):
        if path.is_file():
            for names in _READ.findall(path.read_text("utf-8")):
                known.update(filter(None, names))
    if "rope_parameters" in known:  # transformers 5 takes the old words for it
        known |= {"rope_theta", "rope_scaling", "partial_rotary_factor"}
    masks = _masks()
    if masks is not None and 'getattr(config, "is_causal"' in inspect.getsource(masks):
        known.add("is_causal")
    return frozenset(known)


def _masks() -> Any:
    """What makes the masks of all models, loaded or not yet; None where this transformers has none."""
    try:
        return importlib.import_module("transformers.masking_utils")
    except ImportError:
        return None


_DTYPES = (
    "bfloat16", "bool", "cdouble", "cfloat", "chalf", "complex128", "complex32", "complex64", "double", "float",
    "float16", "float32", "float4_e2m1fn_x2", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "half", "int", "int16", "int32", "int64", "int8", "long", "short", "uint16",
    "uint32", "uint64", "uint8",
)  # fmt: skip
"""torch's words for the types of numbers."""


def refuse_dtypes(stated: Mapping[str, Any], ignore_keys: Sequence[str]) -> None:
    """Refuse a dtype that torch does not have: transformers reads it before anything can be said about it.

    Raises:
        ExportError: config.json states one; what it says of single parts of a model is not looked at.
    """
    for key in ("dtype", "torch_dtype"):
        value = stated.get(key)
        if value is None or isinstance(value, dict) or key in ignore_keys:
            continue
        if value not in _DTYPES:
            raise wrong_value(
                value, key, "config.json", "a type of torch such as float32, float16 or bfloat16"
            )


def refuse_values(key: str, value: object, model_type: str) -> None:
    """Refuse what nothing here can honour, whoever reads it.

    Raises:
        ExportError: the key is set to such a value.
    """
    reason = _REFUSED.get(("", key)) or _REFUSED.get((model_type, key))
    if reason and value not in (False, 0):
        raise ExportError(f"config.json states {key}: {reason}, or pass --ignore-key {key}.")


def is_harmless(key: str, stated: Mapping[str, Any], model_type: str) -> bool:
    """Whether a key cannot change what an encoder answers."""
    value = stated[key]
    if key == "is_causal":
        from embedge_export.families.table import FAMILIES

        family = FAMILIES.get(model_type)
        return family is not None and value is (family.pooling == "LAST")
    if key in HARMLESS or value in HARMLESS_AT.get(key, ()):
        return True
    return key in HARMLESS_BESIDE and stated.get(HARMLESS_BESIDE[key]) == value


def says_nothing(value: object) -> bool:
    """Whether a value is as good as none."""
    return value is None or value == {} or value == []
