"""A module's config.json, and its values as they are taken out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from embedge.errors import ExportError
from embedge_export.source.fields import account_for, optional_text, some_bool, whole
from embedge_export.source.repository import read_json

_RESERVED = {
    "all_layer_embeddings", "attention_mask", "cls_token_embeddings", "input_ids", "inputs_embeds", "position_ids",
    "prompt_length", "token_type_ids", "token_weights_sum",
}  # fmt: skip
"""Features that other modules read without saying so."""


class ModuleConfig:
    """The file of one module.

    Args:
        folder: the module's.
        path: its path in the checkpoint, for messages.
        ignore_keys: keys that the caller wants to be passed over.

    Attributes:
        file: path of the file in the checkpoint.
        stated: what it holds.
    """

    def __init__(self, folder: Path, path: str, ignore_keys: tuple[str, ...]) -> None:
        self.file = f"{path}/config.json"
        self.stated = read_json(folder, "config.json")
        self._ignore_keys = ignore_keys

    def account_for(self, known: Iterable[str], ignored: dict[str, str] | None = None) -> None:
        """Refuse keys that are neither known nor ignored."""
        account_for(self.stated, self.file, known=known, ignored=ignored or {}, ignore_keys=self._ignore_keys)

    def whole(self, key: str) -> int:
        """A size that has to be stated."""
        if key not in self.stated:
            raise ExportError(f"{self.file} does not state {key!r}; expected the sizes of the module")
        return whole(self.stated[key], key, self.file)

    def bool(self, key: str, default: bool) -> bool:
        """True or false."""
        return some_bool(self.stated.get(key, default), key, self.file)

    def names(self, reads: str) -> dict[str, str]:
        """Features that the module reads and writes."""
        name = optional_text(self.stated.get("module_input_name"), "module_input_name", self.file) or reads
        output = optional_text(self.stated.get("module_output_name"), "module_output_name", self.file) or name
        if output in _RESERVED:
            raise ExportError(
                f"module_output_name in {self.file} is {output!r}, which other modules read as something else; "
                "expected a feature of its own. Give it another name in a copy of the checkpoint, or run the model "
                "with sentence-transformers."
            )
        return {"module_input_name": name, "module_output_name": output}
