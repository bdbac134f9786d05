"""Errors of the SDK in the words of the command line: `--truncate 0` where Python has truncate_prompt_tokens=0."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "api_key": "--api-key",
        "chunk": "--chunk",
        "column": "--column",
        "device": "--device",
        "dimensions": "--dimensions",
        "encoding": "--encoding",
        "encoding_errors": "--encoding-errors",
        "fingerprint": "--fingerprint",
        "force": "--force",
        "host": "--host",
        "id_column": "--id-column",
        "input_format": "--input-format",
        "instruction": "--instruction",
        "keep_texts": "--no-texts",
        "long_text": "--long-text",
        "max_body_bytes": "--max-body-bytes",
        "max_inputs": "--max-inputs",
        "max_memory_mb": "--max-memory",
        "max_requests": "--max-requests",
        "method": "--method",
        "name": "--name",
        "normalize": "--normalize",
        "on_error": "--on-error",
        "oversample": "--oversample",
        "overwrite": "--overwrite",
        "pair_column": "--pair-column",
        "pooling_task": "--task",
        "port": "--port",
        "precision": "--precision",
        "prompt": "--prompt",
        "prompt_name": "--prompt-name",
        "public_key": "--public-key",
        "rescore": "--rescore",
        "resume": "--resume",
        "signature": "--signature",
        "task": "--task",
        "text_per_file": "--text-per-file",
        "threads": "--threads",
        "threshold": "--threshold",
        "top": "--top",
        "top_n": "--top",
        "tower": "--tower",
        "truncate_prompt_tokens": "--truncate",
        "trust": "--trust",
        "use_activation": "--logits",
        "variant": "--variant",
    }
)
"""Parameters by the flags that mean them."""

_PLAIN_WORD = r"[A-Za-z0-9_.:+-]+"


def in_words(message: str, flags: Iterable[str]) -> str:
    """A message with each parameter as the flag that means it, where the command has that flag.

    Args:
        message: of an error, which names parameters as `name=value`, and those of several words alone, too.
        flags: names of the command's options.
    """
    has = set(flags)
    for parameter, flag in FLAGS.items():
        if flag not in has:
            continue
        begins = rf"(?<![\w.-]){parameter}"
        message = re.sub(rf"{begins}=(?:True\b|\.\.\.|(?=[.,;:)]?(?:\s|$)))", flag, message)
        message = re.sub(rf"{begins}=(['\"])({_PLAIN_WORD})\1", rf"{flag} \2", message)
        message = re.sub(rf"{begins}=(?=\S)", f"{flag} ", message)
        if "_" in parameter:
            message = re.sub(rf"{begins}(?![\w=])", flag, message)
    return _without_none(message)


def _without_none(message: str) -> str:
    """Nobody writes None on a command line."""
    message = re.sub(r"\bNone, (?=\S)", "", message)
    return re.sub(r",? or None\b", "", message)
