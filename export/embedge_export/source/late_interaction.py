"""Late interaction: PyLate's and ColBERT's settings, and the token ids that their words stand for."""

from __future__ import annotations

import string
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import LateInteractionSpec
from embedge_export.source.fields import some_text, whole
from embedge_export.source.files import Files
from embedge_export.source.modules import (
    TOKENS,
    Chain,
    Dense,
    Pooling,
    chain_to,
    row_size,
    without_last_normalize,
)
from embedge_export.source.multi_vector import Words, read_words
from embedge_export.source.repository import read_json
from embedge_export.source.settings import LAST_HIDDEN_STATE
from embedge_export.source.tokens import token_id
from embedge_export.source.transformer import Transformer

COLBERT_METADATA = "artifact.metadata"


class LateInteraction(msgspec.Struct, frozen=True, kw_only=True, tag="late_interaction"):
    """Token rows that are compared one by one.

    Attributes:
        spec: as in the manifest.
        tokens: modules that make the rows of the hidden states; rows are compared at unit length.
    """

    spec: LateInteractionSpec
    tokens: Chain = ()


def is_late_interaction(files: Files) -> bool:
    """Whether a checkpoint is made for late interaction: ColBERT's own files, or PyLate's modules and settings."""
    if (files.repository.folder / COLBERT_METADATA).is_file():
        return True
    modules = files.modules
    if modules is None or modules.settings.method_output_name != LAST_HIDDEN_STATE:
        return False
    if any(isinstance(module, Pooling) for module in modules.sequence):
        return False
    return files.by_token or any(module.module_output_name == TOKENS for module in modules.sequence)


def read_late_interaction(files: Files, transformer: Transformer, tokenizer: Any) -> LateInteraction:
    """Read the settings and modules of a late-interaction model.

    Raises:
        ExportError: sizes do not chain, or a word of the settings is not one token of the vocabulary.
    """
    modules = files.modules
    if modules is not None and modules.mask is not None:
        words = read_words(files, modules.mask, transformer, tokenizer)
    else:
        words = _read_words(files)
    return LateInteraction(tokens=_tokens(files, transformer.hidden_size), spec=_resolve(words, tokenizer))


def _tokens(files: Files, hidden_size: int) -> Chain:
    folder, modules = files.repository.folder, files.modules
    made: Chain = ()
    if modules:
        made = chain_to(TOKENS, modules.sequence, modules.given) or ()
    elif metadata := read_json(folder, COLBERT_METADATA):
        size = whole(metadata.get("dim", files.config.get("dim", 128)), "dim", COLBERT_METADATA)
        made = (
            Dense(
                folder=folder,
                in_features=hidden_size,
                out_features=size,
                bias=False,
                activation="Identity",
                module_input_name=TOKENS,
                module_output_name=TOKENS,
            ),
        )
    row_size(made, hidden_size)
    return without_last_normalize(made)[0]


def _read_words(files: Files) -> Words:
    """Read PyLate's settings, or those of the original ColBERT."""
    folder, stated = files.repository.folder, files.stated
    if (folder / COLBERT_METADATA).is_file():
        metadata = read_json(folder, COLBERT_METADATA)
        return Words(
            query_marker=some_text(
                metadata.get("query_token_id", "[unused0]"), "query_token_id", COLBERT_METADATA
            ),
            document_marker=some_text(
                metadata.get("doc_token_id", "[unused1]"), "doc_token_id", COLBERT_METADATA
            ),
            query_len=whole(metadata.get("query_maxlen", 32), "query_maxlen", COLBERT_METADATA),
            document_len=whole(metadata.get("doc_maxlen", 180), "doc_maxlen", COLBERT_METADATA),
            expand_query=True,
            attend_to_expansion=bool(metadata.get("attend_to_mask_tokens", False)),
            skip_words=tuple(string.punctuation) if metadata.get("mask_punctuation", True) else (),
        )
    return Words(
        query_marker=stated.get("query_prefix", "[Q] "),
        document_marker=stated.get("document_prefix", "[D] "),
        query_len=stated.get("query_length", 32),
        document_len=stated.get("document_length", 180),
        expand_query=stated.get("do_query_expansion", True),
        attend_to_expansion=stated.get("attend_to_expansion_tokens", False),
        skip_words=tuple(stated.get("skiplist_words", string.punctuation)),
    )


def _resolve(words: Words, tokenizer: Any) -> LateInteractionSpec:
    def marker(text: str) -> int | None:
        return token_id(tokenizer, text) if text else None

    filler = words.expansion_token
    expansion = tokenizer.mask_token_id if filler is None else token_id(tokenizer, filler)
    if words.expand_query and expansion is None:
        raise ExportError(
            "queries are to be expanded with the mask token, and the tokenizer has none; expected mask_token in "
            "tokenizer_config.json, or do_query_expansion false in config_sentence_transformers.json"
        )
    vocabulary = tokenizer.get_vocab()
    return LateInteractionSpec(
        query_len=words.query_len,
        document_len=words.document_len,
        query_marker_id=marker(words.query_marker),
        document_marker_id=marker(words.document_marker),
        expand_query=words.expand_query,
        expansion_token_id=expansion if words.expand_query else None,
        attend_to_expansion=words.attend_to_expansion,
        # a word outside of the vocabulary can never be met
        skip_token_ids=tuple(sorted({vocabulary[word] for word in words.skip_words if word in vocabulary})),
    )
