"""Generations of the libraries that save checkpoints: one newer than any known here is refused by its version."""

from __future__ import annotations

import re

from embedge.errors import ExportError

KNOWN = {"sentence_transformers": 6, "transformers": 5}
"""The newest major version of each library whose files were read for this exporter."""


def check_generation(library: str, version: object, file: str, key: str) -> None:
    """Refuse what was saved by a library of a later major version.

    Args:
        library: its name as Python knows it.
        version: as the file states it; anything that begins with no number passes.
        file: where it stands.
        key: under which key.

    Raises:
        ExportError: it is later.
    """
    major = re.match(r"\d+", str(version))
    if major is not None and int(major[0]) > KNOWN[library]:
        raise ExportError(
            f"{file} was saved by {library} {version} ({key}), and embedge knows its files up to version "
            f"{KNOWN[library]}; expected one of these, for newer files may say what is not understood here. Install a "
            f"newer embedge, or pass --ignore-key {key} where you know that nothing changed."
        )
