"""Memory given back to the system between one large thing and the next."""

import ctypes

import pytest

from embedge._machine import own_memory
from embedge_export.memory import given_back


def test_free_memory_is_given_back_at_the_end_of_the_block():
    if own_memory._trim() is None:
        pytest.skip("glibc's malloc_trim is not here")
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

    def resident():
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    with given_back():
        # small pieces come from the heap, and one that stays at its top holds all below it back
        pieces = [libc.malloc(60_000) for _ in range(2000)]
        for piece in pieces:
            ctypes.memset(piece, 1, 60_000)
        top = libc.malloc(60_000)
        for piece in pieces:
            libc.free(piece)
        before = resident()
    assert resident() < before - 60_000_000
    libc.free(top)


def test_an_error_goes_through():
    with pytest.raises(ValueError, match="inside"), given_back():
        raise ValueError("inside")
