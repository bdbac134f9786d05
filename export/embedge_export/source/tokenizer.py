"""The checkpoint's tokenizer: tokenizer.json as the bundle holds it, and the facts that go with it."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import TemplateSpec, TokenizerSpec
from embedge_export.source.chat_template import Chat
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.classifier import Classifier
from embedge_export.source.libraries import is_older
from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.static import Static
from embedge_export.source.tokenizer_config import leaves_segments_open

_UNLIMITED = 1_000_000
_SAMPLE = "a"


class Tokenization(msgspec.Struct, frozen=True, kw_only=True):
    """How the checkpoint tokenises.

    Attributes:
        tokenizer: transformers' own object, which the reference uses; tokenizers' for static embeddings.
        file: content of the bundle's tokenizer.json, without truncation and padding.
        spec: the manifest's facts.
        max_seq_len: limit in tokens.
        template: that pairs are put into.
        chat: what fills in the checkpoint's chat template, for `template` and for single texts; None without.
        messages: single texts are put into it.
        pair_prompt: text before the first side of every pair that is scored.
        ignored_id: token that a static embedding leaves out of its mean.
    """

    tokenizer: Any
    file: bytes
    spec: TokenizerSpec
    max_seq_len: int
    template: TemplateSpec | None = None
    chat: Chat | None = None
    messages: bool = False
    pair_prompt: str = ""
    ignored_id: int | None = None

    def encode(self, text: str, document: str | None = None) -> dict[str, list[int]]:
        """Tokenise one text or pair as the checkpoint's own library does, cut to the limit."""
        if document is not None and self.template is not None:
            if self.chat is None:
                return _attended(self._encode_apart(self.template, text, document))
            texts = {"query": text, "document": document}
            return _attended(self.chat.encode(texts, self.template.instruction, self.max_seq_len))
        if self.messages and self.chat is not None:
            return _attended(self.chat.encode({"text": text}, "", self.max_seq_len))
        if not callable(self.tokenizer):
            token_ids = self.tokenizer.encode(text[: self.spec.max_chars]).ids
            left = self.spec.truncation_side == "left"
            return {"input_ids": token_ids[-self.max_seq_len :] if left else token_ids[: self.max_seq_len]}
        prompted = text if document is None else self.pair_prompt + text
        encoding = self.tokenizer(prompted, document, truncation=True, max_length=self.max_seq_len)
        return {name: list(ids) for name, ids in encoding.items()}

    def _encode_apart(self, template: TemplateSpec, query: str, document: str) -> list[int]:
        def ids(part: str) -> list[int]:
            return list(self.tokenizer(part, add_special_tokens=False)["input_ids"])

        prefix, suffix = ids(template.prefix), ids(template.suffix)
        fields = {"instruction": template.instruction, "query": query, "document": document}
        body = re.sub(r"\{(instruction|query|document)\}", lambda field: fields[field[1]], template.body)
        room = self.max_seq_len - len(prefix) - len(suffix)
        return [*prefix, *ids(body)[:room], *suffix]


def describe_tokenizer(tokenizer: Any, checkpoint: Checkpoint, chat: Chat | None = None) -> Tokenization:
    """Describe a loaded tokenizer, and write it as the bundle's tokenizer.json.

    Args:
        tokenizer: what was loaded.
        checkpoint: its checkpoint.
        chat: what fills in its chat template; None where it is not filled in, or not this one.

    Raises:
        ExportError: its special tokens have no simple form, or its ids do not fit the model.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    parsed = json.loads(backend.to_str())
    parsed["truncation"] = parsed["padding"] = None
    highest = max(tokenizer.get_vocab().values())
    if highest >= checkpoint.vocab_size:
        raise ExportError(
            f"the tokenizer has token id {highest}, but the model's embedding has {checkpoint.vocab_size} rows; "
            "expected every id below that. Resize the embedding (resize_token_embeddings) and save the model again."
        )
    prefix_ids, suffix_ids = _special_ids(backend)
    what = checkpoint.what
    if isinstance(what, Classifier) and not checkpoint.is_decoder:
        _check_segments(tokenizer, checkpoint.transformer)
    is_static, is_model2vec = isinstance(what, Static), checkpoint.model_type == "model2vec"
    max_seq_len = _max_seq_len(tokenizer, checkpoint)
    default_prompt = checkpoint.prompts.get(checkpoint.default_prompt_name or "", "")
    return Tokenization(
        tokenizer=tokenizer,
        file=json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        spec=TokenizerSpec(
            pad_token_id=_pad_token_id(tokenizer, checkpoint),
            truncation_side=what.truncation_side if isinstance(what, Static) else tokenizer.truncation_side,
            prefix_ids=prefix_ids,
            suffix_ids=suffix_ids,
            segments=not is_static and "token_type_ids" in tokenizer.model_input_names,
            split_special_tokens=not is_static and bool(getattr(tokenizer, "split_special_tokens", False)),
            max_chars=_max_chars(backend, max_seq_len) if is_model2vec else None,
        ),
        max_seq_len=max_seq_len,
        template=checkpoint.template,
        chat=chat,
        messages=checkpoint.message is not None,
        pair_prompt=default_prompt if "score" in checkpoint.tasks else "",
        ignored_id=_unknown_id(backend) if is_model2vec else None,
    )


def _attended(token_ids: list[int]) -> dict[str, list[int]]:
    return {"input_ids": token_ids, "attention_mask": [1] * len(token_ids)}


def _check_segments(tokenizer: Any, folder: Path) -> None:
    """Refuse what the two generations of transformers give different segment ids, where it is the older one's word."""
    if isinstance(tokenizer, LightTokenizer) or not is_older() or not leaves_segments_open(folder, tokenizer):
        return
    if any(tokenizer.backend_tokenizer.encode(_SAMPLE, _SAMPLE).type_ids):
        raise ExportError(
            "tokenizer_config.json does not state model_input_names, so that transformers 4 gives the sides of a pair "
            f"different segment ids for {type(tokenizer).__name__} and transformers 5 gives none; expected it stated. "
            'Add "model_input_names": ["input_ids", "attention_mask"] there, with "token_type_ids" if the model was '
            "trained with them, or export with transformers 5."
        )


def _max_chars(backend: Any, max_seq_len: int) -> int | None:
    """Characters that model2vec leaves of a text that it cuts: as many as the median of its tokens make."""
    if max_seq_len >= _UNLIMITED:
        return None
    return max(1, max_seq_len * int(statistics.median(map(len, backend.get_vocab()))))


def _unknown_id(backend: Any) -> int | None:
    """Id of the unknown token, as model2vec finds it."""
    model = json.loads(backend.to_str())["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    unknown = model.get("unk_token")
    return None if unknown is None else backend.token_to_id(unknown)


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
    if isinstance(checkpoint.what, Static):
        return 0  # padding is masked: any id gives the same numbers
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    if checkpoint.is_decoder and tokenizer.eos_token_id is not None:
        # decoders mask padding in attention and pooling: any id gives the same numbers
        return int(tokenizer.eos_token_id)
    raise ExportError(
        "the tokenizer has no padding token; expected pad_token in tokenizer_config.json. "
        "Set it (tokenizer.pad_token = ...) and save the tokenizer again."
    )


def _max_seq_len(tokenizer: Any, checkpoint: Checkpoint) -> int:
    stated = checkpoint.stated_max_seq_len
    length = getattr(tokenizer, "model_max_length", _UNLIMITED)
    if stated is None and length < _UNLIMITED:
        stated = int(length)
    trained = checkpoint.max_positions
    if checkpoint.stated_max_seq_len is not None and not checkpoint.family.bounded_positions:
        trained = None  # rotary and relative positions reach further than they were trained for
    limits = [limit for limit in (stated, trained) if limit is not None]
    limit = min(limits) if limits else checkpoint.family.default_max_seq_len
    if limit is None:
        raise ExportError(
            "neither the config nor the tokenizer states the longest sequence; expected model_max_length in "
            "tokenizer_config.json. Pass --max-seq-len."
        )
    return limit
