"""Weights of a module from the bytes of an .npz file, none larger than the file."""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from embedge.errors import BundleError
from embedge.types import FloatArray

_NAMES = ("weight", "bias", "residual")
_SUFFIX = ".npy"


def read_arrays(content: bytes, name: str) -> dict[str, FloatArray]:
    """Read a module's weights.

    Args:
        content: of the file.
        name: of the file, for messages.

    Returns:
        float32 arrays by name.

    Raises:
        BundleError: it is no .npz file, or holds anything but a module's weights, stored as they are.
    """
    arrays: dict[str, FloatArray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                array_name = member.filename.removesuffix(_SUFFIX)
                if array_name not in _NAMES or array_name in arrays:
                    raise ValueError(f"it holds {member.filename[:80]!r}")
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(content):
                    raise ValueError(f"{array_name} is compressed")
                arrays[array_name] = _array(archive.read(member))
    except Exception as error:  # zipfile and numpy raise many classes for bytes that are not theirs
        raise BundleError(
            f"{name} is no .npz file of a module's weights: {str(error) or type(error).__name__}. "
            "Export the model again."
        ) from error
    return arrays


def _array(content: bytes) -> FloatArray:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array is in another format than numpy writes it in")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    values = memoryview(content)[stream.tell() :]
    if dtype != np.float32 or fortran_order:
        raise ValueError(f"an array is {dtype}, and expected is float32 in the order of C")
    if math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"an array of shape {shape} has {len(values)} bytes")
    return np.frombuffer(values, dtype=np.float32).reshape(shape)
