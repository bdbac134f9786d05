"""Whether this processor adds 8-bit products up without overflow, as onnxruntime is seen to do it."""

from __future__ import annotations

from functools import cache

import numpy as np

from embedge._sessions.onnxruntime import import_onnxruntime

EXACT_INT8 = "exact_int8"
"""Products of uint8 and int8 are exact: on x86 with VNNI or without AVX2, and on ARM.

x86 with AVX2 alone adds pairs of such products in 16 bits, which saturate where a matrix has weights beyond 64.
"""

_GRAPH = (
    b'\x08\x08:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12\x01m'
    b"\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12\x10\n\x0e\x08\x06"
    b"\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
"""y = MatMulInteger(a, b) with a of uint8 and b of int8, opset 13."""
_FATAL = 4
_ROWS, _DEPTH, _COLUMNS = 9, 64, 32
"""More than one block of each kernel."""


@cache
def graph_features() -> frozenset[str]:
    """What a variant may need of the processor, see Variant.needs.

    The largest values are multiplied once per process, as no list of a processor's features is to be had everywhere,
    nor says what onnxruntime makes of them.

    Raises:
        SessionError: onnxruntime cannot be imported.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    rows = np.full((_ROWS, _DEPTH), 255, dtype=np.uint8)
    weights = np.full((_DEPTH, _COLUMNS), 127, dtype=np.int8)
    try:
        session = ort.InferenceSession(_GRAPH, options, providers=["CPUExecutionProvider"])
        products = session.run(["y"], {"a": rows, "b": weights})[0]
    except (
        Exception
    ):  # onnxruntime raises many unrelated classes; a build without the operator runs no int8 either
        return frozenset()
    exact = np.array_equal(products, rows.astype(np.int32) @ weights.astype(np.int32))
    return frozenset({EXACT_INT8}) if exact else frozenset()
