"""numpy's numbers and truth values are taken for Python's."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Python's number for one of numpy's, a list for an array of them; everything else as it is."""
    if isinstance(value, np.generic):
        item = value.item()
        return item if isinstance(item, (bool, int, float)) else value
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iu":
        return value.tolist()
    if isinstance(value, list) and any(isinstance(each, np.generic) for each in value):
        return [plain(each) for each in value]
    return value
