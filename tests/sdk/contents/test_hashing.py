"""The hash of a file ends early when nobody waits for it any more."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from embedge._cancelling import Halt, Stopped
from embedge._contents.pinned import PinnedFile
from embedge.errors import IntegrityError


def _pinned(folder, content: bytes, sha256: str | None = None) -> PinnedFile:
    (folder / "weights").write_bytes(content)
    return PinnedFile(
        folder, "weights", size_bytes=len(content), sha256=sha256 or hashlib.sha256(content).hexdigest()
    )


@pytest.mark.parametrize("size", [1, (1 << 20) - 1, 1 << 20, (3 << 20) + 7])
def test_every_piece_is_hashed(tmp_path, size) -> None:
    content = np.random.default_rng(size).bytes(size)
    file = _pinned(tmp_path, content)
    assert file.read() == content
    altered = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(IntegrityError, match="was altered"):
        _pinned(tmp_path, altered, hashlib.sha256(content).hexdigest()).read()


@pytest.mark.parametrize("cuts", [(), (1,), (7, 1 << 20, (2 << 20) + 1)])
def test_a_content_in_pieces_is_the_whole_content_and_hashed_as_that(tmp_path, cuts) -> None:
    content = np.random.default_rng(0).bytes((2 << 20) + 5)
    pieces, confirm = _pinned(tmp_path, content).read_ahead(cuts)
    confirm()
    assert [piece.base is None for piece in pieces] == [True] * (1 + len(cuts)), "each has memory of its own"
    assert b"".join(piece.tobytes() for piece in pieces) == content
    assert np.cumsum([0, *(len(piece) for piece in pieces)]).tolist() == [0, *cuts, len(content)]
    altered = bytes([content[0] ^ 1]) + content[1:]
    _, confirm = _pinned(tmp_path, altered, hashlib.sha256(content).hexdigest()).read_ahead(cuts)
    with pytest.raises(IntegrityError, match="was altered"):
        confirm()


@pytest.mark.parametrize("altered", [None, 6, 7, (2 << 20) + 2, (2 << 20) + 3])
def test_what_is_not_read_is_hashed_all_the_same(tmp_path, altered) -> None:
    content = np.random.default_rng(0).bytes((2 << 20) + 5)
    stated = hashlib.sha256(content).hexdigest()
    if altered is not None:
        content = content[:altered] + bytes([content[altered] ^ 1]) + content[altered + 1 :]
    pieces, confirm = _pinned(tmp_path, content, stated).read_ahead((7, (2 << 20) + 3), unread={1})
    assert [len(piece) for piece in pieces] == [7, 0, 2]
    assert pieces[0].tobytes() + pieces[2].tobytes() == content[:7] + content[-2:]
    if altered is None:
        confirm()
    else:
        with pytest.raises(IntegrityError, match="was altered"):
            confirm()


def test_a_file_that_is_cut_off_where_nothing_is_read_is_refused(tmp_path) -> None:
    content = bytes(3 << 20)
    file = _pinned(tmp_path, content)
    (tmp_path / "weights").write_bytes(content[: 2 << 20])
    _, confirm = file.read_ahead((1 << 20,), unread={1})
    with pytest.raises(IntegrityError):
        confirm()


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_it_ends_when_nobody_waits(tmp_path, size) -> None:
    file, halt = _pinned(tmp_path, bytes(size)), Halt()
    _, confirm = file.read_ahead()
    confirm()
    content = np.zeros(size, dtype=np.uint8)
    with halt.entered():
        file._confirm([content.data])
        halt.stop_soon()
        with pytest.raises(Stopped):
            file._confirm([content.data])
        with pytest.raises(Stopped):
            file.read_ahead()
