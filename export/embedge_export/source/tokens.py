"""Words of a checkpoint's settings, and the token ids that they stand for."""

from __future__ import annotations

from typing import Any

from embedge.errors import ExportError


def token_id(tokenizer: Any, token: int | str) -> int:
    """Id of a single token, given as id or text.

    Raises:
        ExportError: the text is several tokens, or the id lies outside of the vocabulary.
    """
    if isinstance(token, int):
        if not 0 <= token < len(tokenizer):
            raise ExportError(
                f"token id {token} lies outside of the vocabulary; expected 0 to {len(tokenizer) - 1}"
            )
        return token
    known = tokenizer.get_vocab().get(token)
    ids = [known] if known is not None else tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ExportError(
            f"{token!r} is {len(ids)} tokens of this vocabulary or unknown to it; expected a single token. "
            "Name another one."
        )
    return int(ids[0])
