"""What is known of each architecture, by the model_type of its config: data, no code."""

from __future__ import annotations

import msgspec

from embedge.errors import ExportError
from embedge.types import PoolingMode


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that the checkpoint's files do not state.

    Attributes:
        pooling: mode where no sentence-transformers file names one; None where the caller has to.
        position_offset: positions of max_position_embeddings that no token can use.
        bounded_positions: max_position_embeddings is the size of a table, so that no text can be longer, whatever
            the checkpoint states.
        max_abs_diff: gate between the graph and the float32 reference.
        encoder_only: class to load where the architecture is an encoder with a decoder.
        default_max_seq_len: limit where neither config nor tokenizer states one.
    """

    pooling: PoolingMode | None = "CLS"
    position_offset: int = 0
    bounded_positions: bool = True
    max_abs_diff: float = 1e-5
    encoder_only: str | None = None
    default_max_seq_len: int | None = None


_ENCODER = Family()
_RELATIVE = Family(bounded_positions=False)
_OFFSET = Family(position_offset=2)
# rotary decoders: hidden states reach magnitudes of 10 to 100, so that float32 itself leaves about 1e-5
_DECODER = Family(pooling="LAST", bounded_positions=False, max_abs_diff=1e-4)
_T5 = Family(pooling="MEAN", bounded_positions=False, encoder_only="T5EncoderModel", default_max_seq_len=512)

FAMILIES: dict[str, Family] = {
    "albert": _ENCODER,
    "bert": _ENCODER,
    "camembert": _OFFSET,
    "deberta": _RELATIVE,
    "deberta-v2": _RELATIVE,
    "distilbert": _ENCODER,
    "electra": _ENCODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
    "llama": _DECODER,
    "mistral": _DECODER,
    "modernbert": _RELATIVE,
    "mpnet": _OFFSET,
    "mt5": msgspec.structs.replace(_T5, encoder_only="MT5EncoderModel"),
    "phi3": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "roberta": _OFFSET,
    "t5": _T5,
    "xlm-roberta": _OFFSET,
}
"""Architectures that tests/export/test_export_architectures.py exports and verifies."""

REMOTE: dict[str, Family] = {
    "new": _RELATIVE,  # GTE-new
    "nomic_bert": msgspec.structs.replace(_RELATIVE, pooling="MEAN"),
}
"""Architectures whose code comes with the checkpoint; others of that sort are taken as _UNKNOWN."""

_UNKNOWN = msgspec.structs.replace(_RELATIVE, pooling=None)

STATIC = Family(pooling="MEAN", bounded_positions=False, default_max_seq_len=1_000_000)
"""Static embeddings have no architecture, and no limit."""


def family_of(model_type: str, *, remote: bool = False) -> Family:
    """Look an architecture up.

    Args:
        model_type: as its config states it.
        remote: its code comes with the checkpoint, whatever transformers has under the same name.

    Raises:
        ExportError: it is not in the table.
    """
    family = REMOTE.get(model_type, _UNKNOWN) if remote else FAMILIES.get(model_type)
    if family is None:
        raise ExportError(
            f"model_type {model_type!r} is not an architecture that embedge knows; expected one of "
            f"{', '.join(sorted(FAMILIES))}. Open an issue with the model's name to have it added."
        )
    return family
