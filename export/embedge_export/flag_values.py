"""What the values of flags mean; argparse shows the message of one that means nothing."""

from __future__ import annotations

import argparse
from typing import Any

from embedge.errors import did_you_mean
from embedge.types import PoolingMode

POOLINGS: tuple[PoolingMode, ...] = (
    "CLS",
    "LAST",
    "MEAN",
    "MAX",
    "MEAN_SQRT_LEN",
    "WEIGHTEDMEAN",
    "ALL",
    "STEP",
)
"""Modes that may be asked for."""


def pooling(text: str) -> tuple[PoolingMode, ...]:
    """Pooling modes by their names, in any case."""
    modes = text.upper().split(",")
    return tuple(_choice(mode, POOLINGS) for mode in modes)


def _choice(value: str, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise argparse.ArgumentTypeError(
            f"{value!r} is not known; expected one of {', '.join(choices)}.{did_you_mean(value, choices)}"
        )
    return value


def positive(text: str) -> int:
    """A length from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no length; expected a whole number from 1")
    return int(text)


def matryoshka(text: str) -> bool | tuple[int, ...]:
    """Sizes, or True for any."""
    if text == "any":
        return True
    try:
        return tuple(positive(size) for size in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of sizes; expected as 64,128,256, or 'any'"
        ) from None


def prompt(text: str) -> tuple[str, str]:
    """A stored prompt's name and text."""
    name, separator, stored = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is no prompt; expected NAME=TEXT, as in query='query: '")
    return name, stored


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(text.split(","))
