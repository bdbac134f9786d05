"""A model hub on loopback: repositories of folders, each with commits, as huggingface_hub asks for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".onnx", ".h5", ".msgpack")
"""What a hub stores apart, and redirects to."""


@dataclass
class Hub:
    """Repositories and what was asked of them.

    Attributes:
        url: its address.
        store: address of what it stores apart: another host, where redirects end.
        commits: files of each commit, by repository id and commit.
        heads: commit of each branch, by repository id and branch.
        gated: repositories whose terms have to be accepted.
        cut: how many bytes of a file are sent before the connection is dropped; once for each entry of its list.
        asked: method, path and Range of each request.
    """

    url: str = ""
    store: str = ""
    commits: dict[tuple[str, str], dict[str, Path]] = field(default_factory=dict)
    heads: dict[tuple[str, str], str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    on_tree: Any = None

    def add(self, repository: str, folder: Path, branch: str = "main") -> str:
        """Commit a folder's files to a branch."""
        files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        commit = hashlib.sha1(b"".join(_hash(p).encode() for p in files.values())).hexdigest()
        self.commits[repository, commit] = files
        self.heads[repository, branch] = commit
        return commit

    def fetched(self) -> set[str]:
        """Files whose content was sent."""
        paths = [path for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]
        return {path.split("/resolve/")[1].partition("/")[2] for path in paths}


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url, hub.store = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/api/models/"):
            self._about(path.removeprefix("/api/models/"))
        elif path.startswith("/cdn/"):
            repository, commit, name = path.removeprefix("/cdn/").split("@")
            self._content(self.hub.commits[repository, commit][name], name, body=body)
        else:
            repository, _, rest = path.strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            found = self._commit(repository, revision)
            if found is None:
                return
            commit, files = found
            if name not in files:
                self._refuse("EntryNotFound", "Entry not found")
                return
            facts = {"X-Repo-Commit": commit, "ETag": f'"{_hash(files[name])}"'}
            if name.endswith(LARGE):
                facts |= {
                    "X-Linked-Etag": facts.pop("ETag"),
                    "X-Linked-Size": str(files[name].stat().st_size),
                    "Location": f"{self.hub.store}/cdn/{repository}@{commit}@{name}",
                }
                self._send(302, b"", facts)
            else:
                self._content(files[name], name, body=body, **facts)

    def _about(self, path: str) -> None:
        repository, word, rest = path.partition("/revision/")
        if not word:
            repository, word, rest = path.partition("/tree/")
        found = self._commit(repository, rest.strip("/") or "main")
        if found is None:
            return
        commit, files = found
        if "tree" in word:
            if self.hub.on_tree is not None:
                self.hub.on_tree()
            value: object = [_entry(name, file) for name, file in files.items()]
        else:
            siblings = [{"rfilename": name} for name in files]
            value = {"id": repository, "modelId": repository, "sha": commit, "siblings": siblings, "tags": []}
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _commit(self, repository: str, revision: str) -> tuple[str, dict[str, Path]] | None:
        if not any(repository == known for known, _ in self.hub.heads):
            self._refuse("RepoNotFound", "Repository not found", 401)
        elif repository in self.hub.gated:
            self._refuse("GatedRepo", "Access to model is restricted", 403)
        else:
            commit = self.hub.heads.get((repository, revision), revision)
            if (repository, commit) in self.hub.commits:
                return commit, self.hub.commits[repository, commit]
            self._refuse("RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _content(self, file: Path, name: str, *, body: bool, **headers: str) -> None:
        data = file.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        facts = {"Accept-Ranges": "bytes", **{key.replace("_", "-"): text for key, text in headers.items()}}
        if start:
            facts["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cuts = self.hub.cut.get(name, [])
        if body and cuts:
            self._send(206 if start else 200, data[start:], facts, most=cuts.pop(0))
            self.close_connection = True
        else:
            self._send(206 if start else 200, data[start:], facts, most=None if body else 0)

    def _refuse(self, code: str, message: str, status: int = 404) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, data: bytes, headers: dict[str, str], most: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data if most is None else data[:most])


def _entry(name: str, file: Path) -> dict[str, object]:
    size, digest = file.stat().st_size, _hash(file)
    entry: dict[str, object] = {"type": "file", "path": name, "size": size, "oid": digest[:40]}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 130}
    return entry


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
