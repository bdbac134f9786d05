"""Families by what the exporter has of them."""

from __future__ import annotations

from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from embedge_export.families.table import FAMILIES

NAMED = [name for name, family in FAMILIES.items() if not family.remote]
"""Those that some version of transformers has."""
LOCAL = [name for name in NAMED if name in CONFIG_MAPPING_NAMES]
"""Those that the installed one has."""
BUILT = [
    name
    for name, family in FAMILIES.items()
    if family.encoder is not None and (name in LOCAL or family.remote)
]
WITH_HEADS = [name for name in BUILT if FAMILIES[name].head is not None]
