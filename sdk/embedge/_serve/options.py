"""What a server may be told, and what is wrong with it."""

from __future__ import annotations

import ipaddress

import msgspec

from embedge.errors import ParamsError


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens and what it takes.

    Attributes:
        host: address or name to listen at.
        port: 0 means any free one.
        api_key: what clients send as "Authorization: Bearer KEY"; None asks for none, on loopback only.
        max_requests: requests that are read, wait or are computed at a time; more are answered with 429.
        max_inputs: texts of one request.
        max_body_bytes: of one request.
        body_timeout_s: seconds in which a request's head has to arrive, and then its body.
        stop_timeout_s: seconds that requests under way have to end when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    max_requests: int = 512
    max_inputs: int = 2048
    max_body_bytes: int = 8_000_000
    body_timeout_s: float = 30.0
    stop_timeout_s: int = 30

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ParamsError(f"port={self.port} is not possible; expected 1 to 65535, or 0 for any free one")
        for name in ("max_requests", "max_inputs", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise ParamsError(f"{name}={getattr(self, name)} is not possible; expected 1 or more")
        if self.api_key is not None and not (self.api_key.isprintable() and self.api_key.strip()):
            raise ParamsError("the API key is empty or has control characters; expected printable text")
        if self.api_key is None and not is_loopback(self.host):
            raise ParamsError(
                f"host={self.host!r} can be reached from other machines, and no API key is set; expected one. Set "
                "EMBEDGE_API_KEY or pass --api-key, or listen at 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may lead anywhere."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "localhost.")
