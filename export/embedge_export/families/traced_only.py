"""Families whose graphs are always traced: only their facts are known."""

from __future__ import annotations

import msgspec

from embedge_export.families.family import Family

T5 = Family(pooling="MEAN", bounded_positions=False, encoder_only="T5EncoderModel", default_max_seq_len=512)
MT5 = msgspec.structs.replace(T5, encoder_only="MT5EncoderModel")
