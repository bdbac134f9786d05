"""Poolings that applications bring along: registered in code, or found through an entry point.

An installed package offers one by the entry-point group `embedge.pooling`:

    [project.entry-points."embedge.pooling"]
    span-mean = "my_package:span_mean"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from embedge.errors import PluginError
from embedge.types import FloatArray, IntArray

ENTRY_POINT_GROUP = "embedge.pooling"


class PluginPrompt(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One prompt as a plugin sees it.

    Attributes:
        token_ids: int64 (num_tokens,), specials included.
        hidden_states: float32 (num_tokens, hidden_size), the encoder's last.
        extra_kwargs: of the prompt's PoolingParams; empty where it has none.
    """

    token_ids: IntArray
    hidden_states: FloatArray
    extra_kwargs: dict[str, Any]


PoolingPlugin: TypeAlias = Callable[[Sequence[PluginPrompt]], Sequence[FloatArray]]
"""Takes a batch of prompts, returns one numeric array per prompt, of any shape."""

_PluginT = TypeVar("_PluginT", bound=PoolingPlugin)
_registered: dict[str, PoolingPlugin] = {}


def register_pooling(name: str) -> Callable[[_PluginT], _PluginT]:
    """Register a pooling under a name; use as a decorator.

    Args:
        name: what bundles and `EdgeModel(pooling_plugin=...)` call it.

    Raises:
        PluginError: the name is none, or taken by another callable.
    """
    given: object = name  # a function where the parentheses were forgotten
    if not isinstance(given, str) or not given:
        raise PluginError(
            f'{given!r} names no pooling; expected a text, as in @register_pooling("my-pooling")'
        )

    def register(plugin: _PluginT) -> _PluginT:
        if not callable(plugin):
            raise PluginError(
                f"pooling {name!r} is {plugin!r}; expected a callable that takes a list of PluginPrompt"
            )
        if _registered.get(name, plugin) is not plugin:
            raise PluginError(f"pooling {name!r} is registered already; choose another name")
        _registered[name] = plugin
        return plugin

    return register


def find_pooling(name: str) -> PoolingPlugin:
    """Look a pooling up among the registered ones, then among installed packages.

    Raises:
        PluginError: there is none of this name, or its package cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    from importlib.metadata import entry_points

    offered = entry_points(group=ENTRY_POINT_GROUP)
    for entry in offered:
        if entry.name == name:
            try:
                return register_pooling(name)(entry.load())
            except Exception as error:  # a plugin's import may raise anything
                raise PluginError(
                    f"pooling {name!r} of package {entry.value!r} cannot be loaded: {error!r}"
                ) from error
    known = ", ".join(sorted({*_registered, *(entry.name for entry in offered)})) or "none"
    raise PluginError(
        f"pooling {name!r} is not registered (there: {known}). Call embedge.register_pooling({name!r}), "
        f"or install the package that offers it under the entry-point group {ENTRY_POINT_GROUP!r}."
    )
