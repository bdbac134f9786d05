"""8-bit products, as onnxruntime is seen to add them up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from embedge._machine.cpu import cpu_features
from embedge._sessions import products
from embedge._sessions.products import EXACT_INT8, graph_features


def saturating(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What VPMADDUBSW and VPMADDWD give: pairs are added in 16 bits."""
    each = a[:, :, None].astype(np.int32) * b[None].astype(np.int32)
    pairs = np.clip(each[:, ::2] + each[:, 1::2], -(1 << 15), (1 << 15) - 1)
    return pairs.sum(axis=1, dtype=np.int32)


def features(monkeypatch, run) -> frozenset[str]:
    ort = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=lambda *_, **__: SimpleNamespace(run=lambda _, feeds: [run(**feeds)]),
    )
    monkeypatch.setattr(products, "import_onnxruntime", lambda: ort)
    return graph_features.__wrapped__()


def test_this_processor_is_what_its_features_say() -> None:
    there = set(cpu_features())
    exact = bool({"avx512_vnni", "avx_vnni", "asimd"} & there) or "avx2" not in there
    assert (EXACT_INT8 in graph_features()) is exact


def test_a_processor_that_overflows_is_seen(monkeypatch) -> None:
    assert features(monkeypatch, saturating) == frozenset()
    assert features(monkeypatch, lambda a, b: a.astype(np.int32) @ b.astype(np.int32)) == {EXACT_INT8}


def test_an_onnxruntime_without_the_operator_runs_no_int8(monkeypatch) -> None:
    def missing(**_):
        raise RuntimeError("MatMulInteger(10) is not implemented")

    assert features(monkeypatch, missing) == frozenset()


def test_the_graph_is_one_product() -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(products._GRAPH).graph
    types = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert types == [onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.INT32]
    assert [(node.op_type, *node.input, *node.output) for node in graph.node] == [
        ("MatMulInteger", "a", "b", "y")
    ]
