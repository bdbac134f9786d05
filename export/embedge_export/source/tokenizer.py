"""The checkpoint's tokenizer: tokenizer.json as the bundle holds it, and the facts that go with it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import TemplateSpec, TokenizerSpec
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.files import Files
from embedge_export.source.libraries import load_libraries
from embedge_export.source.static import Static

_UNLIMITED = 1_000_000
_SAMPLE = "a"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


class Tokenization(msgspec.Struct, frozen=True, kw_only=True):
    """How the checkpoint tokenises.

    Attributes:
        tokenizer: transformers' own object, which the reference uses; tokenizers' for static embeddings.
        file: content of the bundle's tokenizer.json, without truncation and padding.
        spec: the manifest's facts.
        max_seq_len: limit in tokens.
        template: template of a causal reranker's pairs.
        ignored_id: token that a static embedding leaves out of its mean.
    """

    tokenizer: Any
    file: bytes
    spec: TokenizerSpec
    max_seq_len: int
    template: TemplateSpec | None = None
    ignored_id: int | None = None

    def encode(self, text: str, document: str | None = None) -> dict[str, list[int]]:
        """Tokenise one text or pair as the checkpoint's own library does, cut to the limit."""
        if self.template is not None and document is not None:
            return self._encode_template(self.template, text, document)
        if not callable(self.tokenizer):
            return {"input_ids": self.tokenizer.encode(text).ids[: self.max_seq_len]}
        encoding = self.tokenizer(text, document, truncation=True, max_length=self.max_seq_len)
        return {name: list(ids) for name, ids in encoding.items()}

    def _encode_template(self, template: TemplateSpec, query: str, document: str) -> dict[str, list[int]]:
        def ids(part: str) -> list[int]:
            return list(self.tokenizer(part, add_special_tokens=False)["input_ids"])

        prefix, suffix = ids(template.prefix), ids(template.suffix)
        fields = {"instruction": template.instruction, "query": query, "document": document}
        body = re.sub(r"\{(instruction|query|document)\}", lambda field: fields[field[1]], template.body)
        room = self.max_seq_len - len(prefix) - len(suffix)
        token_ids = [*prefix, *ids(body)[:room], *suffix]
        return {"input_ids": token_ids, "attention_mask": [1] * len(token_ids)}


def load_tokenizer(files: Files, code: dict[str, str]) -> Any:
    """Load the tokenizer through transformers.

    Args:
        files: the checkpoint's files.
        code: Python files that loading it may run; empty where it may run none.

    Raises:
        ExportError: it cannot be loaded, or has no fast form.
    """
    tokenizer = _auto_tokenizer(files, trust_remote_code=bool(code))
    if files.settings.do_lower_case:
        _lowercase(tokenizer.backend_tokenizer)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_plain_tokenizer(files: Files) -> Any:
    """Load the tokenizer of static embeddings through tokenizers; it puts no special tokens around a text.

    Raises:
        ExportError: it cannot be loaded.
    """
    from tokenizers import Tokenizer

    path = files.transformer / "tokenizer.json"
    try:
        parsed = json.loads(path.read_bytes())
        parsed["truncation"] = parsed["padding"] = parsed["post_processor"] = None
        return Tokenizer.from_str(json.dumps(parsed))
    except Exception as error:  # tokenizers raises plain Exception
        raise ExportError(f"tokenizer.json cannot be read: {error}. Copy the checkpoint again.") from error


def describe_tokenizer(tokenizer: Any, checkpoint: Checkpoint) -> Tokenization:
    """Describe a loaded tokenizer, and write it as the bundle's tokenizer.json.

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
    unknown = parsed["model"].get("unk_token")
    return Tokenization(
        tokenizer=tokenizer,
        file=json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        spec=TokenizerSpec(
            pad_token_id=_pad_token_id(tokenizer, checkpoint),
            truncation_side=getattr(tokenizer, "truncation_side", "right"),
            prefix_ids=prefix_ids,
            suffix_ids=suffix_ids,
        ),
        max_seq_len=_max_seq_len(tokenizer, checkpoint),
        template=checkpoint.template,
        ignored_id=backend.token_to_id(unknown) if checkpoint.model_type == "model2vec" and unknown else None,
    )


def _auto_tokenizer(files: Files, *, trust_remote_code: bool) -> Any:
    load_libraries()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(files.transformer),
            use_fast=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            **{key: value for key, value in files.settings.processor_kwargs.items() if key != "use_fast"},
        )
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many classes here
        if not any((files.transformer / name).is_file() for name in _TOKENIZER_FILES):
            raise ExportError(
                f"{files.repository.name} holds no tokenizer; expected tokenizer.json, as save_pretrained "
                "writes it. Copy the checkpoint again."
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(
            f"the tokenizer cannot be loaded: {reason}. Expected the files that tokenizer.save_pretrained writes, "
            "tokenizer.json among them."
        ) from error
    if not tokenizer.is_fast:
        raise ExportError(
            f"the tokenizer {type(tokenizer).__name__} has no fast form; expected one that the tokenizers library "
            "can run, saved as tokenizer.json. Use a checkpoint that has it, or build one with tokenizers.Tokenizer."
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
