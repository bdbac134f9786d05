"""Requests that are refused: why, with which status, and in the words of the interface that was called."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from embedge.errors import CallCancelledError, DeviceMemoryError, EmbedgeError

Interface: TypeAlias = Literal["openai", "cohere", "tei"]
Reason: TypeAlias = Literal[
    "key",
    "host",
    "path",
    "model",
    "json",
    "field",
    "value",
    "inputs",
    "body",
    "slow",
    "type",
    "busy",
    "failed",
    "stopping",
]


class _Row(msgspec.Struct, frozen=True):
    """How a reason is told.

    Attributes:
        status: of OpenAI's and Cohere's interface.
        tei_status: of TEI's.
        code: error.code of OpenAI's.
        tei_type: error_type of TEI's.
    """

    status: int
    tei_status: int
    code: str
    tei_type: str


_ROWS: dict[Reason, _Row] = {
    "body": _Row(413, 413, "body_too_large", "Validation"),
    "busy": _Row(429, 429, "overloaded", "Overloaded"),
    "failed": _Row(500, 424, "internal_error", "Backend"),
    "field": _Row(400, 422, "invalid_body", "Validation"),
    "host": _Row(403, 403, "host_not_allowed", "Validation"),
    "inputs": _Row(422, 413, "too_many_inputs", "Validation"),
    "json": _Row(400, 400, "invalid_json", "Validation"),
    "key": _Row(401, 401, "invalid_api_key", "Unauthorized"),
    "model": _Row(404, 404, "model_not_found", "Validation"),
    "path": _Row(404, 404, "not_found", "Validation"),
    "slow": _Row(408, 408, "timeout", "Validation"),
    "stopping": _Row(503, 503, "unavailable", "Unhealthy"),
    "type": _Row(415, 415, "not_json", "Validation"),
    "value": _Row(400, 422, "invalid_value", "Validation"),
}


class Refusal(EmbedgeError):  # noqa: N818  # an answer, as the client's request asks for
    """A request that is not answered with numbers; what it quotes of the request is printable, and not longer than any.

    Attributes:
        reason: what kind of.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def refusal_of(error: EmbedgeError) -> Refusal:
    """What the SDK refused: the client's values, or what went wrong here."""
    if isinstance(error, CallCancelledError):
        return Refusal("stopping", "the server stops; ask again when it is up")
    if isinstance(error, ValueError):
        return Refusal("value", str(error))
    return Refusal("busy" if isinstance(error, DeviceMemoryError) else "failed", str(error))


def told(refusal: Refusal, interface: Interface) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of a refusal."""
    row = _ROWS[refusal.reason]
    headers = {
        "busy": {"retry-after": "1"},
        "key": {"www-authenticate": "Bearer"},
        "body": {"connection": "close"},
    }.get(refusal.reason, {})
    message = str(refusal)
    if interface == "tei":
        return row.tei_status, {"error": message, "error_type": row.tei_type}, headers
    if interface == "cohere":
        return row.status, {"message": message}, headers
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        row.status, "server_error" if row.status >= 500 else "invalid_request_error"
    )
    error = {"message": message, "type": kind, "param": None, "code": row.code}
    return row.status, {"error": error}, headers
