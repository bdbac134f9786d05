"""Weights of modules: none that is larger than its file, compressed, or of another kind."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from embedge import BundleError
from embedge._contents.arrays import read_arrays


def saved(save=np.savez, **arrays) -> bytes:
    content = io.BytesIO()
    save(content, **arrays)
    return content.getvalue()


def with_header(header: bytes) -> bytes:
    """An archive whose only array has a header of its own."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("weight.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return content.getvalue()


def test_what_the_exporter_writes() -> None:
    weight, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, dtype=np.float32)
    arrays = read_arrays(saved(weight=weight, bias=bias), "modules/0.npz")
    assert list(arrays) == ["weight", "bias"]
    np.testing.assert_array_equal(arrays["weight"], weight)
    np.testing.assert_array_equal(arrays["bias"], bias)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK no archive", "File is not a zip file"),
        (saved(np.savez_compressed, weight=np.zeros(1 << 16, dtype=np.float32)), "weight is compressed"),
        (saved(secret=np.zeros(3, dtype=np.float32)), "it holds 'secret.npy'"),
        (saved(weight=np.zeros(3)), "an array is float64, and expected is float32"),
        (saved(weight=np.array([{}], dtype=object)), "an array is object"),
        (with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }\n"), "has 0 bytes"),
        (with_header(b"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 0), }\n"), "in the order of C"),
        (with_header(b"(" * 5000), "Export the model again"),
    ],
)
def test_what_it_never_writes(content, words) -> None:
    with pytest.raises(BundleError, match=f"modules/0.npz is no .npz file.*{words}"):
        read_arrays(content, "modules/0.npz")


def test_another_version_of_the_format() -> None:
    content = saved(weight=np.zeros(3, dtype=np.float32)).replace(b"NUMPY\x01\x00", b"NUMPY\x03\x00")
    with pytest.raises(BundleError):
        read_arrays(content, "modules/0.npz")
