"""A server on loopback that gives files by ranges, breaks off where it is told to, and counts what it was asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """Files by path, and how the server behaves.

    Attributes:
        url: of the server.
        files: content by path.
        tags: an ETag by path; a path without one has none.
        changed: a Last-Modified by path, which a Range may be asked with as well.
        moved: where a path's content is, by the path.
        break_after: bytes after which each of the next answers is cut off.
        ranges: the Range header of each request, "" where there was none.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """Run the server as long as the block runs."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            web.ranges.append(self.headers.get("Range", ""))
            if self.path in web.moved:
                self.send_response(302)
                self.send_header("Location", web.moved[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = web.files.get(self.path)
            if content is None:
                self.send_error(404, "Not Found")
                return
            tag, changed = web.tags.get(self.path), web.changed.get(self.path)
            start = 0
            if self.headers.get("Range") and self.headers.get("If-Range") in {tag, changed} - {None}:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_error(416, "Range Not Satisfiable")
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if tag:
                self.send_header("ETag", tag)
            if changed:
                self.send_header("Last-Modified", changed)
            self.end_headers()
            rest = content[start:]
            if web.break_after:
                self.wfile.write(rest[: web.break_after.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(rest)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
