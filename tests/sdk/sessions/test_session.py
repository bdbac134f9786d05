"""Session against an onnxruntime that does what the test says: options of each device, and errors in our words."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.sdk.sessions.graphs import graph_of, some_graph

from embedge import DeviceMemoryError, ParamsError, ProviderUnavailableError, SessionError
from embedge._cancelling import Halt, Stopped
from embedge._rows.resolved import ResolvedParams
from embedge._sessions import cuda as _cuda
from embedge._sessions.devices import CPU, CUDA, Device
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.session import Session
from embedge._text.tokens import Encoded

GRAPH = some_graph()
GPU = Device(kind="cuda", index=1)
FEEDS = {"input_ids": np.ones((3, 5), dtype=np.int64)}


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.added: list[tuple[list, dict]] = []

    def add_session_config_entry(self, name, value) -> None:
        self.entries[name] = value

    def add_provider_for_devices(self, devices, settings) -> None:
        self.added.append((devices, settings))


class Runtime(ModuleType):
    """Stands for the module onnxruntime."""

    __version__ = "9.9"

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.SessionOptions = Options
        self.offered, self.plugins, self.nodes = [CUDA, CPU], [], None
        self.load_error = self.run_error = self.fallen_back = None
        self.opened: dict = {}
        self.severities: list[int] = []

    def set_default_logger_severity(self, severity):
        self.severities.append(severity)

    def get_available_providers(self):
        return self.offered

    def get_ep_devices(self):
        return self.plugins

    def InferenceSession(self, graph, options, **arguments):  # noqa: N802
        if self.load_error is not None:
            raise self.load_error
        self.opened = {"graph": graph, "options": options, "severities": [*self.severities], **arguments}
        providers = [p if isinstance(p, str) else p[0] for p in arguments.get("providers", [])]
        providers += [device.ep_name for devices, _ in options.added for device in devices]

        def run(outputs, feeds):
            if self.run_error is not None:
                raise self.run_error
            return [feeds["input_ids"].sum(1)]

        made = SimpleNamespace(get_providers=lambda: self.fallen_back or providers, run=run)
        if self.nodes is not None:
            parts = [
                SimpleNamespace(ep_name=name, get_nodes=lambda n=n: range(n))
                for name, n in self.nodes.items()
            ]
            made.get_provider_graph_assignment_info = lambda: parts
        return made


@pytest.fixture
def ort(monkeypatch) -> Runtime:
    made = Runtime()
    monkeypatch.setitem(sys.modules, "onnxruntime", made)
    return made


def test_the_cpu_gets_threads_and_nothing_of_an_accelerator(ort) -> None:
    session = Session(
        GRAPH, device=Device(kind="cpu"), threads=3, disabled_optimizers=["SkipLayerNormFusion"]
    )
    assert ort.opened["providers"] == [CPU]
    assert ort.opened["disabled_optimizers"] == ["SkipLayerNormFusion"]
    assert ort.opened["options"].intra_op_num_threads == 3
    assert "session.record_ep_graph_assignment_info" not in ort.opened["options"].entries
    assert session.placement == {}
    assert session.run("pooled", FEEDS).tolist() == [5, 5, 5]


def test_cuda_never_falls_back_and_computes_in_float32(ort) -> None:
    ort.nodes = {CUDA: 7, CPU: 2}
    device = Device(kind="cuda", index=1, options=(("arena_extend_strategy", "kNextPowerOfTwo"),))
    session = Session(GRAPH, device=device, threads=1, device_memory_bytes=10**9)
    settings = {
        "device_id": "1",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "use_tf32": "0",
        "gpu_mem_limit": "1000000000",
    }
    assert ort.opened["providers"] == [(CUDA, settings), CPU]
    assert ort.opened["enable_fallback"] == 0
    assert session.placement == {CUDA: 7, CPU: 2}
    assert session.device.name == "cuda:1"
    Session(GRAPH, device=GPU, threads=1)
    assert "gpu_mem_limit" not in ort.opened["providers"][0][1]


def test_what_says_nothing_is_not_logged_while_cuda_loads(ort) -> None:
    Session(GRAPH, device=Device(kind="cpu"), threads=1)
    assert ort.severities == []
    Session(GRAPH, device=GPU, threads=1, capture=True)
    assert ort.opened["severities"] == [3]
    assert ort.severities == [3, 2]
    assert ort.opened["providers"][0][1]["enable_cuda_graph"] == "1"
    ort.load_error = RuntimeError("no such operator")
    with pytest.raises(SessionError):
        Session(GRAPH, device=GPU, threads=1)
    assert ort.severities == [3, 2] * 2


def test_other_providers_get_the_callers_options_only(ort) -> None:
    ort.offered = ["QNNExecutionProvider", CPU]
    device = Device(kind="qnn", options=(("device_type", "GPU"),))
    session = Session(GRAPH, device=device, threads=1)
    assert ort.opened["providers"] == [("QNNExecutionProvider", {"device_type": "GPU"}), CPU]
    assert session.placement == {}


def test_a_plugins_devices_are_added_to_the_options(ort) -> None:
    ort.offered = [CPU]
    ort.plugins = [SimpleNamespace(ep_name="QNNExecutionProvider", number=i) for i in range(2)]
    Session(GRAPH, device=Device(kind="qnn", options=(("a", "b"),)), threads=1)
    assert "providers" not in ort.opened
    ((devices, settings),) = ort.opened["options"].added
    assert ([device.number for device in devices], settings) == ([0], {"a": "b"})


@pytest.mark.parametrize(
    ("device", "message", "error", "words"),
    [
        (
            GPU,
            "CUDA failure 2: out of memory",
            DeviceMemoryError,
            "model.onnx does not fit into the memory of cuda:1",
        ),
        (
            GPU,
            "CUDA failure 100: no device",
            ProviderUnavailableError,
            "'cuda:1' cannot be used.*onnxruntime-gpu",
        ),
        (
            Device(kind="qnn"),
            "the provider is broken",
            ProviderUnavailableError,
            "device='qnn' cannot be used.*Check what QNNExecutionProvider needs",
        ),
        (GPU, "no such operator", SessionError, "onnxruntime 9.9 cannot load model.onnx: no such operator"),
        (
            Device(kind="cpu"),
            "provider?",
            SessionError,
            "cannot load model.onnx: provider.*Install a newer onnxr",
        ),
    ],
)
def test_what_keeps_a_graph_from_loading(ort, device, message, error, words) -> None:
    ort.load_error = RuntimeError(message)
    with pytest.raises(error, match=words) as caught:
        Session(GRAPH, device=device, threads=1)
    assert type(caught.value) is error


def test_a_session_that_does_not_use_the_device_is_refused(ort) -> None:
    ort.fallen_back = [CPU]
    with pytest.raises(ProviderUnavailableError, match="onnxruntime fell back to CPUExecutionProvider"):
        Session(GRAPH, device=GPU, threads=1)
    ort.fallen_back, ort.nodes = None, {CPU: 9}
    with pytest.raises(ProviderUnavailableError, match="took none of the 9 nodes of model.onnx"):
        Session(GRAPH, device=GPU, threads=1)


def test_errors_of_a_run(ort) -> None:
    session = Session(GRAPH, device=GPU, threads=1)
    ort.run_error = RuntimeError("Failed to allocate memory for requested buffer of size 9")
    with pytest.raises(
        DeviceMemoryError, match="a batch of 3 texts of up to 5 tokens does not fit"
    ) as caught:
        session.run("pooled", FEEDS)
    assert (caught.value.device, caught.value.batch_size, caught.value.seq_len) == ("cuda:1", 3, 5)
    ort.run_error = RuntimeError("node broke")
    with pytest.raises(
        SessionError, match="failed on cuda:1 with a batch of 3 texts .*: node broke"
    ) as caught:
        session.run("pooled", FEEDS)
    assert not isinstance(caught.value, DeviceMemoryError)


def test_onnxruntime_that_is_not_installed(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SessionError, match="onnxruntime cannot be imported.*pip install onnxruntime"):
        Session(GRAPH, device=Device(kind="cpu"), threads=1)


def failing(load, num_rows: int, **arguments):
    """A call whose token ids onnxruntime refuses."""
    model = load(**arguments)
    rows = [Encoded(token_ids=[2, 10**6, 3])] * num_rows
    params = [ResolvedParams(task="embed")] * num_rows
    return model, lambda: model._open().engine.answerer.embeddings(rows, params, lambda _: None)


@pytest.mark.parametrize("num_rows", [1, 200])
def test_a_run_that_fails_on_the_cpu_fails_the_call_and_not_the_model(load, num_rows) -> None:
    model, call = failing(load, num_rows, threads=2, max_batch_tokens=16)
    with pytest.raises(SessionError, match="onnxruntime failed on cpu with a batch of"):
        call()
    assert model.lost_devices == ()
    assert model.embed("good").numpy().shape == (1, 8)


@pytest.fixture
def cuda(ort, tmp_path, monkeypatch):
    """A machine with one GPU, as far as anything asks."""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").touch()
    ort.__file__ = str(tmp_path / "__init__.py")

    class Driver:
        def cuInit(self, flags):  # noqa: N802
            return 0

        def cuDeviceGetCount(self, count):  # noqa: N802
            count._obj.value = 1
            return 0

        def cuDeviceGet(self, handle, index):  # noqa: N802
            return 0

        def cuDeviceTotalMem_v2(self, size, handle):  # noqa: N802
            size._obj.value = 2**20
            return 0

    monkeypatch.setattr(_cuda.ctypes, "CDLL", lambda name, mode=0: Driver())
    _cuda.cuda_problem.cache_clear()
    yield ort
    _cuda.cuda_problem.cache_clear()


def test_batches_that_cuda_cannot_index_are_refused(cuda, load) -> None:
    with pytest.raises(
        ParamsError, match=r"max_batch_tokens=2147483648 is more than .* at most 33554432 for"
    ):
        load(device="cuda", max_batch_tokens=2**31)
    model = load(device="cuda")
    assert model.info.device == "cuda:0"
    # half of a megabyte for six batches of 8 layers' widths of 8 components of 4 bytes
    assert model.info.max_batch_tokens == 2**19 // (6 * 8 * 8 * 4)
    assert load(device="cuda", device_memory_bytes=2**21).info.max_batch_tokens == 2**20 // (6 * 8 * 8 * 4)
    assert load(device="cuda", max_batch_tokens=4096).info.max_batch_tokens == 4096


def test_a_lower_limit_than_the_bundles(load) -> None:
    model = load(max_model_len=8)
    assert model.info.max_seq_len == 8
    with pytest.raises(ValueError, match="the model's limit is 8"):
        model.embed("the river is cold and the city is old")


def test_a_run_that_is_told_to_end_ends_and_leaves_its_session_sound(tiny) -> None:
    session = Session(graph_of(tiny()), device=Device(kind="cpu"), threads=2)
    names = ("input_ids", "attention_mask", "token_type_ids")
    long = {name: np.full((64, 64), name != "token_type_ids", np.int64) for name in names}
    output = next(iter(session.row_outputs()))
    before = session.run(output, long)
    told = Halt()
    told.stop_soon()
    with told.entered(), pytest.raises(Stopped):
        session.run(output, long)
    ended = 0
    for i in range(60):
        halt = Halt()
        timer = threading.Timer(i * 1e-4, halt.stop_soon)
        timer.start()
        try:
            with halt.entered():
                for _ in range(20):
                    session.run(output, long)
        except Stopped:
            ended += 1
        timer.join()
        assert_array_equal(session.run(output, long), before)
    assert ended


@pytest.mark.parametrize(
    ("first", "stated", "switched_off"), [(True, None, 1), (True, "0", 0), (False, None, 0)]
)
def test_telemetry_is_switched_off_where_the_application_came_first(
    monkeypatch, first, stated, switched_off
) -> None:
    calls = []
    runtime = Runtime()
    runtime.disable_telemetry_events = lambda: calls.append(1)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if stated is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", stated)
    if not first:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # by embedge, before
    assert import_onnxruntime() is runtime
    assert len(calls) == switched_off


def test_ctrl_c_while_onnxruntime_is_imported(monkeypatch) -> None:
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "onnxruntime":
                raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(KeyboardInterrupt):
        import_onnxruntime()
