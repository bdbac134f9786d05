"""A model loaded for its verbs, or nothing of it."""

from __future__ import annotations

from embedge._calls.replaying import load_replayed
from embedge._calls.verbs import Verbs
from embedge._engine.options import LoadOptions
from embedge._lifetime import freed_on_failure
from embedge.types import PathLike


def open_verbs(model: PathLike, options: LoadOptions) -> Verbs:
    """Load a bundle, and answer for it; what was built until an error is freed, even where the error is kept.

    Raises:
        BundleError, ParamsError, PluginError, ProviderUnavailableError, SessionError: as EdgeModel.
    """
    with freed_on_failure():
        return _open(model, options)


def _open(model: PathLike, options: LoadOptions) -> Verbs:
    return Verbs(load_replayed(model, options), options)
