"""The checkpoint's tokenizer: tokenizer.json as the bundle holds it, and the facts that go with it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import TokenizerSpec
from embedge_export.source import Checkpoint

_UNLIMITED = 1_000_000
_SAMPLE = "a"


class Tokenization(msgspec.Struct, frozen=True, kw_only=True):
    """How the checkpoint tokenises.

    Attributes:
        tokenizer: transformers' own object, which the reference uses.
        file: content of the bundle's tokenizer.json, without truncation and padding.
        spec: the manifest's facts.
        max_seq_len: limit in tokens.
    """

    tokenizer: Any
    file: bytes
    spec: TokenizerSpec
    max_seq_len: int

    def encode(self, text: str, document: str | None = None) -> dict[str, list[int]]:
        """Tokenise one text or pair as transformers does, cut to the limit."""
        encoding = self.tokenizer(text, document, truncation=True, max_length=self.max_seq_len)
        return {name: list(ids) for name, ids in encoding.items()}


def load_tokenizer(checkpoint: Checkpoint) -> Tokenization:
    """Load the tokenizer through transformers and describe it.

    Raises:
        ExportError: it has no fast form, its special tokens have no simple form, or its ids do not fit the model.
    """
    tokenizer = _auto_tokenizer(checkpoint)
    backend = tokenizer.backend_tokenizer
    if checkpoint.lowercase:
        _lowercase(backend)
    backend.no_truncation()
    backend.no_padding()
    parsed = json.loads(backend.to_str())
    parsed["truncation"] = parsed["padding"] = None
    highest = max(tokenizer.get_vocab().values())
    if highest >= checkpoint.vocab_size:
        raise ExportError(
            f"the tokenizer has token id {highest}, but the model's embedding has {checkpoint.vocab_size} rows; "
            "expected every id below that. Resize the embedding (resize_token_embeddings) and save the model again."
        )
    prefix_ids, suffix_ids = _special_ids(backend)
    family = checkpoint.family
    return Tokenization(
        tokenizer=tokenizer,
        file=json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        spec=TokenizerSpec(
            pad_token_id=_pad_token_id(tokenizer, checkpoint),
            padding_side=family.padding_side or tokenizer.padding_side,
            truncation_side=tokenizer.truncation_side,
            prefix_ids=prefix_ids,
            suffix_ids=suffix_ids,
        ),
        max_seq_len=_max_seq_len(tokenizer, checkpoint),
    )


def _auto_tokenizer(checkpoint: Checkpoint) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(checkpoint.transformer),
            use_fast=True,
            local_files_only=True,
            trust_remote_code=checkpoint.trust_remote_code,
        )
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many classes here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(
            f"the tokenizer cannot be loaded: {reason}. Expected the files that tokenizer.save_pretrained writes, "
            "tokenizer.json among them."
        ) from error
    if not tokenizer.is_fast:
        raise ExportError(
            f"the tokenizer {type(tokenizer).__name__} has no fast form; expected one that the tokenizers library "
            "can run. Save a fast one first: AutoTokenizer.from_pretrained(MODEL, use_fast=True)"
        )
    return tokenizer


def _lowercase(backend: Any) -> None:
    # as sentence-transformers does for do_lower_case; a normalizer keeps character offsets true
    from tokenizers.normalizers import Lowercase, Sequence

    state = json.loads(backend.to_str())["normalizer"] or {}
    stages = state.get("normalizers", [state])
    if not any(stage.get("type") == "Lowercase" for stage in stages):
        backend.normalizer = Sequence([Lowercase(), backend.normalizer] if state else [Lowercase()])


def _special_ids(backend: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sample = backend.encode(_SAMPLE)
    flags = list(sample.special_tokens_mask)
    if 0 not in flags:
        raise ExportError(
            f"the tokenizer turns {_SAMPLE!r} into special tokens only; expected an ordinary token. "
            "Check tokenizer.json."
        )
    prefix = tuple(sample.ids[: flags.index(0)])
    suffix = tuple(sample.ids[len(flags) - flags[::-1].index(0) :])
    empty = tuple(backend.encode("").ids)
    if empty != prefix + suffix:
        raise ExportError(
            f"the tokenizer gives {list(empty)} for an empty text and puts {list(prefix)} before and {list(suffix)} "
            "after others; expected the same special tokens around every text."
        )
    return prefix, suffix


def _pad_token_id(tokenizer: Any, checkpoint: Checkpoint) -> int:
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    if checkpoint.family.padding_side is None and tokenizer.eos_token_id is not None:
        # decoders mask padding in attention and pooling: any id gives the same numbers
        return int(tokenizer.eos_token_id)
    raise ExportError(
        "the tokenizer has no padding token; expected pad_token in tokenizer_config.json. "
        "Set it (tokenizer.pad_token = ...) and save the tokenizer again."
    )


def _max_seq_len(tokenizer: Any, checkpoint: Checkpoint) -> int:
    stated = checkpoint.stated_max_seq_len
    if stated is None and tokenizer.model_max_length < _UNLIMITED:
        stated = int(tokenizer.model_max_length)
    limits = [limit for limit in (stated, checkpoint.max_positions) if limit is not None]
    limit = min(limits) if limits else checkpoint.unbounded_max_seq_len
    if limit is None:
        raise ExportError(
            "neither the config nor the tokenizer states the longest sequence; expected model_max_length in "
            "tokenizer_config.json. Pass --max-seq-len."
        )
    return limit
