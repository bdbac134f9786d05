"""A loaded graph on a device: options, running, and onnxruntime's errors in our words."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedge._sessions.cuda import CUDA_ADVICE
from embedge._sessions.devices import CPU, Device, plugin_devices
from embedge._sessions.onnxruntime import import_onnxruntime, in_words
from embedge.errors import DeviceMemoryError, EmbedgeError, ProviderUnavailableError, SessionError

if TYPE_CHECKING:
    import onnxruntime

_OUT_OF_MEMORY = re.compile(
    r"out of memory|Available memory of \d+ is smaller|Failed to allocate memory|bad_alloc|ALLOC_FAILED"
    r"|CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    re.IGNORECASE,
)

_WARNING, _ERROR = 2, 3
"""Of onnxruntime's log; it has the first by default, and does not tell which one it has."""


class Lane(Protocol):
    """What a thread of a call computes with."""

    @property
    def device(self) -> Device:
        """Where it runs."""
        ...

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """See Session.run."""
        ...


class Session:
    """One loaded graph; `run` may be called from several threads.

    Args:
        graph: the .onnx file.
        device: where to run.
        threads: threads inside one run.
        disabled_optimizers: onnxruntime's fusions that must not run.
        device_memory_bytes: limit of onnxruntime's memory arena on a GPU.
        plan_memory: let onnxruntime plan a block of memory for each shape of batch that it meets. That is a little
            faster with batches of many shapes, and takes an eighth more memory in all.
        capture: let onnxruntime capture CUDA graphs of what is run with bindings.

    Raises:
        SessionError: onnxruntime refuses the graph.
        ProviderUnavailableError: it would not run on the device.

    Attributes:
        placement: number of the graph's nodes by execution provider; empty on the CPU, where there is no choice,
            and where onnxruntime is too old to tell.
    """

    def __init__(
        self,
        graph: Path,
        *,
        device: Device,
        threads: int,
        disabled_optimizers: Sequence[str] = (),
        device_memory_bytes: int | None = None,
        plan_memory: bool = True,
        capture: bool = False,
    ) -> None:
        self._device = device
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
            with _quiet(ort, device):
                self._session: onnxruntime.InferenceSession = ort.InferenceSession(
                    str(graph),
                    options,
                    **providers,
                    disabled_optimizers=list(disabled_optimizers),
                    # else onnxruntime prints what went wrong and runs on the CPU
                    enable_fallback=0,
                )
        except Exception as error:  # onnxruntime raises many unrelated classes
            message = in_words(error)
            if _OUT_OF_MEMORY.search(message):
                raise DeviceMemoryError(
                    f"{graph.name} does not fit into the memory of {device.name}: {message}. "
                    "Use a smaller variant, a larger device_memory_bytes, or another device.",
                    device=device.name,
                ) from error
            if device.kind != "cpu" and re.search(r"cuda|device|provider", message, re.IGNORECASE):
                raise ProviderUnavailableError(
                    f"device={device.name!r} cannot be used: {message}. {_advice(device)}"
                ) from error
            raise SessionError(
                f"onnxruntime {ort.__version__} cannot load {graph.name}: {message}. "
                "Install a newer onnxruntime, or export the model again."
            ) from error
        actual = self._session.get_providers()
        if device.execution_provider not in actual:
            raise ProviderUnavailableError(
                f"device={device.name!r} cannot be used: onnxruntime fell back to {', '.join(actual)}. "
                f"{_advice(device)}"
            )
        self.placement = {} if device.kind == "cpu" else _placement(self._session)
        if self.placement and not self.placement.get(device.execution_provider):
            raise ProviderUnavailableError(
                f"device={device.name!r} cannot be used: {device.execution_provider} took none of the "
                f"{sum(self.placement.values())} nodes of {graph.name}. Use another variant, or device='cpu'."
            )

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Compute one output.

        Raises:
            DeviceMemoryError: the batch does not fit into memory.
            SessionError: onnxruntime failed otherwise.
        """
        try:
            return np.asarray(self._session.run([output], dict(feeds))[0])
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise self._failure(error, feeds["input_ids"].shape) from error

    def row_outputs(self) -> dict[str, int]:
        """Components of the outputs that have one row per text, by their names."""
        return {
            output.name: output.shape[1]
            for output in self._session.get_outputs()
            if len(output.shape) == 2 and isinstance(output.shape[1], int)
        }

    def binding(self) -> onnxruntime.IOBinding:
        """A binding to state inputs and outputs at fixed addresses in, for `run_bound`."""
        return self._session.io_binding()

    def run_bound(
        self, binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions, shape: tuple[int, ...]
    ) -> None:
        """Compute what is bound.

        Args:
            binding: of this session.
            options: of the run.
            shape: (batch, seq_len), for messages.

        Raises:
            DeviceMemoryError, SessionError: as `run`.
        """
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise self._failure(error, shape) from error

    def _failure(self, error: Exception, shape: tuple[int, ...]) -> EmbedgeError:
        """What happened in a run, in our words."""
        message = in_words(error)
        batch_size, seq_len = shape
        where = f"a batch of {batch_size} texts of up to {seq_len} tokens"
        if _OUT_OF_MEMORY.search(message):
            return DeviceMemoryError(
                f"{where} does not fit into the memory of {self.device.name}: {message}. The model goes on "
                "working; pass a smaller max_batch_tokens, or retry_smaller_batches=True.",
                device=self.device.name,
                batch_size=batch_size,
                seq_len=seq_len,
            )
        return SessionError(f"onnxruntime failed on {self.device.name} with {where}: {message}.")


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


def _placement(session: Any) -> dict[str, int]:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counted: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counted[part.ep_name] += len(part.get_nodes())
    return dict(counted.most_common())


def _advice(device: Device) -> str:
    if device.kind == "cuda":
        return CUDA_ADVICE
    return f"Check what {device.execution_provider} needs on this machine, or use device='cpu'."
