"""An application's own pooling, called and checked: it is foreign code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embedge.errors import PluginError
from embedge.plugins import PluginPrompt, PoolingPlugin
from embedge.types import FloatArray


def call_plugin(plugin: PoolingPlugin, prompts: Sequence[PluginPrompt]) -> list[FloatArray]:
    """What the plugin returns, as float32.

    Raises:
        PluginError: it raised, or did not return one numeric array per prompt.
    """
    name = getattr(plugin, "__name__", repr(plugin))
    try:
        returned: Any = plugin(prompts)
    except Exception as error:  # foreign code may raise anything
        raise PluginError(f"pooling plugin {name} raised {type(error).__name__}: {error}") from error
    if not hasattr(returned, "__len__") or len(returned) != len(prompts):
        count = len(returned) if hasattr(returned, "__len__") else type(returned).__name__
        raise PluginError(
            f"pooling plugin {name} returned {count} for {len(prompts)} prompts; expected one array each"
        )
    arrays = []
    for array in returned:
        if not isinstance(array, np.ndarray) or array.ndim == 0 or array.dtype.kind not in "fiu":
            shown = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise PluginError(
                f"pooling plugin {name} returned {shown}; expected a numeric numpy array of one dimension or more"
            )
        arrays.append(array.astype(np.float32, copy=False))
    return arrays
