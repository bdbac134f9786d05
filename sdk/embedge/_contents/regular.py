"""Open a file of a bundle by its name in the manifest: a regular file inside of the folder, or nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from embedge.errors import BundleError

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    # a pipe without a writer would be waited for
    | getattr(os, "O_NONBLOCK", 0)
)
_ADVICE = "Copy the bundle again, or export the model again."


def check_name(name: str) -> None:
    """Refuse a name that can lie outside of the folder that it is meant for.

    Raises:
        BundleError: it is absolute, has "." or ".." in it, or characters that no exporter writes.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(
        character in "\\:" or not character.isprintable() for character in name
    ):
        raise BundleError(
            f"{name!r} leaves the bundle or is no name of a file; expected a path inside of it such as "
            f"'onnx/model.onnx'. {_ADVICE}"
        )


def open_regular(folder: Path, name: str) -> int:
    """Open a file for reading.

    Args:
        folder: the bundle.
        name: path inside of it, with forward slashes.

    Returns:
        A file descriptor; links inside of the folder are followed.

    Raises:
        BundleError: the name or a link leaves the folder, or it is no regular file.
        OSError: it is not there, or cannot be read.
    """
    check_name(name)
    inside = os.path.realpath(folder)
    real = os.path.realpath(Path(inside) / name)  # of this folder, wherever a link to it points by now
    if os.path.commonpath([inside, real]) != inside:
        raise BundleError(
            f"{folder / name} is a link that leaves the bundle; expected a file inside of it. {_ADVICE}"
        )
    # opened before it is looked at: what is looked at is then what is read
    descriptor = os.open(real, _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise BundleError(f"{folder / name} is a folder, pipe or device; expected a regular file. {_ADVICE}")


def read_regular(folder: Path, name: str, most_bytes: int) -> bytes:
    """The content of a file whose size nothing states.

    Raises:
        BundleError: as open_regular, or it is larger than most_bytes.
        OSError: as open_regular.
    """
    with open(open_regular(folder, name), "rb", buffering=0) as stream:
        content = bytearray()
        # what grows while it is read must not be read for ever
        while chunk := stream.read(min(1 << 20, most_bytes + 1 - len(content))):
            content += chunk
            if len(content) > most_bytes:
                raise BundleError(
                    f"{folder / name} has more than {most_bytes} bytes, which no {name} has. {_ADVICE}"
                )
    return bytes(content)
