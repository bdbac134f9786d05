"""The forward multiplies with one thread, and leaves numpy as it was."""

from __future__ import annotations

import pytest

from embedge_export.threads import num_threads, one_thread


def test_one_thread_meanwhile() -> None:
    before = num_threads()
    if before is None:
        pytest.skip("numpy brings no OpenBLAS here")
    with one_thread():
        assert num_threads() == 1
        with one_thread():
            assert num_threads() == 1
    assert num_threads() == before
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert num_threads() == before
