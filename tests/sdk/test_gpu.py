"""On a GPU: the CPU's numbers, refusals, and batches that do not fit; with a tiny bundle."""

from __future__ import annotations

import gc

import msgspec
import numpy as np
import pytest

from embedge import DeviceMemoryError, EdgeModel, ProviderUnavailableError
from embedge._machine.gpu import gpu_memory_bytes
from embedge._sessions.cuda import cuda_problem
from embedge.manifest import load_manifest
from embedge.verify import verify

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> str:
    if (problem := cuda_problem()) is not None:
        pytest.skip(problem)
    return "cuda"


@pytest.fixture
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    words = ["the", "river", "is", "cold", "good", "city"]
    return [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(6000)]


def large_graph(folder):
    """A product with 256 MB of weights in a file of its own, and their size."""
    from onnx import TensorProto, helper

    from embedge._contents.graphs import PinnedGraph
    from embedge._contents.pinned import PinnedFile

    side, count = 4096, 4
    size = side * side * 4
    names = [f"w{i}" for i in range(count)]
    rows = ["input_ids", *(f"h{i}" for i in range(count - 1)), "y"]
    nodes = [helper.make_node("MatMul", [rows[i], names[i]], [rows[i + 1]]) for i in range(count)]
    weights = []
    for index, name in enumerate(names):
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT, dims=[side, side], data_location=TensorProto.EXTERNAL
        )
        for key, value in (("location", "w.bin"), ("offset", index * size), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", side]) for name in (rows[0], "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "g.onnx").write_bytes(made.SerializeToString())
    rng = np.random.default_rng(0)
    (rng.standard_normal((count, side, side), dtype=np.float32) / 64).tofile(folder / "w.bin")
    files = {
        name: PinnedFile(folder, name, size_bytes=(folder / name).stat().st_size, sha256="", check=False)
        for name in ("g.onnx", "w.bin")
    }
    return PinnedGraph(files["g.onnx"], {"w.bin": files["w.bin"]}), count * size


def test_many_texts_and_one_text_have_the_cpus_numbers(gpu, tiny, texts) -> None:
    folder = tiny()
    with EdgeModel(folder, device="cpu") as cpu, EdgeModel(folder, device=gpu) as model:
        assert model.info.device == "cuda:0"
        assert model.info.placement["CUDAExecutionProvider"] > 0
        expected = cpu.embed(texts).numpy()
        assert np.abs(model.embed(texts).numpy() - expected).max() < 1e-5
        assert np.abs(model.embed(texts[0]).numpy() - expected[:1]).max() < 1e-5
        tokens = model.encode(texts[:20], pooling_task="token_embed").numpy()
        wanted = cpu.encode(texts[:20], pooling_task="token_embed").numpy()
        assert all(np.abs(a - e).max() < 1e-5 for a, e in zip(tokens, wanted, strict=True))


def test_captured_queries_have_the_same_numbers(gpu, tiny, texts) -> None:
    variant = load_manifest(tiny()).variants["fp32"]
    with_file = msgspec.structs.replace(variant, query_file=variant.file)
    folder = tiny(changes={"variants": {"fp32": with_file}})
    with EdgeModel(folder, device="cpu") as cpu, EdgeModel(folder, device=gpu, cuda_graphs=True) as model:
        for text in texts[:60]:
            assert np.abs(model.embed(text).numpy() - cpu.embed(text).numpy()).max() < 1e-5
        # with many texts in between, on the session that captures nothing
        assert np.abs(model.embed(texts).numpy() - cpu.embed(texts).numpy()).max() < 1e-5
        assert np.abs(model.embed(texts[0]).numpy() - cpu.embed(texts[0]).numpy()).max() < 1e-5


def test_probes_hold(gpu, tiny) -> None:
    (report,) = verify(tiny(), device=gpu)
    assert report.variant == "fp32"
    assert report.passed


def test_a_gpu_that_is_not_there_is_refused(gpu, tiny) -> None:
    with pytest.raises(ProviderUnavailableError, match="'cuda:77' is not there; this machine has"):
        EdgeModel(tiny(), device="cuda:77")
    assert gpu_memory_bytes(0) > 2**30
    assert gpu_memory_bytes(77) is None


def test_a_batch_that_does_not_fit_is_refused_and_smaller_ones_answer(gpu, tiny) -> None:
    folder = tiny()
    texts = ["river " * 28] * 20_000
    # 4,096 texts of 30 tokens in 8 components take 4 MB for each tensor of the graph
    limits = {"device": gpu, "device_memory_bytes": 2**22, "max_batch_tokens": 1_000_000}
    with EdgeModel(folder, device="cpu") as cpu:
        expected = cpu.embed(texts[:1]).numpy()
    with EdgeModel(folder, **limits) as model:
        with pytest.raises(DeviceMemoryError, match="does not fit into the memory of cuda:0"):
            model.embed(texts)
        assert np.abs(model.embed(texts[:2]).numpy() - expected).max() < 1e-5
    with EdgeModel(folder, retry_smaller_batches=True, **limits) as model:
        assert np.abs(model.embed(texts).numpy() - expected).max() < 1e-5
        assert model.lost_devices == ()


def test_two_sessions_hold_their_weights_once(gpu, tmp_path) -> None:
    import torch

    from embedge._sessions.devices import Device
    from embedge._sessions.session import Session
    from embedge._sessions.shared_weights import share_weights

    graph, size = large_graph(tmp_path)
    device = Device(kind=gpu)
    Session(graph, device=device, threads=1)  # what the first session of a process takes
    feeds = {"input_ids": np.ones((2, 4096), dtype=np.float32)}
    taken, numbers = {}, []
    for shared in (None, share_weights(device)):
        gc.collect()
        before = torch.cuda.mem_get_info()[0]
        two = [Session(graph, device=device, threads=1, shared=shared) for _ in range(2)]
        taken[shared is not None] = before - torch.cuda.mem_get_info()[0]
        numbers += [session.run("y", feeds) for session in two]
        del two
    # each session takes as much besides, whatever its weights
    assert taken[False] - taken[True] > 0.9 * size
    assert all(np.array_equal(each, numbers[0]) for each in numbers)
    del shared
    gc.collect()
    assert before - torch.cuda.mem_get_info()[0] < 0.5 * size
