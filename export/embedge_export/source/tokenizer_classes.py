"""What the tokenizer classes of transformers 5 build by themselves, and which class it takes: a table.

A class takes the vocabulary of tokenizer.json, and the tokens around texts where it has none of its own; everything
else it makes of its options. Checked against transformers by tests/export/source/test_light_tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from embedge_export.source.tokenizer_pipelines import (
    Options,
    albert,
    byte_pieces,
    deberta_v2,
    gemma,
    llama,
    pieces,
    qwen,
    roberta_around,
    t5_around,
    template,
    word_piece,
)

GENERIC = "TokenizersBackend"
"""The class that takes tokenizer.json as it is."""
NAMES = ("input_ids", "attention_mask")
WITH_SEGMENTS = ("input_ids", "token_type_ids", "attention_mask")


class TokenizerClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class that builds its pipeline.

    Attributes:
        model: kind of the vocabulary that it takes.
        build: makes a tokenizer of tokenizer.json's model and the options, CHARACTERS among them.
        defaults: its options where nothing states them.
        around: how it puts special tokens around texts, as names of special tokens between the sides A and B, each
            with its segment id; None where the file says it.
        model_input_names: where nothing states them.
        wrapped: special tokens that it gives properties of their own where they are stated as bare texts.
        extra: further special tokens where none are stated; one with braces as often as extra_ids says.
        resets_specials: it adds its special tokens again, without the properties that the file states.
    """

    model: str
    build: Callable[[dict[str, Any], Options], Any]
    defaults: Mapping[str, Any]
    around: Callable[[Any, Options], Any] | None = None
    model_input_names: tuple[str, ...] = NAMES
    wrapped: Mapping[str, Mapping[str, bool]] = {}
    extra: tuple[str, ...] = ()
    resets_specials: bool = False


_CLS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_S = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
    "cls_token": "<s>", "mask_token": "<mask>",
}  # fmt: skip
_WORDS = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
_PLAIN = {"lstrip": False, "rstrip": False}
_BERT_AROUND = template(
    "{cls_token}:0 $A:0 {sep_token}:0",
    "{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1",
    "cls_token",
    "sep_token",
)
_BERT = TokenizerClass(
    model="WordPiece",
    build=word_piece,
    defaults=_CLS | _WORDS,
    around=_BERT_AROUND,
    model_input_names=WITH_SEGMENTS,
)
_S_AROUND = template(
    "{bos_token} $A {eos_token}",
    "{bos_token} $A {eos_token} {eos_token} $B {eos_token}",
    "bos_token",
    "eos_token",
)

CLASSES: dict[str, TokenizerClass] = {
    "AlbertTokenizer": TokenizerClass(
        model="Unigram", build=albert,
        defaults=_CLS | {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>"}
        | {"do_lower_case": True, "keep_accents": False, "add_prefix_space": True},
    ),
    "BertTokenizer": _BERT,
    "CamembertTokenizer": TokenizerClass(
        model="Unigram", build=pieces(), around=_S_AROUND, defaults=_S | {"add_prefix_space": True},
        wrapped={"mask_token": {"lstrip": True, "special": True}},
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "DebertaV2Tokenizer": TokenizerClass(
        model="Unigram", build=deberta_v2, around=_BERT_AROUND, model_input_names=WITH_SEGMENTS,
        defaults=_CLS | {"bos_token": "[CLS]", "eos_token": "[SEP]"}
        | {"do_lower_case": False, "split_by_punct": False, "add_prefix_space": True, "unk_id": 1},
    ),
    "DistilBertTokenizer": msgspec.structs.replace(_BERT, model_input_names=NAMES),
    "GemmaTokenizer": TokenizerClass(
        model="BPE", build=gemma,
        defaults={"unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
        | {"pad_token": "<pad>", "mask_token": "<mask>"},
    ),
    "LlamaTokenizer": TokenizerClass(
        model="BPE", build=llama,
        defaults={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
        | {"add_prefix_space": None, "legacy": False},
    ),
    "MPNetTokenizer": TokenizerClass(
        model="WordPiece", build=word_piece, defaults=_S | {"unk_token": "[UNK]"} | _WORDS,
        around=lambda tokenizer, options: roberta_around(
            tokenizer, {**options, "trim_offsets": True, "add_prefix_space": False}
        ),
        wrapped={**dict.fromkeys(_S, _PLAIN), "mask_token": {"lstrip": True, "rstrip": False}},
    ),
    "Qwen2Tokenizer": TokenizerClass(
        model="BPE", build=qwen, resets_specials=True,
        defaults=dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
        | {"bos_token": None, "add_prefix_space": None},
    ),
    "RobertaTokenizer": TokenizerClass(
        model="BPE", build=byte_pieces, around=roberta_around,
        defaults=_S | {"add_prefix_space": False, "trim_offsets": True},
    ),
    "T5Tokenizer": TokenizerClass(
        model="Unigram", build=pieces(2, always=True),
        around=t5_around,
        defaults={"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        | {"extra_ids": 100},
        extra=("<extra_id_{}>",),
    ),
    "XLMRobertaTokenizer": TokenizerClass(
        model="Unigram", build=pieces(3), around=_S_AROUND,
        defaults=_S | {"add_prefix_space": True},
    ),
}  # fmt: skip
"""Classes by name, as transformers 5 names them."""

ALIASES = {
    "ElectraTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "PreTrainedTokenizer": GENERIC,
    "PreTrainedTokenizerFast": GENERIC,
    "SqueezeBertTokenizer": "BertTokenizer",
    "BartTokenizer": "RobertaTokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
}
"""Other names of these classes."""

BY_MODEL_TYPE: dict[str, str] = {
    "albert": "AlbertTokenizer", "bert": "BertTokenizer", "camembert": "CamembertTokenizer",
    "deberta": "DebertaTokenizer", "deberta-v2": "DebertaV2Tokenizer", "distilbert": "BertTokenizer",
    "electra": "BertTokenizer", "gemma": "GemmaTokenizer", "gemma2": "GemmaTokenizer", "gemma3_text": "GemmaTokenizer",
    "granite": GENERIC, "gte": "XLMRobertaTokenizer", "jina_embeddings_v3": "XLMRobertaTokenizer",
    "ministral": GENERIC, "ministral3": GENERIC, "mistral": GENERIC, "modernbert": GENERIC,
    "modernbert-decoder": GENERIC, "mpnet": "MPNetTokenizer", "mt5": "T5Tokenizer", "nomic_bert": "BertTokenizer",
    "olmo2": GENERIC, "olmo3": GENERIC, "phi3": GENERIC, "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer", "t5": "T5Tokenizer", "xlm-roberta": "XLMRobertaTokenizer",
}  # fmt: skip
"""The class that transformers has for an architecture; none for others."""
NOT_BELIEVED = ("modernbert", "modernbert-decoder", "phi3", "qwen2")
"""Architectures whose checkpoints' own word for the class is passed over."""
