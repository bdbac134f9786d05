"""A file from a URL, gone on with where an earlier try was broken off."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.client
import ipaddress
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from embedge._replacing import replace_whole
from embedge._version import __version__
from embedge.errors import BundleError

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_TRIES = 5
_PAUSE_S = 0.5
_GONE_ON_WITH = 206
_OUT_OF_RANGE = 416
_BROKEN_OFF = (http.client.HTTPException, TimeoutError, ConnectionError)


def is_url(text: str) -> bool:
    """Whether something is asked for over the web."""
    return text.lower().startswith(("http://", "https://"))


def _check_way(url: str) -> None:
    """Refuse what could be changed on its way: only TLS keeps it, and what does not leave this machine needs none.

    Raises:
        BundleError: it is not encrypted, or no URL.
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise _no_url(url, error) from error
    if parts.scheme.lower() == "https" or parts.hostname == "localhost":
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(parts.hostname or "").is_loopback:
            return
    raise BundleError(
        f"{url} is not encrypted, so that anyone on the way could have changed it; expected https, or the "
        "bundle's fingerprint besides. Ask its maker for it, and pass it as fingerprint=..."
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a server sends to, by a way that is refused no less than the first."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_way(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _no_url(url: str, error: Exception) -> BundleError:
    return BundleError(f"{url!r} is no URL: {error}. Expected one of http or https.")


def download(
    url: str, folder: Path, progress: Callable[[int, int], None] | None = None, *, pinned: bool = False
) -> Path:
    """Fetch a file.

    Args:
        url: of http or https.
        folder: where it is kept, under a name made of the URL; what an earlier try has left there is gone on with where
            the server still has the same.
        progress: told the bytes that are there, and all of them; 0 where the server does not say.
        pinned: what comes is held against a fingerprint that the caller knows, so it may come by any way.

    Returns:
        The file.

    Raises:
        BundleError: the server does not answer, or says no, or the disk is too small; or it would come unencrypted.
    """
    if not pinned:
        _check_way(url)
    opener = urllib.request.build_opener(*([] if pinned else [_Redirects()]))
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.part"
    for attempt in range(_TRIES):
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _fetch(opener, url, part, progress):
                return part
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != _OUT_OF_RANGE:
                raise BundleError(
                    f"{url} answers {error.code} {error.reason}; expected the file. Check the URL."
                ) from error
            part.unlink(missing_ok=True)
        except (http.client.InvalidURL, ValueError) as error:  # of a port or a blank; of what is not ASCII
            raise _no_url(url, error) from error
        except (*_BROKEN_OFF, urllib.error.URLError) as error:
            came = part.stat().st_size if part.is_file() else 0
            if attempt == _TRIES - 1 or came == before == 0:
                raise BundleError(
                    f"{url} cannot be fetched: {getattr(error, 'reason', None) or error}. Check the network and the "
                    "URL; what has come so far is kept, and the next try goes on with it."
                ) from error
        time.sleep(_PAUSE_S * (attempt + 1))
    raise BundleError(f"{url} broke off {_TRIES} times. What has come so far is kept; try again later.")


def _fetch(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    progress: Callable[[int, int], None] | None,
) -> bool:
    """Append what is missing; whether all is there."""
    facts = part.with_suffix(".json")
    size = part.stat().st_size if part.is_file() else 0
    kept: dict[str, Any] = _read(facts) if size else {}
    headers = {"User-Agent": f"embedge/{__version__}", "Accept-Encoding": "identity"}
    if size and kept.get("validator"):
        headers |= {"Range": f"bytes={size}-", "If-Range": kept["validator"]}
    with opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as answer:
        goes_on = answer.status == _GONE_ON_WITH
        size = size if goes_on else 0
        length = answer.length or 0
        total = size + length if length else 0
        free = shutil.disk_usage(part.parent).free
        if length > free:
            raise BundleError(
                f"{url} has {length / 1e6:.1f} MB left, and the disk has {free / 1e6:.1f} MB free. Free some space."
            )
        if not goes_on:
            replace_whole(facts, json.dumps({"url": url, "validator": _validator(answer.headers)}).encode())
        with part.open("ab" if goes_on else "wb") as written:
            while chunk := answer.read(_CHUNK_BYTES):
                written.write(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(size, total)
            written.flush()
            os.fsync(written.fileno())
    return not total or size >= total


def _validator(headers: Any) -> str | None:
    """What tells the same file from another one: a strong tag, or the time of the last change."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    changed = headers.get("Last-Modified")
    return str(changed) if changed and email.utils.parsedate(changed) else None


def _read(facts: Path) -> dict[str, Any]:
    try:
        found = json.loads(facts.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
