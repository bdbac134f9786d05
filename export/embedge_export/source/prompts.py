"""Stored prompts: what config_sentence_transformers.json and the caller put before texts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge.errors import ExportError, did_you_mean, expected_one_of
from embedge_export.source.files import Files
from embedge_export.source.stated import read_stated
from embedge_export.source.towers import default_prompt
from embedge_export.spec import ExportSpec


class Prompts(msgspec.Struct, frozen=True):
    """Stored prompts by name, and the name of the one that is applied where none is asked for."""

    texts: dict[str, str]
    default_name: str | None

    @property
    def default(self) -> str | None:
        """Its text."""
        return self.texts.get(self.default_name or "")


def default_name(folder: Path, spec: ExportSpec) -> str | None:
    """Name of the prompt of calls that name neither a prompt nor a tower."""
    stated = read_stated(folder, has_modules=True, ignore_keys=spec.ignore_keys)
    return spec.default_prompt_name or stated.get("default_prompt_name")


def read_prompts(files: Files, spec: ExportSpec) -> Prompts:
    """Read the library's prompts, the caller's put over them.

    Raises:
        ExportError: the default is not among them.
    """
    texts = {**files.stated.get("prompts", {}), **spec.prompts}
    stated = default_prompt(spec.tower, texts, files.stated.get("default_prompt_name"))
    name = spec.default_prompt_name or stated
    if name is not None and name not in texts:
        raise ExportError(
            f"the default prompt {name!r} is not stored; {expected_one_of(texts, 'no prompt is')}. "
            f"Store it with --prompt {name}=TEXT."
            f"{did_you_mean(name, texts)}"
        )
    return Prompts(texts, name)
