"""A graph opened by onnxruntime on a device: its options, and what it raises in our words."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from embedge._contents.graph_tables import with_inputs
from embedge._contents.graphs import Weight
from embedge._lifetime import outside_python
from embedge._sessions.cuda import CUDA_ADVICE
from embedge._sessions.devices import CPU, Device
from embedge._sessions.onnxruntime import import_onnxruntime, in_words, plugin_devices
from embedge._sessions.openvino import OPENVINO, OPENVINO_ADVICE
from embedge._sessions.shared_tables import SharedTables
from embedge.errors import BundleError, DeviceMemoryError, ProviderUnavailableError, SessionError

if TYPE_CHECKING:
    import onnxruntime


OUT_OF_MEMORY = re.compile(
    r"out of memory|Available memory of \d+ is smaller|Failed to allocate memory|bad_alloc|ALLOC_FAILED"
    r"|CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    re.IGNORECASE,
)
_OWN_OPTION = "load_config"
"""Of OpenVINO, which is always stated: precision and threads are in it."""
_WARNING, _ERROR = 2, 3
"""Of onnxruntime's log; it has the first by default, and does not tell which one it has."""


class Shared(Protocol):
    """Weights of which the sessions of a graph on one device have one copy."""

    @property
    def device(self) -> Device:
        """Where they are."""
        ...

    def values(self, weights: Sequence[Weight]) -> dict[str, Any]:
        """Values of onnxruntime by name, for those that are shared; those that were asked for before are the same."""
        ...


class Graph(Protocol):
    """What a session is made of: a PinnedGraph, or what a helper process was sent of it."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def content(self) -> bytes:
        """Of the .onnx file."""
        ...

    @property
    def opens(self) -> threading.Event:
        """Set when onnxruntime opens it."""
        ...

    def weights(
        self, *, known_tables: Container[str] | None = None
    ) -> contextlib.AbstractContextManager[list[Weight]]:
        """The weights outside of it; see PinnedGraph.weights."""
        ...


class Loaded(NamedTuple):
    """A graph that is open, and the tables that each of its runs is fed."""

    session: onnxruntime.InferenceSession
    tables: dict[str, np.ndarray[Any, Any]]


class _Telling(list[str]):
    """Names that onnxruntime goes over right before it opens a graph, for which it lets go of the interpreter."""

    def __init__(self, names: Sequence[str], opens: threading.Event) -> None:
        super().__init__(names)
        self._opens = opens

    def __iter__(self) -> Iterator[str]:
        if not self._opens.is_set():  # in a child process its lock may be a thread's that is not there
            self._opens.set()
        return super().__iter__()


def load_graph(
    graph: Graph,
    device: Device,
    threads: int,
    *,
    disabled_optimizers: Sequence[str],
    device_memory_bytes: int | None,
    plan_memory: bool,
    capture: bool,
    shared: Shared | None = None,
    tables: SharedTables | None = None,
) -> Loaded:
    """Open a graph; arguments and errors are those of Session."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.enable_mem_pattern = plan_memory
    # threads wait actively between the operators of a run, and not at all between runs
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if device.kind != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        providers = _providers(device, options, device_memory_bytes, capture=capture)
        fed = None if tables is None else tables.kept()
        with graph.weights(known_tables=fed) as weights, _quiet(ort, device), outside_python():
            fed = (fed or {}) | {weight.name: weight.array for weight in weights if weight.apart}
            if copied := [weight for weight in weights if not weight.apart]:
                names = [weight.name for weight in copied]
                # copied into the graph when it is opened, so that nothing is read from any path
                options.add_external_initializers(names, [_value(ort, weight) for weight in copied])
                # of these onnxruntime keeps no copy of its own
                for name, value in {} if shared is None else shared.values(copied).items():
                    options.add_initializer(name, value)
            session: onnxruntime.InferenceSession = ort.InferenceSession(
                with_inputs(graph.content, fed) if fed else graph.content,
                options,
                **providers,
                disabled_optimizers=_Telling(disabled_optimizers, graph.opens),
                # else onnxruntime prints what went wrong and runs on the CPU
                enable_fallback=0,
            )
    except (BundleError, DeviceMemoryError):
        raise
    except Exception as error:  # onnxruntime raises many unrelated classes
        message = in_words(error)
        if OUT_OF_MEMORY.search(message):
            raise DeviceMemoryError(
                f"{graph.name} does not fit into the memory of {device.name}: {message}. "
                "Use a smaller variant, a larger device_memory_bytes, or another device.",
                device=device.name,
            ) from error
        if device.kind != "cpu" and re.search(r"cuda|device|provider|option", message, re.IGNORECASE):
            raise ProviderUnavailableError(
                f"device={device.name!r} cannot be used: {message}. {_advice(device)}"
            ) from error
        raise SessionError(
            f"onnxruntime {ort.__version__} cannot load {graph.name}: {message}. "
            "Install a newer onnxruntime, or export the model again."
        ) from error
    return Loaded(session, fed if tables is None else tables.keep(fed))


def check_placement(session: onnxruntime.InferenceSession, device: Device, graph: Graph) -> dict[str, int]:
    """Nodes by execution provider, as Session.placement.

    Raises:
        ProviderUnavailableError: the graph would not run on the device.
    """
    actual = session.get_providers()
    if device.execution_provider not in actual:
        raise ProviderUnavailableError(
            f"device={device.name!r} cannot be used: onnxruntime fell back to {', '.join(actual)}. "
            f"{_advice(device)}"
        )
    placement = {} if device.kind == "cpu" else _placement(session)
    if placement and not placement.get(device.execution_provider):
        raise ProviderUnavailableError(
            f"device={device.name!r} cannot be used: {device.execution_provider} took none of the "
            f"{sum(placement.values())} nodes of {graph.name}. "
            + (_options_advice(device) or "Use another variant, or device='cpu'.")
        )
    if device.kind == "openvino":
        _check_whole(session, placement, graph)
    return placement


def _check_whole(session: onnxruntime.InferenceSession, placement: dict[str, int], graph: Graph) -> None:
    """Refuse a graph that OpenVINO would share with the CPU's provider, as each part is copied to and fro."""
    if set(placement) == {OPENVINO}:
        return
    if not placement:
        raise ProviderUnavailableError(
            "device='openvino' cannot be used: this onnxruntime does not tell which nodes OpenVINO took; expected "
            "1.24 or newer"
        )
    kinds = dict.fromkeys(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != OPENVINO
        for node in part.get_nodes()
    )
    raise ProviderUnavailableError(
        f"device='openvino' cannot be used: OpenVINO took {placement[OPENVINO]} of the {sum(placement.values())} nodes "
        f"of {graph.name}, not {', '.join(kinds)}. Use a variant that is made for it, as --optimize-for openvino "
        "exports it, or device='cpu'."
    )


@contextlib.contextmanager
def _quiet(ort: Any, device: Device) -> Iterator[None]:
    """Keep onnxruntime from warning that CUDA is no plugin, which says nothing of whether it works."""
    if device.kind != "cuda":
        yield
        return
    ort.set_default_logger_severity(_ERROR)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _providers(
    device: Device, options: Any, device_memory_bytes: int | None, *, capture: bool
) -> dict[str, Any]:
    """Arguments of InferenceSession for a device; a plugin's devices are added to the options instead."""
    if device.kind == "cpu":
        return {"providers": [CPU]}
    settings = dict(device.options)
    plugins = plugin_devices(device.execution_provider)
    if plugins and device.kind == "openvino":
        wanted = settings.pop("device_type", "CPU")
        plugins = [each for each in plugins if each.ep_metadata.get("ov_device") == wanted]
    if plugins:
        options.add_provider_for_devices(plugins[:1], settings)
        return {}
    if device.kind == "cuda":
        # float32 is float32: onnxruntime's default rounds the factors of products to 10 bits
        made = {
            "device_id": str(device.index),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
        }
        if device_memory_bytes is not None:
            made["gpu_mem_limit"] = str(device_memory_bytes)
        if capture:
            made["enable_cuda_graph"] = "1"
        settings = made | settings
    return {"providers": [(device.execution_provider, settings), CPU]}


def _value(ort: Any, weight: Weight) -> Any:
    if weight.onnx_type is None:
        return ort.OrtValue.ortvalue_from_numpy(weight.array)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weight.array, weight.onnx_type)


def _placement(session: Any) -> dict[str, int]:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counted: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counted[part.ep_name] += len(part.get_nodes())
    return dict(counted.most_common())


def _options_advice(device: Device) -> str | None:
    """What to do where the caller's settings of a provider that is here are to be doubted first."""
    given = {name: value for name, value in device.options if name != _OWN_OPTION}
    if not given:
        return None
    return (
        f"It was asked with provider_options={given!r}; expected names and values that {device.execution_provider} "
        "knows, and hardware that is here. Leave them out, or use device='cpu'."
    )


def _advice(device: Device) -> str:
    if (advice := _options_advice(device)) is not None:
        return advice
    if device.kind == "cuda":
        return CUDA_ADVICE
    if device.kind == "openvino":
        return OPENVINO_ADVICE
    return f"Check what {device.execution_provider} needs on this machine, or use device='cpu'."
