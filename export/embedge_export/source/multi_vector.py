"""Late interaction as sentence-transformers' MultiVectorEncoder saves it: prompts, lengths, expansion and a mask."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.source.fields import (
    account_for,
    optional_text,
    some_bool,
    some_text,
    some_texts,
    whole,
)
from embedge_export.source.files import Files
from embedge_export.source.modules import TOKENS, Normalize, chain_to
from embedge_export.source.transformer import Transformer

_UNLIMITED = 1_000_000
_SAMPLE = "a"
_MASK = "the MultiVectorMask module's config.json"


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Late interaction as the checkpoint states it.

    Attributes:
        query_marker, document_marker: text of the marker tokens.
        query_len, document_len: limits in tokens, specials and marker included.
        expand_query, attend_to_expansion: as in LateInteractionSpec.
        skip_words: document tokens left out of MaxSim.
        expansion_token: text of the token that queries are filled up with; None for the mask token.
    """

    query_marker: str
    document_marker: str
    query_len: int
    document_len: int
    expand_query: bool
    attend_to_expansion: bool
    skip_words: tuple[str, ...] = ()
    expansion_token: str | None = None


def read_words(files: Files, mask: dict[str, Any], transformer: Transformer, tokenizer: Any) -> Words:
    """Read the settings of a checkpoint that has a MultiVectorMask module.

    Args:
        files: the checkpoint's files.
        mask: configuration of that module.
        transformer: states the longest sequence.
        tokenizer: the checkpoint's own.

    Raises:
        ExportError: rows are not normalised, a prompt is more than one token, or an option is not exported.
    """
    modules, settings = files.modules, files.settings
    assert modules is not None
    made = chain_to(TOKENS, modules.sequence, modules.given) or ()
    if not made or not isinstance(made[-1], Normalize):
        raise ExportError(
            "modules.json gives rows of tokens that are not normalised, and MaxSim compares them at unit length here; "
            "expected a Normalize module of token_embeddings at the end. Add one if the model "
            "was trained so, or run it with its own library."
        )
    limit = _limit(files, transformer, tokenizer)
    length, attend, filler = settings.query_length or limit, False, None
    expansion = settings.query_expansion
    if expansion is not None:
        account_for(expansion, "query_expansion", known=("attend", "length", "strategy", "token"), ignored={})
        if expansion.get("strategy") != "fixed":
            raise ExportError(
                f"query_expansion in {settings.file} has the strategy {expansion.get('strategy')!r}; expected 'fixed'. "
                "Run the model with sentence-transformers."
            )
        length = whole(expansion.get("length"), "length of query_expansion", settings.file)
        attend = some_bool(expansion.get("attend", False), "attend of query_expansion", settings.file)
        filler = optional_text(expansion.get("token"), "token of query_expansion", settings.file)
        if filler is None and tokenizer.mask_token_id is None:
            filler = tokenizer.eos_token
    prompts = files.stated.get("prompts", {})
    return Words(
        query_marker=_marker(prompts.get("query", ""), tokenizer),
        document_marker=_marker(prompts.get("document", ""), tokenizer),
        query_len=length,
        document_len=settings.document_length or limit,
        expand_query=expansion is not None,
        attend_to_expansion=attend,
        skip_words=_skip_words(mask),
        expansion_token=filler,
    )


def _limit(files: Files, transformer: Transformer, tokenizer: Any) -> int:
    stated = files.settings.limit
    of_tokenizer = getattr(tokenizer, "model_max_length", _UNLIMITED)
    if stated is None and of_tokenizer < _UNLIMITED:
        stated = int(of_tokenizer)
    limits = [limit for limit in (stated, transformer.max_positions) if limit is not None]
    if not limits:
        raise ExportError(
            f"{files.settings.file} states no document_length and nothing else limits a text; expected document_length"
        )
    return min(limits)


def _skip_words(mask: dict[str, Any]) -> tuple[str, ...]:
    words = some_texts(mask.get("skiplist_words") or [], "skiplist_words", _MASK)
    tasks = mask.get("skiplist_tasks") or ["document"]
    tasks = (some_text(tasks, "skiplist_tasks", _MASK),) if isinstance(tasks, str) else tuple(tasks)
    if mask.get("keep_only_token_ids") or (words and tasks != ("document",)):
        raise ExportError(
            f"{_MASK} leaves out tokens by keep_only_token_ids or of queries; expected skiplist_words of documents "
            "alone. Run the model with sentence-transformers."
        )
    return words


def _marker(prompt: str, tokenizer: Any) -> str:
    """The prompt, if it is one token that stands between the first special tokens and the text."""
    if not prompt:
        return ""
    with_prompt, without = tokenizer(prompt + _SAMPLE)["input_ids"], tokenizer(_SAMPLE)["input_ids"]
    known = tokenizer.get_vocab().get(prompt)
    places = [index for index, token in enumerate(with_prompt) if token == known]
    if len(places) != 1 or with_prompt[: places[0]] + with_prompt[places[0] + 1 :] != without:
        raise ExportError(
            f"the prompt {prompt!r} of queries or documents is more than one token put before the text, which late "
            "interaction is not exported with yet; expected a marker such as '[Q] ' among its added tokens. "
            "Run the model with sentence-transformers."
        )
    return prompt
