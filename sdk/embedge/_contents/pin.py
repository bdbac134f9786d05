"""The fingerprint that a caller knows, whole or its beginning: its form, and a bundle's held against it."""

from __future__ import annotations

import re

from embedge.errors import BundleError, ParamsError

_PIN = re.compile("[0-9a-f]{12,64}")


def check_pin(pin: str) -> None:
    """Refuse what is no fingerprint.

    Raises:
        ParamsError: it is not.
    """
    if not _PIN.fullmatch(pin):
        raise ParamsError(
            f"fingerprint={pin!r} is no fingerprint; expected 12 to 64 of its hexadecimal digits, in small letters, as "
            "`embedge inspect` shows them"
        )


def compare_pin(fingerprint: str, pin: str | None, words: str) -> None:
    """Refuse another bundle than the one that is meant.

    Args:
        fingerprint: of the bundle.
        pin: what the caller knows; None knows none.
        words: what messages call the bundle.

    Raises:
        BundleError: it is another one.
    """
    if pin is not None and not fingerprint.startswith(pin):
        raise BundleError(
            f"{words} has the fingerprint {fingerprint}; fingerprint={pin!r} was expected. It is another model, or "
            "another export of it: use the bundle that was meant."
        )
