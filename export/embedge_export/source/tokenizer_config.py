"""tokenizer_config.json: what it states, and how either generation of transformers loads the other's tokenizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.source.fields import (
    account_for,
    optional_text,
    some_bool,
    some_object,
    some_texts,
    wrong_value,
)
from embedge_export.source.repository import read_json

TOKENIZER_CONFIG = "tokenizer_config.json"
_BY_TRANSFORMERS = (
    "_spm_precompiled_charsmap", "add_prefix_space", "added_tokens_decoder", "additional_special_tokens", "auto_map",
    "backend", "chat_template", "do_basic_tokenize", "do_clean_text", "do_lower_case", "do_lowercase",
    "do_split_on_punc", "do_subword_tokenize", "do_word_tokenize", "extra_ids", "extra_special_tokens", "from_slow",
    "init_inputs", "jumanpp_kwargs", "keep_accents", "legacy", "max_input_chars_per_word", "max_len", "mecab_kwargs",
    "model_input_names", "model_max_length", "model_specific_special_tokens", "never_split", "normalization",
    "normalize_text", "offset", "remove_space", "sp_model_kwargs", "spaces_between_special_tokens", "split_by_punct",
    "split_special_tokens", "strip_accents", "subword_tokenizer_type", "sudachi_kwargs", "tokenize_chinese_chars",
    "tokenizer_class", "truncation_side", "unk_id", "vocab_type", "word_tokenizer_type", "wordpieces_prefix",
)  # fmt: skip
"""Keys that transformers reads; the loaded tokenizer, which is what the bundle holds, is as they say."""
_PADDING = "padding is masked"
_SAID_IN_CALLS = "transformers stores it; every call states its own"
_PATHS = "a path or an option of whoever saved the tokenizer"
_DECODING = "for turning token ids into text"
_CHATS = "for conversations with a model that answers"
_IGNORED = {
    "add_bos_token": "transformers 5 goes by tokenizer.json's post-processor",
    "add_eos_token": "transformers 5 goes by tokenizer.json's post-processor",
    "chat_control_tokens": _CHATS,
    "clean_up_tokenization_spaces": _DECODING,
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": _DECODING,
    "device_map": _PATHS,
    "errors": _DECODING,
    "fix_mistral_regex": "transformers applies it as it loads the tokenizer",
    "image_processor_type": "of inputs that are no text",
    "is_local": _PATHS,
    "local_files_only": _PATHS,
    "max_length": _SAID_IN_CALLS,
    "merges_file": _PATHS,
    "name_or_path": _PATHS,
    "pad_to_multiple_of": _PADDING,
    "pad_token_id": _PADDING,
    "pad_token_type_id": _PADDING,
    "padding": _PADDING,
    "padding_side": _PADDING,
    "processor_class": "of inputs that are no text",
    "response_schema": _CHATS,
    "response_template": _CHATS,
    "special_tokens_map_file": _PATHS,
    "stride": _SAID_IN_CALLS,
    "tokenizer_file": _PATHS,
    "torch_dtype": _PATHS,
    "trim_offsets": "offsets are not what the model sees",
    "truncation": _SAID_IN_CALLS,
    "truncation_strategy": _SAID_IN_CALLS,
    "trust_remote_code": _PATHS,
    "use_default_system_prompt": _CHATS,
    "use_fast": "only fast tokenizers are exported",
    "verbose": "what is printed",
    "vocab_file": _PATHS,
}


def _whole_number(value: Any, name: str, file: str) -> None:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())  # 1e30 is no limit
    if isinstance(value, bool) or not is_whole:
        raise wrong_value(value, name, file, "a whole number")


def _tokens(value: Any, name: str, file: str) -> None:
    if value is not None and not isinstance(value, list | dict):
        raise wrong_value(value, name, file, "a list of tokens, or an object of tokens by their names")


def _named_tokens(value: Any, name: str, file: str) -> None:
    if not all(isinstance(token, str | dict) for token in some_object(value, name, file).values()):
        raise wrong_value(value, name, file, "an object of tokens by their names")


def _nothing(value: Any, name: str, file: str) -> None:
    if value is not None:
        raise wrong_value(value, name, file, "none, as it is bytes, which no JSON file holds")


def _optional_bool(value: Any, name: str, file: str) -> None:
    if value is not None:
        some_bool(value, name, file)


def _list(value: Any, name: str, file: str) -> None:
    if not isinstance(value, list):
        raise wrong_value(value, name, file, "a list")


_TYPES: dict[str, Callable[[Any, str, str], object]] = {
    "_spm_precompiled_charsmap": _nothing,
    "add_prefix_space": _optional_bool,
    "additional_special_tokens": _tokens,
    "extra_special_tokens": _tokens,
    "init_inputs": _list,
    "model_max_length": _whole_number,
    "model_specific_special_tokens": _named_tokens,
    "split_special_tokens": some_bool,
    "tokenizer_class": optional_text,
}
"""Keys whose values transformers fails with where they are of another type, each with what checks them."""
_SPECIAL = ("_token", "_tokens", "_token_id", "_token_ids")
"""Endings of keys that name special tokens, of which a model may have its own."""
_SEGMENTED = ("Bert", "ConvBert", "Deberta", "DebertaV2", "Electra", "MobileBert", "SqueezeBert")
"""Classes of transformers 5 that give segment ids by themselves, less the end of their names."""


class TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What tokenizer_config.json states that loading depends on.

    Attributes:
        tokenizer_class: the class that saved the tokenizer.
        extra_special_tokens: a list, as transformers 5 writes it; empty where it is something else.
    """

    tokenizer_class: str | None = None
    extra_special_tokens: tuple[str, ...] = ()


def leaves_segments_open(folder: Path, tokenizer: Any) -> bool:
    """Whether a tokenizer that transformers 4 loaded gives segment ids there and none with 5, as nothing is stated."""
    name = type(tokenizer).__name__.removesuffix("Fast").removesuffix("Tokenizer")
    return (
        name not in _SEGMENTED
        and "token_type_ids" in type(tokenizer).model_input_names
        and read_json(folder, TOKENIZER_CONFIG).get("model_input_names") is None
    )


def read_tokenizer_config(folder: Path, ignore_keys: tuple[str, ...] = ()) -> TokenizerConfig:
    """Read tokenizer_config.json, and account for all that it states.

    Args:
        folder: of the tokenizer.
        ignore_keys: keys that the caller wants to be passed over.

    Raises:
        ExportError: a key that no version of transformers reads, or a value of another type.
    """
    stated = read_json(folder, TOKENIZER_CONFIG)
    special = [key for key in stated if key.endswith(_SPECIAL)]
    account_for(
        stated,
        TOKENIZER_CONFIG,
        known=(*_BY_TRANSFORMERS, *special),
        ignored=_IGNORED,
        ignore_keys=ignore_keys,
    )
    for key, check in _TYPES.items():
        if key in stated and key not in ignore_keys:
            check(stated[key], key, TOKENIZER_CONFIG)
    if stated.get("model_input_names") is not None:
        some_texts(stated["model_input_names"], "model_input_names", TOKENIZER_CONFIG)
    extra = stated.get("extra_special_tokens")
    return TokenizerConfig(
        tokenizer_class=stated.get("tokenizer_class"),
        extra_special_tokens=tuple(_token(each) for each in extra) if isinstance(extra, list) else (),
    )


def loading_options(config: TokenizerConfig) -> dict[str, Any]:
    """What transformers 4 has to be told so that it loads what transformers 5 saved."""
    if not config.extra_special_tokens:
        return {}
    return {"extra_special_tokens": {}, "additional_special_tokens": list(config.extra_special_tokens)}


def _token(stated: Any) -> str:
    text = stated.get("content") if isinstance(stated, dict) else stated
    if not isinstance(text, str):
        raise ExportError(
            f"extra_special_tokens in {TOKENIZER_CONFIG} holds {stated!r}; expected texts. Correct the file."
        )
    return text
