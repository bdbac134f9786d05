"""Python code that a checkpoint brings along: what it is, said before any of it runs."""

from __future__ import annotations

import logging
from pathlib import Path

from embedge.bundle import sha256_file
from embedge.errors import ExportError
from embedge_export.source.repository import Repository, read_json

_LOG = logging.getLogger(__name__)


def find_code(repository: Repository, transformer: Path, *, trusted: bool) -> dict[str, str]:
    """Find the code that loading a checkpoint would run.

    Args:
        repository: the checkpoint.
        transformer: folder of its config and tokenizer.
        trusted: the caller passed --trust-remote-code.

    Returns:
        Python files by their path in the checkpoint, with their hashes; empty where it brings no code.

    Raises:
        ExportError: it brings code that is not trusted, not there, or of another repository.
    """
    named = [
        (file, str(reference))
        for file in ("config.json", "tokenizer_config.json")
        for references in (read_json(transformer, file).get("auto_map") or {}).values()
        for reference in (references if isinstance(references, list) else [references])
        if reference is not None
    ]
    if not named:
        return {}
    file, reference = named[0]
    if not trusted:
        raise ExportError(
            f"{repository.name} brings its own Python code (auto_map in {file}), which exporting would run; "
            "expected an architecture of transformers. Read the code, then pass --trust-remote-code."
        )
    for file, reference in named:
        if "--" in reference:
            raise ExportError(
                f"auto_map in {file} names code of another repository, {reference!r}, which can change at any time; "
                f"expected files of {repository.name}. Copy them beside config.json and name them without "
                f"{reference.split('--')[0] + '--'!r}."
            )
        module = reference.rsplit(".", 1)[0].replace(".", "/") + ".py"
        if not (transformer / module).is_file():
            raise ExportError(
                f"auto_map in {file} names {reference!r}, but there is no {module}; expected the file beside "
                f"{file}. Copy the checkpoint again."
            )
    # a module may import any other one beside it
    return {
        path.relative_to(repository.folder).as_posix(): sha256_file(path)
        for path in sorted(transformer.rglob("*.py"))
    }


def announce(repository: Repository, code: dict[str, str]) -> None:
    """Warn, in the log, which files are about to run; it goes to stderr unless the program decides otherwise."""
    _LOG.warning(
        "WARNING: running Python code of %s on this machine, as --trust-remote-code allows. "
        "It can do whatever you can do:",
        repository.name,
    )
    for name, sha256 in code.items():
        _LOG.warning("WARNING:   %s  sha256 %s", name, sha256)
