"""Where a bundle's files come from: a folder, an archive, a hub; nothing of it is believed."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

from embedge._contents.regular import open_regular
from embedge.errors import BundleError
from embedge.manifest import MANIFEST_FILE
from embedge.store import near_archive

_MOST_ENTRIES = 10_000
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError)
"""What zipfile raises for files that are no archive of ours."""


class Source(Protocol):
    """Something that has a bundle's files."""

    words: str
    """What messages call it."""

    @property
    def names(self) -> frozenset[str] | None:
        """Files that it has; None where it may have others beside the bundle's."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file, from its beginning.

        Raises:
            BundleError: it is not there, or cannot be read.
        """


class FolderSource:
    """A folder on this machine."""

    names = None

    def __init__(self, folder: Path) -> None:
        self.words = str(folder)
        self._folder = folder

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See Source."""
        try:
            descriptor = open_regular(self._folder, name)
        except OSError as error:
            raise BundleError(
                f"{self._folder / name} cannot be read: {error.strerror}. Expected a file of the bundle; copy it again."
            ) from error
        with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123  (a descriptor)
            yield stream


class _Entry:
    """An archive's file; what is wrong with the archive is told, what its reader's own code raises is left alone."""

    def __init__(self, stream: IO[bytes], broken: Callable[[str], BundleError]) -> None:
        self._stream, self._broken = stream, broken

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except _BROKEN as error:
            raise self._broken(str(error)) from error


class ArchiveSource:
    """An archive that `pack` wrote: a ZIP file without compression.

    Args:
        path: of the file.
        words: what messages call it; None takes the path.
    """

    def __init__(self, path: Path, words: str | None = None) -> None:
        self.words = words or str(path)
        if path.exists() and not path.is_file():
            raise self._broken("it is no regular file")  # a pipe would be waited for
        try:
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
        except FileNotFoundError as error:
            raise BundleError(
                f"there is no file {path}; expected an archive that embedge pack wrote.{near_archive(path)}"
            ) from error
        except (OSError, *_BROKEN) as error:
            raise self._broken(str(error)) from error
        if len(entries) > _MOST_ENTRIES:
            raise self._broken(f"it has {len(entries)} entries")
        self.names = frozenset(entry.filename for entry in entries)
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise self._broken(f"{entry.filename!r} is compressed or encrypted")
        if len(self.names) < len(entries):
            raise self._broken("it has two entries of one name")
        if MANIFEST_FILE not in self.names:
            raise self._broken(f"it has no {MANIFEST_FILE}")

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See Source."""
        try:
            stream = self._zip.open(name)
        except KeyError as error:
            raise self._broken(f"it lacks {name}") from error
        except _BROKEN as error:
            raise self._broken(str(error)) from error
        with stream:
            yield cast("BinaryIO", _Entry(stream, self._broken))

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _broken(self, why: str) -> BundleError:
        return BundleError(
            f"{self.words} is no archive of a bundle: {why}. Expected one that embedge pack wrote, whole; get it again."
        )
