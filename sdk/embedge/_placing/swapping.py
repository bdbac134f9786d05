"""Put a finished folder in another one's place: at every moment one of the two is there whole, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

_HERE = -100
"""AT_FDCWD of Linux."""
_LINUX_EXCHANGE, _MAC_SWAP = 2, 2
_NOT_OFFERED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def put_in_place(folder: Path, target: Path, aside: Path) -> None:
    """Give a folder the target's name.

    Args:
        folder: what is finished; where it can be done at once it is the old bundle afterwards, else it is gone.
        target: its new name; a folder there is replaced.
        aside: where the old bundle lies for a moment where folders cannot be exchanged at once; `put_back` ends what
            was broken off there.

    Raises:
        OSError: it cannot be done; the target is as it was.
    """
    if not target.exists():
        folder.rename(target)
    elif not exchange(folder, target):
        target.rename(aside)
        try:
            folder.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def put_back(target: Path, aside: Path) -> None:
    """Give the old bundle its name back where an export was killed between taking it away and bringing the new one."""
    if aside.is_dir() and not target.exists():
        aside.rename(target)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names at once.

    Returns:
        Whether the system and the file system can.

    Raises:
        OSError: they can, and did not.
    """
    names = os.fsencode(one), os.fsencode(other)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            failed = libc.renameat2(_HERE, names[0], _HERE, names[1], _LINUX_EXCHANGE)
        elif sys.platform == "darwin":
            failed = libc.renamex_np(*names, _MAC_SWAP)
        else:
            return False
    except (AttributeError, OSError, TypeError):  # an old C library, or none
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), str(other))
