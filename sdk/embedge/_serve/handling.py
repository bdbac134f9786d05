"""One request from its first byte to its answer: who may ask, how much, and what becomes of it when nobody waits."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from embedge._json import why_not_json
from embedge._serve.metrics import Metrics
from embedge._serve.models import Answer, Models
from embedge._serve.options import ServeOptions, is_loopback
from embedge._serve.refusals import Interface, Refusal, refusal_of, told
from embedge.errors import EmbedgeError

_LOG = logging.getLogger("embedge")
_GONE = 499
"""Status that nginx counts for clients that did not wait."""
_DRAINED_BYTES = 64_000_000
"""Of a refused body so much is read, as a client that is still sending would see a broken connection, not why."""


class Served(msgspec.Struct, frozen=True, eq=False):
    """What requests are answered with."""

    models: Models
    options: ServeOptions
    metrics: Metrics


class Endpoint(msgspec.Struct, frozen=True, eq=False):
    """What is computed at a path.

    Attributes:
        path: of the request.
        interface: whose words refusals take.
        read: a body becomes a request.
        answer: a request becomes an answer.
    """

    path: str
    interface: Interface
    read: Callable[[bytes], Any]
    answer: Callable[[Any, Models, ServeOptions], Awaitable[Answer]]


async def handle(http: Request, endpoint: Endpoint, served: Served) -> Response:
    """Answer a request that computes."""
    began = time.perf_counter()
    try:
        response = await _within_limits(http, endpoint, served)
    except Refusal as refusal:
        await _drained(http)
        response = refused(refusal, endpoint.interface)
    except ClientDisconnect:
        response = Response(status_code=_GONE)
    served.metrics.count(endpoint.path, response.status_code, time.perf_counter() - began)
    return response


def refused(refusal: Refusal, interface: Interface) -> Response:
    """A refusal as a response."""
    status, body, headers = told(refusal, interface)
    return as_json(body, status, headers)


def as_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response with a JSON body."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def check_caller(http: Request, options: ServeOptions) -> None:
    """Refuse who has no key, and, where none is asked for, pages of a browser that reached this machine by a name.

    Raises:
        Refusal: see above.
    """
    if options.api_key is None:
        for host in http.headers.getlist("host"):
            name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
            if name and not is_loopback(name):
                raise Refusal(
                    "host",
                    f"the request names host {host!r}; expected localhost or 127.0.0.1, or a server with an API key",
                )
        return
    scheme, _, given = http.headers.get("authorization", "").partition(" ")
    is_key = hmac.compare_digest(given.strip().encode("latin-1"), options.api_key.strip().encode())
    if scheme.lower() != "bearer" or not is_key:
        raise Refusal(
            "key", "the API key is missing or wrong; expected the server's, as 'Authorization: Bearer KEY'"
        )


async def _within_limits(http: Request, endpoint: Endpoint, served: Served) -> Response:
    check_caller(http, served.options)
    _check_form(http)
    metrics = served.metrics
    if metrics.in_flight >= served.options.max_requests:
        raise Refusal(
            "busy", f"{metrics.in_flight} requests are under way, which is the most; ask again later"
        )
    metrics.in_flight += 1
    try:
        body = await _body(http, served.options)
        return await _while_awaited(http, _answered(body, endpoint, served))
    finally:
        metrics.in_flight -= 1


def _check_form(http: Request) -> None:
    """Refuse bodies that are said to be another thing than JSON in UTF-8."""
    stated = http.headers.get("content-type", "").lower()
    kind, _, parameters = stated.partition(";")
    if kind.strip() != "application/json":
        raise Refusal("type", f"content-type is {kind.strip()!r}; expected application/json")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Refusal("type", f"the body's charset is {charset!r}; expected utf-8, which JSON always is")
    encoding = http.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal("type", f"content-encoding is {encoding!r}; expected a body that is not compressed")


async def _body(http: Request, options: ServeOptions) -> bytes:
    try:
        return await asyncio.wait_for(_read(http, options.max_body_bytes), options.body_timeout_s)
    except TimeoutError:
        raise Refusal("slow", f"the body did not arrive within {options.body_timeout_s:g} s") from None


async def _read(http: Request, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in http.stream():
        size += len(chunk)
        if size > most:
            raise Refusal(
                "body",
                f"the body has more than {most:,} bytes, which is the most. Send the texts in several requests",
            )
        chunks.append(chunk)
    return b"".join(chunks)


async def _drained(http: Request) -> None:
    """Read what a client still sends, within bounds, so that it comes to read why."""

    async def drain() -> None:
        size = 0
        message: dict[str, Any] = {"more_body": True}
        while message.get("more_body") and size < _DRAINED_BYTES:
            message = dict(await http.receive())
            size += len(message.get("body", b""))

    if not http._stream_consumed:
        try:
            await asyncio.wait_for(drain(), 5)
        except TimeoutError:
            return


async def _answered(body: bytes, endpoint: Endpoint, served: Served) -> Response:
    """Compute.

    Raises:
        Refusal: what was sent cannot be computed, or failed.
    """
    try:
        request = endpoint.read(body)
    except msgspec.ValidationError as error:
        raise Refusal("field", f"the body is not what {endpoint.path} takes: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Refusal("json", f"the body is not JSON: {why_not_json(body, error)}") from None
    try:
        answer = await endpoint.answer(request, served.models, served.options)
    except Refusal:
        raise
    except EmbedgeError as error:
        raise refusal_of(error) from None
    except Exception:
        _LOG.exception("a request to %s failed", endpoint.path)
        raise Refusal("failed", "the server failed; its log says why") from None
    served.metrics.count_answer(answer)
    return as_json(answer.body)


async def _while_awaited(http: Request, answering: Any) -> Response:
    """Compute as long as the client is there; what nobody waits for is cancelled."""
    answer = asyncio.ensure_future(answering)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return Response(status_code=_GONE)
        response: Response = answer.result()
        return response
    finally:
        gone.cancel()
        answer.cancel()


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
