"""References multiply with one thread where that is faster, and leave numpy and torch as they were."""

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


def test_torch_takes_one_thread_meanwhile_too() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
