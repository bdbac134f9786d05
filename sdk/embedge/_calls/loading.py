"""A model loaded for its verbs, or nothing of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from embedge import _log
from embedge._calls.replaying import load_replayed
from embedge._calls.verbs import Verbs
from embedge._engine.engine import Engine
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
    started = time.perf_counter()
    verbs = Verbs(load_replayed(model, options), options)
    info = verbs.engine.info
    _log.info(
        "loaded %r (%s), variant %s on %s with %d threads, in %.2f s",
        info.name,
        info.fingerprint[:12],
        info.variant,
        info.device,
        info.threads,
        time.perf_counter() - started,
    )
    return verbs


def load_again(engine: Engine) -> tuple[str, dict[str, Any]]:
    """With what another process loads the same bundle: its folder, and the arguments of EdgeModel.

    The fingerprint stands in the place of the signature, which was checked.
    """
    options = msgspec.structs.asdict(engine.options)
    options |= {"fingerprint": engine.manifest.fingerprint, "signature": None, "public_key": None}
    return str(engine.choice.bundle.folder.absolute()), options
