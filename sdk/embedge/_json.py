"""Why what was read is not JSON, where the decoder's own words lead astray."""

from __future__ import annotations

import contextlib
import json
import re

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def why_not_json(data: str | bytes, error: Exception) -> str:
    """The decoder's words; those of its "truncated" that mean half of a surrogate pair say so.

    Args:
        data: what was decoded.
        error: what came of it.
    """
    encoded = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if _HALF.search(encoded):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(encoded)
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                return "a string holds half of a surrogate pair, which is no text"
    return str(error)
