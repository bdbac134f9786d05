"""Families by what the exporter has of them."""

from __future__ import annotations

from embedge_export.families.table import FAMILIES

LOCAL = [name for name, family in FAMILIES.items() if not family.remote]
BUILT = [name for name, family in FAMILIES.items() if family.encoder is not None]
WITH_HEADS = [name for name, family in FAMILIES.items() if family.head is not None]
