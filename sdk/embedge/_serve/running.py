"""A server from its socket to its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn

from embedge._serve.app import application
from embedge._serve.connections import connections
from embedge._serve.handling import Served
from embedge._serve.metrics import Metrics
from embedge._serve.models import Models, models_by_name
from embedge._serve.options import ServeOptions
from embedge.errors import ParamsError
from embedge.model import EdgeModel

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""Longer than clients keep a connection that they do not use, so that none is closed as a request is sent."""


def serve(
    bundles: Sequence[str],
    model_options: dict[str, Any],
    options: ServeOptions,
    on_ready: Callable[[Models, str], None],
) -> None:
    """Load bundles and answer until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        bundles: folders, or names in the store.
        model_options: arguments of EdgeModel, for each of them.
        options: where and how much.
        on_ready: called with the models and the address when connections are taken.

    Raises:
        ParamsError: the address cannot be listened at, or two bundles have the same name.
        BundleError, ProviderUnavailableError: as EdgeModel.
    """
    with contextlib.closing(_bound(options)) as listening, contextlib.ExitStack() as opened:
        models = models_by_name(
            opened.enter_context(_closing(EdgeModel(bundle, **model_options))) for bundle in bundles
        )
        served = Served(models, options, Metrics())
        config = uvicorn.Config(
            application(served),
            http=connections(options.body_timeout_s),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=options.stop_timeout_s,
        )
        server = uvicorn.Server(config)
        with _stopped_by_signals(server):
            listening.listen(_BACKLOG)
            host = f"[{options.host}]" if ":" in options.host else options.host
            on_ready(models, f"http://{host}:{listening.getsockname()[1]}")
            asyncio.run(server.serve(sockets=[listening]))


def _bound(options: ServeOptions) -> socket.socket:
    """A socket that has the address and takes no connections yet."""
    made: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        if hasattr(signal, "SIGHUP"):  # on Windows the option lets two programs have one port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        if made is not None:
            made.close()
        if error.errno == errno.EADDRINUSE:
            raise ParamsError(
                f"port {options.port} of {options.host} is in use; expected a free one. Stop the program that listens "
                "there, or pass --port with another, 0 for any that is free"
            ) from None
        raise ParamsError(
            f"nothing can listen at {options.host} port {options.port}: {error.strerror or error}; expected an address "
            "of this machine and a port that this user may take"
        ) from None
    return made


@contextlib.contextmanager
def _closing(model: EdgeModel) -> Iterator[EdgeModel]:
    try:
        yield model
    finally:
        model.close(timeout_s=5)


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Take the signals that uvicorn leaves: one that comes before its own handlers, and the one that it raises again.

    uvicorn stops for a signal, and afterwards has it do what it would have done, which ends the process as if killed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
