"""Connections to clients, which have to bring a request in time: each holds a file of the process."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):  # type: ignore[misc]
    """One that is closed where the head of a request does not arrive, which uvicorn would wait for without end."""

    head_timeout_s = 30.0
    """From the beginning of the connection, or the first byte of a later request, to its last header."""
    _head_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._await_no_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        if self._head_timeout is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._await_no_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_timeout = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _await_no_head(self) -> None:
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None


def connections(head_timeout_s: float) -> type[Connection]:
    """Connections that wait so long."""
    return type("Connection", (Connection,), {"head_timeout_s": head_timeout_s})
