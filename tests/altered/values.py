"""What is altered: data only."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedge_export.families.completion import keys_of
from embedge_export.families.defaults import DEFAULTS
from embedge_export.source.config_keys import HARMLESS, HARMLESS_AT

VALUES = (
    None,
    "x",
    "",
    -1,
    0,
    0.5,
    1e30,
    10**12,
    True,
    False,
    [],
    ["x"],
    {},
    {"x": 1},
    {"rope_type": "longrope"},
)
DTYPES = ("auto", "cuda", "float31", "torch.float32", "float16", "int8")
_NOT_OF_A_MODEL = ("model_type", "auto_map", "quantization_config", "compression_config")


@dataclass(frozen=True)
class Alteration:
    """One key of one family's config.json at one value."""

    family: str
    key: str
    value: object

    def apply(self, stated: dict[str, object]) -> dict[str, object]:
        """The configuration with that value, and without the newer word for the same."""
        newer = {"torch_dtype": "dtype"}.get(self.key)
        return {key: value for key, value in stated.items() if key != newer} | {self.key: self.value}


def keys(family: str, folder: Path) -> list[str]:
    """What the saved configuration states, what embedge reads of it, and what it passes over."""
    stated = set(json.loads((folder / "config.json").read_text("utf-8")))
    row = DEFAULTS.get(family)
    read = set() if row is None else {*keys_of(row), *row.idle, *row.only}
    return sorted((stated | read | {*HARMLESS, *HARMLESS_AT}) - {*_NOT_OF_A_MODEL})


def passed_over(family: str) -> set[str]:
    """Keys that cannot change numbers, whatever they say."""
    row = DEFAULTS.get(family)
    return {*HARMLESS, *(() if row is None else row.idle)}


def alterations(family: str, folder: Path) -> Iterator[Alteration]:
    """All of a family."""
    for key in keys(family, folder):
        for value in (*VALUES, *(DTYPES if key in ("dtype", "torch_dtype") else ())):
            yield Alteration(family, key, value)


def sample(family: str, folder: Path, count: int) -> list[Alteration]:
    """Some of a family, the same each time."""
    drawn = random.Random(family)
    return drawn.sample(list(alterations(family, folder)), count)
