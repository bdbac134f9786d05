"""A file that was opened once and is only read through what was opened."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Container, Sequence
from functools import partial
from itertools import pairwise, starmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedge._cancelling import check_call
from embedge._contents.regular import open_regular
from embedge._workers import start
from embedge.errors import BundleError, IntegrityError

_CHUNK_BYTES = 1 << 20
_AT_ONCE_BYTES = 64 << 20
"""Up to so many are read or hashed by one call, which Ctrl-C waits for."""
_ADVICE = "Copy the bundle again, or export the model again."


class PinnedFile:
    """A file of a bundle, open for as long as this object lives; may be read again, and by child processes.

    Args:
        folder: the bundle.
        name: its path as the manifest has it.
        size_bytes, sha256: what the manifest states.
        check: compare the hash of what is read.
        place: its path inside of the folder, where that is another one.

    Raises:
        IntegrityError: it is missing or of another size.
        BundleError: it is no regular file inside of the bundle.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        size_bytes: int,
        sha256: str,
        check: bool = True,
        place: str | None = None,
    ) -> None:
        place = name if place is None else place
        self.name = name
        self.size_bytes = size_bytes
        self._path = folder / place
        self._sha256 = sha256
        self._check = check
        self._lock = threading.Lock()
        try:
            self._descriptor = open_regular(folder, place)
        except FileNotFoundError as error:
            raise self._failure(
                f"is missing; the manifest expects {size_bytes} bytes with sha256 {sha256}"
            ) from error
        except OSError as error:
            raise BundleError(f"{self._path} cannot be read: {error.strerror}. {_ADVICE}") from error
        # at the end of the process the system closes it: threads and handlers that still run read from it, too
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        actual = os.fstat(self._descriptor).st_size
        if actual != size_bytes:
            raise self._failure(f"has {actual} bytes; the manifest expects {size_bytes} with sha256 {sha256}")

    def read(self) -> bytes:
        """The whole content, for a parser.

        Raises:
            IntegrityError: it is not what the manifest states.
        """
        if self.size_bytes > _AT_ONCE_BYTES:
            (content,), confirm = self.read_ahead()
            confirm()
            return content.tobytes()
        whole = self._read_at(self.size_bytes, 0)
        if len(whole) != self.size_bytes:
            raise self._shortened(len(whole))
        if self._check:
            self._confirm([memoryview(whole)])
        return whole

    def compare(self) -> None:
        """Compare the hash of the whole content, a piece at a time.

        Raises:
            IntegrityError: it is not what the manifest states.
        """
        digest, done = hashlib.sha256(), 0
        while chunk := self._read_at(_CHUNK_BYTES, done):
            digest.update(chunk)
            done += len(chunk)
        self._compare(digest.hexdigest())

    def read_ahead(
        self, cuts: Sequence[int] = (), *, unread: Container[int] = ()
    ) -> tuple[list[npt.NDArray[np.uint8]], Callable[[], None]]:
        """The whole content, uint8, for what takes plain numbers from it while they are hashed.

        Args:
            cuts: where another piece begins, in order; each piece has memory of its own.
            unread: numbers of pieces that the caller has; they are hashed and take no memory.

        Returns:
            The pieces, without bytes where unread, and a function that waits for their hash and raises IntegrityError
            where that is another one.

        Raises:
            IntegrityError: it was shortened since it was opened.
            BundleError: it cannot be read, or does not fit into memory.
        """
        bounds = [0, *cuts, self.size_bytes]
        pieces: list[npt.NDArray[np.uint8]] = []
        hashed: list[memoryview | range] = []
        num_bytes = 0
        try:
            for number, place in enumerate(starmap(range, pairwise(bounds))):
                left_out = number in unread
                pieces.append(np.empty(0 if left_out else len(place), dtype=np.uint8))
                hashed.append(place if left_out else pieces[-1].data)
                num_bytes += len(place) if left_out else self._read_into(pieces[-1].data, place.start)
        except MemoryError as error:
            raise BundleError(
                f"{self._path} has {self.size_bytes} bytes, which do not fit into memory. Use a smaller variant."
            ) from error
        if num_bytes != self.size_bytes:
            raise self._shortened(num_bytes)
        if not self._check:
            return pieces, lambda: None
        confirm = partial(self._confirm, hashed)
        return pieces, confirm if self.size_bytes < _CHUNK_BYTES else start(confirm)

    def _confirm(self, pieces: Sequence[memoryview | range]) -> None:
        """Compare the hash of all pieces; of a range, the bytes at these places are read for it."""
        digest = hashlib.sha256()
        for piece in pieces:
            # between two parts it needs the interpreter, which tokenizers hold while they load
            at_once = _CHUNK_BYTES if isinstance(piece, range) else _AT_ONCE_BYTES
            for start_at in range(0, len(piece), at_once):
                check_call()
                part = piece[start_at : start_at + at_once]
                digest.update(self._read_at(len(part), part.start) if isinstance(part, range) else part)
        self._compare(digest.hexdigest())

    def _read_into(self, content: memoryview, offset: int) -> int:
        """Fill a buffer from a place of the file on; returns how many bytes there were."""
        done = 0
        while done < len(content):
            check_call()  # who presses Ctrl-C does not wait for the rest
            chunk = self._read_at(min(_CHUNK_BYTES, len(content) - done), offset + done)
            if not chunk:
                break
            content[done : done + len(chunk)] = chunk
            done += len(chunk)
        return done

    def _read_at(self, num_bytes: int, offset: int) -> bytes:
        try:
            if hasattr(os, "pread"):  # a child process shares the place that others read from
                return os.pread(self._descriptor, num_bytes, offset)
            with self._lock:  # pragma: no cover (Windows)
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, num_bytes)
        except OSError as error:
            raise BundleError(f"{self._path} cannot be read: {error.strerror}. {_ADVICE}") from error

    def _compare(self, actual: str) -> None:
        if actual != self._sha256:
            raise self._failure(
                f"was altered: its sha256 is {actual}; the manifest expects {self._sha256}", actual
            )

    def _shortened(self, num_bytes: int) -> IntegrityError:
        return self._failure(
            f"has {num_bytes} bytes; the manifest expects {self.size_bytes} with sha256 {self._sha256}"
        )

    def _failure(self, what: str, actual: str | None = None) -> IntegrityError:
        return IntegrityError(
            f"{self._path} {what}. {_ADVICE}",
            file=self.name,
            expected_sha256=self._sha256,
            actual_sha256=actual,
        )
