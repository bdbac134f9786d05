"""Devices: words, lists, dealing to several and going on without one that failed. No GPU needed: sessions are faked."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from embedge import (
    DeviceMemoryError,
    EdgeModel,
    ParamsError,
    ProviderUnavailableError,
    SessionError,
    _devices,
)
from embedge._accelerator import DeviceSessions, cuda_limits
from embedge._devices import Device, find_devices
from embedge._forward import Forward
from embedge._onnxruntime import in_words
from embedge._session import Session, _placement
from embedge._tokens import Encoded
from embedge.bundle import choose_variant, open_bundle
from embedge.cli.main import main
from embedge.manifest import TokenizerSpec, load_manifest
from embedge.testing import tiny_bundle
from embedge.verify import verify

TWO = [Device(kind="cuda", index=0), Device(kind="cuda", index=1)]


class FakeSession:
    """Answers with the sum of each row's token ids; one device may fail after some runs."""

    def __init__(self, device: Device, fail_after: dict[str, int]) -> None:
        self.device, self.runs = device, 0
        self._fail_after = fail_after.get(device.name)
        self._lock = threading.Lock()

    def run(self, output, feeds):
        with self._lock:
            self.runs += 1
            if self._fail_after is not None and self.runs > self._fail_after:
                raise SessionError(f"{self.device.name} is out of memory")
        return (feeds["input_ids"] * feeds["attention_mask"]).sum(1, keepdims=True).astype(np.float32)


def forward(devices, **fail_after: int) -> tuple[Forward, DeviceSessions]:
    failures = {name.replace("_", ":"): runs for name, runs in fail_after.items()}
    sessions = DeviceSessions(lambda device: FakeSession(device, failures), devices=devices)
    return Forward(sessions, TokenizerSpec(pad_token_id=0), ("input_ids", "attention_mask"), 32), sessions


ENCODED = [Encoded(token_ids=list(range(1, n % 13 + 2))) for n in range(200)]
EXPECTED = [sum(e.token_ids) for e in ENCODED]


def answers(made: Forward) -> list[float]:
    rows = np.zeros(len(ENCODED))
    for positions, batch in made.pooled("pooled", ENCODED):
        rows[positions] = batch[:, 0]
    return rows.tolist()


def test_batches_are_dealt_to_all_devices() -> None:
    made, sessions = forward(TWO)
    assert answers(made) == EXPECTED
    assert all(session.runs > 0 for session in sessions._sessions)
    assert sessions.lost_devices == []


def test_a_failing_device_is_named_and_its_batches_are_done_by_the_other(caplog) -> None:
    made, sessions = forward(TWO, cuda_1=3)
    assert answers(made) == EXPECTED
    assert sessions.lost_devices == ["cuda:1"]
    assert "device cuda:1 failed and is left out: cuda:1 is out of memory" in caplog.text
    assert answers(made) == EXPECTED
    assert {session.device.name for session in sessions.lanes(9)} == {"cuda:0"}


@pytest.mark.parametrize("devices", [TWO, TWO[:1]])
def test_nothing_is_returned_when_every_device_fails(devices) -> None:
    made, _ = forward(devices, cuda_0=2, cuda_1=2)
    with pytest.raises(SessionError, match="out of memory"):
        answers(made)
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge")]


@pytest.mark.parametrize("device", [[], ["cpu", "cpu"], ["cpu", "cpu:0"], "cuda:x", "", 3, [3]])
def test_wrong_devices(device) -> None:
    with pytest.raises(ParamsError, match="device="):
        find_devices(device)


def test_auto_says_why() -> None:
    (found,) = find_devices("auto")
    assert found.reason.startswith("auto: ")


class SmallSession(FakeSession):
    """Fits only so many padded tokens."""

    room = 12

    def run(self, output, feeds):
        batch_size, seq_len = feeds["input_ids"].shape
        if feeds["input_ids"].size > self.room:
            raise DeviceMemoryError("does not fit", device="cuda:0", batch_size=batch_size, seq_len=seq_len)
        return super().run(output, feeds)


def small(devices, retry: bool) -> tuple[Forward, DeviceSessions]:
    sessions = DeviceSessions(
        lambda device: SmallSession(device, {}), devices=devices, retry_smaller_batches=retry
    )
    return Forward(sessions, TokenizerSpec(pad_token_id=0), ("input_ids", "attention_mask"), 64), sessions


@pytest.mark.parametrize("devices", [TWO, TWO[:1]])
def test_a_batch_that_does_not_fit_is_named_and_loses_no_device(devices) -> None:
    made, sessions = small(devices, retry=False)
    with pytest.raises(DeviceMemoryError) as caught:
        answers(made)
    # which of the batches in flight failed last is chance
    assert (caught.value.batch_size, caught.value.seq_len) in {(64 // size, size) for size in range(10, 14)}
    assert sessions.lost_devices == []
    few = [Encoded(token_ids=[1, 2, 3])]
    assert [rows.tolist() for _, rows in made.pooled("pooled", few)] == [[[6.0]]]


def test_smaller_batches_are_tried_when_asked(caplog) -> None:
    made, sessions = small(TWO, retry=True)
    SmallSession.room = 13
    assert answers(made) == EXPECTED
    assert sessions.lost_devices == []
    assert "it is run as two halves" in caplog.text
    SmallSession.room = 12
    with pytest.raises(DeviceMemoryError):
        answers(made)


class FakeRuntime:
    """An onnxruntime that offers what the test says."""

    __version__ = "9.9"

    def __init__(self, folder, offered=("CPUExecutionProvider",), plugins=()) -> None:
        self.__file__ = str(folder / "__init__.py")
        self._offered, self._plugins = list(offered), [SimpleNamespace(ep_name=name) for name in plugins]

    def get_available_providers(self):
        return self._offered

    def get_ep_devices(self):
        return self._plugins


class FakeDriver:
    """An NVIDIA driver that shows so many GPUs."""

    def __init__(self, count: int, status: int = 0) -> None:
        self._count, self._status = count, status

    def cuInit(self, flags):  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._count
        return 0

    def cuDeviceGet(self, handle, index):  # noqa: N802
        handle._obj.value = index
        return 0 if index < self._count else 101

    def cuDeviceTotalMem_v2(self, size, handle):  # noqa: N802
        size._obj.value = 80 * 2**30
        return 0


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Put a fake onnxruntime and driver in place of the machine's."""

    def use(driver=None, installed=None, **fake):
        made = FakeRuntime(tmp_path, **fake)
        monkeypatch.setattr(_devices, "import_onnxruntime", lambda: made)
        monkeypatch.setattr(_devices, "_installed", lambda: installed or {})

        def open_driver():
            if driver is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return driver

        monkeypatch.setattr(_devices, "_driver", open_driver)
        monkeypatch.setattr(_devices.ctypes, "CDLL", lambda name, mode=0: None)
        _devices.cuda_problem.cache_clear()
        return tmp_path

    yield use
    _devices.cuda_problem.cache_clear()


CUDA_TOO = ("CUDAExecutionProvider", "CPUExecutionProvider")


def with_library(folder):
    (folder / "capi").mkdir()
    (folder / "capi" / "libonnxruntime_providers_cuda.so").touch()


def test_both_wheels_installed_is_told_apart_from_the_cpu_wheel(runtime) -> None:
    runtime(installed={"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.1"})
    with pytest.raises(
        ProviderUnavailableError, match="1.31.0 and onnxruntime-gpu 1.31.1 are both installed"
    ):
        find_devices("cuda")
    runtime(installed={"onnxruntime": "1.31.0"})
    with pytest.raises(ProviderUnavailableError, match="offers CPUExecutionProvider, not CUDAExecution"):
        find_devices("cuda:1")
    assert find_devices("auto")[0].reason.startswith("auto: onnxruntime 9.9 here offers")


def test_cuda_without_library_driver_or_gpu(runtime) -> None:
    folder = runtime(offered=CUDA_TOO)
    with pytest.raises(ProviderUnavailableError, match="library onnxruntime_providers_cuda is not in"):
        find_devices("cuda")
    with_library(folder)
    for driver, words in (
        (None, "no NVIDIA driver"),
        (FakeDriver(0, status=100), "finds no GPU"),
        (FakeDriver(0), "finds no GPU"),
        (FakeDriver(1, status=999), r"does not start \(CUDA error 999\)"),
    ):
        runtime(offered=CUDA_TOO, driver=driver)
        with pytest.raises(ProviderUnavailableError, match=words):
            find_devices("cuda")
        assert find_devices("auto")[0].kind == "cpu"


def test_missing_cudnn_is_named(runtime, monkeypatch) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))

    def load(name, mode=0):
        raise OSError("libcudnn.so.9: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(_devices.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"cuDNN 9 is missing \(libcudnn.so.9"):
        find_devices("cuda")


def test_a_gpu_that_is_not_there(runtime) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))
    assert [d.name for d in find_devices("cuda")] == ["cuda:0"]
    with pytest.raises(ProviderUnavailableError) as caught:
        find_devices("cuda:77")
    assert str(caught.value) == "device='cuda:77' is not there; this machine has 1 GPU (cuda:0)"
    runtime(offered=CUDA_TOO, driver=FakeDriver(2))
    assert [d.name for d in find_devices(["cuda:1", "cuda:0"])] == ["cuda:1", "cuda:0"]
    with pytest.raises(ProviderUnavailableError, match=r"2 GPUs \(cuda:0, cuda:1\)"):
        find_devices(["cuda:0", "cuda:2"])


def test_other_providers_are_named_with_options_and_marked_untested(runtime) -> None:
    runtime(offered=("OpenVINOExecutionProvider", "CPUExecutionProvider"), plugins=["QNNExecutionProvider"])
    (found,) = find_devices("OpenVINO", {"device_type": "GPU", "num_streams": 2})
    assert found.execution_provider == "OpenVINOExecutionProvider"
    assert found.options == (("device_type", "GPU"), ("num_streams", "2"))
    assert "untested" in found.reason
    assert find_devices("qnn")[0].name == "qnn"
    with pytest.raises(ProviderUnavailableError, match="not CoreMLExecutionProvider"):
        find_devices("coreml")
    for device, options in (
        ("cpu", {"a": 1}),
        ("openvino", {"a": None}),
        ("openvino", [1]),
        ("auto", {"a": 1}),
    ):
        with pytest.raises(ParamsError, match="provider_options="):
            find_devices(device, options)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Gather node. "
            "Name:'/e/Gather' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* "
            "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Available memory of "
            "869 is smaller than requested bytes of 7679",
            "Non-zero status code returned while running Gather node. Name:'/e/Gather' Status Message: "
            "Available memory of 869 is smaller than requested bytes of 7679",
        ),
        (
            "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, "
            "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = "
            "cudaError; bool THRW = true] CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=/x.cc ; line=4",
            "CUDA failure 2: out of memory",
        ),
        ("", "RuntimeError"),
    ],
)
def test_places_in_cpp_sources_are_left_out_of_messages(message, words) -> None:
    assert in_words(RuntimeError(message)) == words


def test_the_places_of_nodes_are_counted(tmp_path) -> None:
    bundle = tiny_bundle(tmp_path)
    session = Session(bundle / "onnx/model.onnx", device=Device(kind="cpu"), threads=1)
    assert session.placement == {}
    nodes = [SimpleNamespace(ep_name=name, get_nodes=lambda n=n: [None] * n) for name, n in
             (("CPUExecutionProvider", 2), ("CUDAExecutionProvider", 7), ("CUDAExecutionProvider", 1))]  # fmt: skip
    fake = SimpleNamespace(get_provider_graph_assignment_info=lambda: nodes)
    assert _placement(fake) == {"CUDAExecutionProvider": 8, "CPUExecutionProvider": 2}
    assert _placement(object()) == {}


def test_a_variant_for_cuda_is_refused_elsewhere_by_name(tmp_path) -> None:
    bundle = open_bundle(tiny_bundle(tmp_path))
    fp32 = bundle.manifest.variants["fp32"]
    variants = {
        "fp32": fp32,
        "fp16": msgspec.structs.replace(fp32, dtype="float16"),
        "fp16_cuda": msgspec.structs.replace(fp32, dtype="float16", target="cuda"),
    }
    manifest = msgspec.structs.replace(bundle.manifest, variants=variants)
    assert choose_variant(manifest, "auto", "cuda").name == "fp16_cuda"
    assert choose_variant(manifest, "auto", "openvino").name == "fp32"
    with pytest.raises(
        ParamsError, match="only cuda has, and the device is cpu; expected one of fp32, fp16,"
    ):
        choose_variant(manifest, "fp16_cuda", "cpu")
    assert "the CPU computes in float32" in choose_variant(manifest, "fp16", "cpu").reason
    assert choose_variant(manifest, "fp16", "cuda").reason == "asked for"


def test_verify_replays_what_the_device_has_operators_for_and_names_the_rest(tmp_path, capsys) -> None:
    tiny_bundle(tmp_path)
    fp32 = load_manifest(tmp_path).variants["fp32"]
    unmeasured = msgspec.structs.replace(fp32.fidelity, num_texts=0)
    cuda = msgspec.structs.replace(fp32, dtype="float16", target="cuda", fidelity=unmeasured)
    tiny_bundle(tmp_path, changes={"variants": {"fp32": fp32, "fp16_cuda": cuda}})
    assert [report.variant for report in verify(tmp_path, device="cpu")] == ["fp32"]
    with pytest.raises(ParamsError, match="only cuda has"):
        verify(tmp_path, device="cpu", variants=("fp16_cuda",))
    assert main(["verify", str(tmp_path), "--device", "cpu"]) == 0
    assert (
        "fp16_cuda: not replayed, as only cuda has its operators; use --device cuda"
        in capsys.readouterr().out
    )
    assert (
        "no GPU could measure it"
        in choose_variant(load_manifest(tmp_path), "auto", "cuda", frozenset()).reason
    )


def test_auto_takes_cuda_where_all_of_it_is_there(runtime, monkeypatch, capsys) -> None:
    folder = runtime(offered=CUDA_TOO, driver=FakeDriver(1))
    with_library(folder)
    (folder / "capi" / "libonnxruntime_providers_shared.so").touch()
    loaded = []
    monkeypatch.setattr(_devices.ctypes, "CDLL", lambda name, mode=0: loaded.append(name))
    monkeypatch.setattr(FakeRuntime, "preload_dlls", lambda self: print("noise"), raising=False)
    (found,) = find_devices("auto")
    assert (found.name, found.reason[:24]) == ("cuda:0", "auto: onnxruntime offers")
    assert [name.rpartition("_")[2] for name in loaded] == ["shared.so", "cuda.so"]
    assert capsys.readouterr().out == ""


def test_libraries_that_do_not_load_for_another_reason(runtime, monkeypatch) -> None:
    with_library(runtime(offered=CUDA_TOO, driver=FakeDriver(1)))

    def load(name, mode=0):
        raise OSError("file too short")

    monkeypatch.setattr(_devices.ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=r"its libraries do not load \(file too short\)"):
        find_devices("cuda")


def test_gpus_are_counted_by_the_driver(runtime) -> None:
    for driver, count in ((None, 0), (FakeDriver(3, status=1), 0), (FakeDriver(3), 3)):
        runtime(driver=driver)
        assert _devices.count_gpus() == count


def test_a_gpus_memory_is_asked_of_the_driver(runtime) -> None:
    for driver, size in ((None, None), (FakeDriver(1), None), (FakeDriver(2), 80 * 2**30)):
        runtime(driver=driver)
        assert _devices.gpu_memory_bytes(1) == size


@pytest.mark.parametrize(
    ("hidden_size", "score_heads", "memory_bytes", "tokens"),
    [
        (768, 12, 80 * 2**30, 65536),
        (768, 12, None, 65536),
        (4096, 32, 80 * 2**30, 54613),
        (8192, 64, 80 * 2**30, 27306),
        (768, 12, 8 * 2**30, 29127),
        (4096, 32, 24 * 2**30, 16384),
        (768, None, 1, 1),
    ],
)
def test_batches_on_cuda_fill_the_card_and_fit_into_it(
    hidden_size, score_heads, memory_bytes, tokens
) -> None:
    limits = cuda_limits(hidden_size, score_heads, memory_bytes)
    assert limits.tokens == tokens <= limits.most_tokens
    widest = limits.tokens * 8 * hidden_size
    assert widest <= 2**31
    if score_heads is None:
        assert limits.square is None
        return
    scores = 3 * score_heads * limits.square
    assert scores <= 2**31
    if memory_bytes is not None:
        assert 6 * 4 * max(widest, scores) <= memory_bytes / 2


def test_long_texts_on_an_accelerator_are_cut_by_the_square_of_their_length() -> None:
    def forward_with(max_square):
        sessions = DeviceSessions(lambda device: FakeSession(device, {}), devices=TWO)
        tokenizer = TokenizerSpec(pad_token_id=0)
        made = Forward(sessions, tokenizer, ("input_ids",), 4096, max_square=max_square)
        answered = [
            (len(positions), mask.shape[1])
            for positions, _, mask in made.batches(
                "pooled", [Encoded(token_ids=[1] * n) for n in [100] * 40 + [2] * 40]
            )
        ]
        return sorted(answered)

    assert forward_with(None) == [(40, 2), (40, 100)]
    assert max(rows * length**2 for rows, length in forward_with(100_000)) <= 100_000
    assert sum(rows for rows, _ in forward_with(100_000)) == 80


def test_the_driver_has_each_platforms_name(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(_devices.ctypes, "CDLL", asked.append)
    for platform in ("linux", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        _devices._driver()
    assert asked == ["libcuda.so.1", "nvcuda.dll"]


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_numbers(minilm_bundle) -> None:
    if (problem := _devices.cuda_problem()) is not None:
        pytest.skip(problem)
    with EdgeModel(minilm_bundle, device="cuda") as gpu, EdgeModel(minilm_bundle, device="cpu") as cpu:
        texts = [f"text number {i} " * (i % 20 + 1) for i in range(200)]
        assert np.abs(gpu.embed(texts).numpy() - cpu.embed(texts).numpy()).max() < 1e-3
        assert gpu.info.execution_provider == "CUDAExecutionProvider"
        assert gpu.info.placement["CUDAExecutionProvider"] > gpu.info.placement.get("CPUExecutionProvider", 0)
    with pytest.raises(ProviderUnavailableError, match="is not there; this machine has"):
        EdgeModel(minilm_bundle, device="cuda:77")


def test_the_installed_wheel_is_found_beside_the_package() -> None:
    import onnxruntime

    assert onnxruntime.__version__ in _devices._installed().values()
