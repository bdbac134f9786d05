"""Values of a checkpoint's JSON files, checked where they are taken out: files are written by people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from embedge.errors import ExportError


def whole(value: Any, name: str, file: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        ExportError: it is something else, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong_value(value, name, file, f"a whole number from {least}")
    return value


def positive(value: Any) -> int | None:
    """A whole number above 0, or None for everything else."""
    return int(value) if isinstance(value, int) and value > 0 else None


def optional_text(value: Any, name: str, file: str) -> str | None:
    """A text, or None where there is none.

    Raises:
        ExportError: it is something else.
    """
    return None if value is None else some_text(value, name, file)


def some_text(value: Any, name: str, file: str) -> str:
    """A text.

    Raises:
        ExportError: it is something else.
    """
    if not isinstance(value, str):
        raise wrong_value(value, name, file, "a text")
    return value


def some_texts(value: Any, name: str, file: str) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ExportError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise wrong_value(value, name, file, "a list of texts")
    return tuple(value)


def texts_by_name(value: Any, name: str, file: str) -> dict[str, str]:
    """Texts by name.

    Raises:
        ExportError: it is something else.
    """
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise wrong_value(value, name, file, "an object whose values are texts")
    return value


def some_object(value: Any, name: str, file: str) -> dict[str, Any]:
    """An object; null is an empty one.

    Raises:
        ExportError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_value(value, name, file, "an object")
    return value


def some_bool(value: Any, name: str, file: str) -> bool:
    """True or false.

    Raises:
        ExportError: it is something else.
    """
    if not isinstance(value, bool):
        raise wrong_value(value, name, file, "true or false")
    return value


def account_for(
    stated: Mapping[str, Any],
    file: str,
    *,
    known: Iterable[str],
    ignored: Mapping[str, str],
    ignore_keys: Iterable[str] = (),
) -> None:
    """Refuse an object with a key that is neither read nor known to change no number.

    Args:
        stated: the object.
        file: where it stands.
        known: keys that are read.
        ignored: keys that are not, each with the reason why it cannot change a number.
        ignore_keys: keys that the caller wants to be passed over.

    Raises:
        ExportError: another key.
    """
    known = tuple(known)
    unknown = sorted(set(stated) - set(known) - set(ignored) - set(ignore_keys))
    if unknown:
        expected = f"some of {', '.join(sorted(known))}" if known else "no such key"
        raise unknown_keys(unknown, stated, f"{file} states", "embedge does not know", expected)


def unknown_keys(
    unknown: Sequence[str], stated: Mapping[str, Any], opening: str, who: str, expected: str, advice: str = ""
) -> ExportError:
    """The error for keys that nobody is known to read, and on which numbers may depend.

    Args:
        unknown: the keys.
        stated: the object that has them.
        opening: what states them.
        who: does not know them, in words.
        expected: instead of them.
        advice: what can be done besides ignoring them, as a sentence.
    """
    shown = ", ".join(f"{key} ({_shown(stated[key])})" for key in unknown)
    flags = " ".join(f"--ignore-key {key}" for key in unknown)
    words = f"{opening} {shown}, which {who}; expected {expected}. {advice}"
    return ExportError(f"{words.strip()} If you know that it changes no number, pass {flags}.")


def wrong_value(value: Any, name: str, file: str, expected: str) -> ExportError:
    """The error for a value of another type or range than expected."""
    return ExportError(
        f"{name} in {file} is {_shown(value)}; expected {expected}. "
        "Correct the file, or restore it from the model's origin."
    )


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
