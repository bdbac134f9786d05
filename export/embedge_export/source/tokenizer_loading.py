"""A checkpoint's tokenizer is loaded: through transformers of either generation, or through tokenizers alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embedge.errors import ExportError, MissingExtraError
from embedge_export.source.files import Files
from embedge_export.source.libraries import is_older, load_libraries
from embedge_export.source.light_loading import load_light_tokenizer
from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.tokenizer_classes import GENERIC
from embedge_export.source.tokenizer_config import (
    TokenizerConfig,
    leaves_segments_open,
    loading_options,
    read_tokenizer_config,
)
from embedge_export.source.tokenizer_pipeline import (
    describe_change,
    describe_differences,
    describe_dropout,
    name_of,
)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model")


def load_tokenizer(
    files: Files, code: dict[str, str], ignore_keys: tuple[str, ...] = (), *, light: bool = False
) -> Any:
    """Load the tokenizer as transformers 5 does, through either generation of it or without it.

    Args:
        files: the checkpoint's files.
        code: Python files that loading it may run; empty where it may run none.
        ignore_keys: keys of tokenizer_config.json that the caller wants to be passed over.
        light: through the tokenizers library alone.

    Raises:
        MissingExtraError: it is to be loaded without transformers, which alone knows how.
        ExportError: it cannot be loaded, has no fast form, or states what embedge does not know.
    """
    config = read_tokenizer_config(files.transformer, ignore_keys)
    tokenizer = (
        load_light_tokenizer(files) if light else _auto_tokenizer(files, config, trust_remote_code=bool(code))
    )
    backend = tokenizer.backend_tokenizer
    if not light and is_older():
        _honour_file(backend, files.transformer)
        if leaves_segments_open(files.transformer, tokenizer):
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
    _settle(backend, files)
    return tokenizer


def told_apart(tokenizer: Any, files: Files) -> tuple[str, ...]:
    """How a loaded tokenizer differs from its tokenizer.json, or transformers 5 from what 4 loaded, in words.

    Args:
        tokenizer: what `load_tokenizer` loaded.
        files: the checkpoint's files.
    """
    from tokenizers import Tokenizer

    path = files.transformer / "tokenizer.json"
    if not path.is_file():
        return ()
    stated = Tokenizer.from_file(str(path))
    light, dropout = isinstance(tokenizer, LightTokenizer), getattr(stated.model, "dropout", None)
    _settle(stated, files)
    words = describe_differences(tokenizer, stated, files.transformer)
    if dropout and (name_of(tokenizer) == GENERIC or (not light and is_older())):
        words = (*words, *describe_dropout(dropout))
    if words or light or not is_older():
        return words
    try:
        newer = load_light_tokenizer(files)
    except (ExportError, MissingExtraError):
        return ()  # of a class that embedge does not know without transformers 5
    _settle(newer.backend_tokenizer, files)
    return describe_change(tokenizer, newer, files.transformer)


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


def _settle(backend: Any, files: Files) -> None:
    if files.settings.do_lower_case:
        _lowercase(backend)
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None  # which is for training
    backend.no_truncation()
    backend.no_padding()


def _honour_file(backend: Any, folder: Path) -> None:
    """Put tokenizer.json's own special tokens around texts.

    Classes of transformers 4 make them of add_bos_token and add_eos_token, which transformers 5 does not write; 5 goes
    by the file, and by it alone.
    """
    from tokenizers import Tokenizer, processors

    path = folder / "tokenizer.json"
    if path.is_file():
        stated = Tokenizer.from_file(str(path)).post_processor
        backend.post_processor = stated or processors.TemplateProcessing(
            single="$A:0", pair="$A:0 $B:1", special_tokens=[]
        )


def _auto_tokenizer(files: Files, config: TokenizerConfig, *, trust_remote_code: bool) -> Any:
    load_libraries()
    import transformers

    loader, options = transformers.AutoTokenizer, {}
    if is_older():
        options = dict(loading_options(config))
        if config.tokenizer_class == "TokenizersBackend":  # as transformers 5 calls it
            loader = transformers.PreTrainedTokenizerFast
    options |= {key: value for key, value in files.settings.processor_kwargs.items() if key != "use_fast"}
    try:
        tokenizer = loader.from_pretrained(
            str(files.transformer),
            use_fast=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            **options,
        )
    except Exception as error:  # transformers, tokenizers and sentencepiece raise many classes here
        _check_there(files, _TOKENIZER_FILES)
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
    # transformers 5 makes one with an empty vocabulary where it finds no file
    _check_there(files, tokenizer.vocab_files_names.values())
    return tokenizer


def _check_there(files: Files, names: Iterable[str]) -> None:
    if not any((files.transformer / name).is_file() for name in names):
        raise ExportError(
            f"{files.repository.name} holds no tokenizer; expected tokenizer.json, as save_pretrained "
            "writes it. Copy the checkpoint again."
        )


def _lowercase(backend: Any) -> None:
    # as sentence-transformers does for do_lower_case; a normalizer keeps character offsets true
    from tokenizers.normalizers import Lowercase, Sequence

    state = json.loads(backend.to_str())["normalizer"] or {}
    stages = state.get("normalizers", [state])
    if not any(stage.get("type") == "Lowercase" for stage in stages):
        backend.normalizer = Sequence([Lowercase(), backend.normalizer] if state else [Lowercase()])
