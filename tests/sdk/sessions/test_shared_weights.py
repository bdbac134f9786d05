"""Weights that sessions share: values over memory that is there already, and who may share at all."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import onnxruntime
import pytest
from numpy.testing import assert_array_equal

from embedge._contents.graphs import Weight
from embedge._sessions import shared_weights as _shared_weights
from embedge._sessions.devices import Device
from embedge._sessions.shared_weights import SharedWeights, share_weights, value_at
from embedge.errors import DeviceMemoryError

HOST = (1, 0)
"""DLPack's numbers of the processor's memory."""
BFLOAT16 = 16


def weight(array, onnx_type=None, offset=0) -> Weight:
    return Weight(name="w", onnx_type=onnx_type, array=array, place=("w.bin", offset))


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i1", "u1", "i8"])
@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 4, 1)])
def test_a_value_has_the_numbers_that_are_there(dtype, shape) -> None:
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    value = value_at(array.ctypes.data, weight(array), HOST)
    assert value.data_ptr() == array.ctypes.data
    assert_array_equal(value.numpy(), array)
    array += 1  # it is the same memory
    assert_array_equal(value.numpy(), array)


def test_bfloat16_keeps_its_type() -> None:
    bits = np.array([[0x3F80, 0x4000]], dtype=np.uint16)
    value = value_at(bits.ctypes.data, weight(bits, onnx_type=BFLOAT16), HOST)
    assert (value.element_type(), value.shape()) == (BFLOAT16, [1, 2])


def test_values_may_be_dropped_while_a_session_has_them() -> None:
    from onnx import TensorProto, helper

    array = np.full((4, 4), 2.0, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.zeros(16))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    value = value_at(array.ctypes.data, weight(array), HOST)
    options.add_initializer("w", value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    del value, options
    gc.collect()
    assert_array_equal(session.run(None, {"x": np.ones((1, 4), np.float32)})[0], np.full((1, 4), 8.0))


class Driver:
    """Stands for the driver: its memory is the processor's."""

    def __init__(self, refuses: str | None = None) -> None:
        self.refuses = refuses
        self.blocks: dict[int, ctypes.Array] = {}
        self.depth = 0

    def __getattr__(self, name: str):
        does = {
            "cuCtxPushCurrent_v2": lambda _: self.go(1),
            "cuCtxPopCurrent_v2": lambda _: self.go(-1),
            "cuMemAlloc_v2": self.allocate,
            "cuMemFree_v2": lambda block: self.blocks.pop(block.value) and None,
            "cuMemcpyHtoD_v2": lambda to, what, size: (
                ctypes.memmove(to.value, what.value, size.value) and None
            ),
        }.get(name, lambda *_: None)
        return (lambda *_: 2) if name == self.refuses else lambda *arguments: does(*arguments) or 0

    def go(self, steps: int) -> None:
        self.depth += steps

    def allocate(self, block, size) -> None:
        made = ctypes.create_string_buffer(size.value)
        block._obj.value = ctypes.addressof(made)
        self.blocks[block._obj.value] = made


@pytest.fixture
def shared(monkeypatch):
    """SharedWeights on a driver."""

    def make(driver: Driver) -> SharedWeights:
        monkeypatch.setattr(_shared_weights, "open_driver", lambda: driver)
        monkeypatch.setattr(_shared_weights, "_CUDA", HOST[0])
        return SharedWeights(Device(kind="cuda"))

    return make


def test_each_weight_is_copied_once_and_given_back_at_the_end(shared) -> None:
    driver = Driver()
    made = shared(driver)
    first, second = (np.full((7, 3), number, dtype=np.float16) for number in (1, 2))
    values = made.values([weight(first)])
    again = made.values([weight(first)])
    assert again["w"] is values["w"]
    assert len(driver.blocks) == 1
    other = made.values([weight(second, offset=64)])
    assert len(driver.blocks) == 2
    assert_array_equal(values["w"].numpy(), first)
    assert_array_equal(other["w"].numpy(), second)
    assert driver.depth == 0
    del made, values, again, other
    gc.collect()
    assert not driver.blocks
    assert driver.depth == 0


def test_the_same_place_read_as_another_type_or_shape_is_another_weight(shared) -> None:
    made = shared(Driver())
    array = np.zeros((4, 6), dtype=np.uint16)
    same = [
        weight(array),
        weight(array.view(np.float16)),
        weight(array.reshape(6, 4)),
        weight(array, BFLOAT16),
    ]
    assert len({made.values([each])["w"].data_ptr() for each in same}) == len(same)


def test_what_dlpack_does_not_know_is_left_to_each_session(shared) -> None:
    made = shared(Driver())
    unknown = Weight(name="w", onnx_type=None, array=np.zeros(3, dtype=np.float32))
    assert not made.values([weight(np.zeros(3, dtype=bool)), unknown])


def test_memory_that_is_not_there_is_told(shared) -> None:
    driver = Driver(refuses="cuMemAlloc_v2")
    with pytest.raises(DeviceMemoryError, match=r"1 MB of weights .* cuda:0: cuMemAlloc_v2 answers 2"):
        shared(driver).values([weight(np.zeros(250_000, dtype=np.float32))])
    assert driver.depth == 0


def test_only_cuda_shares() -> None:
    assert share_weights(Device(kind="cpu")) is None
