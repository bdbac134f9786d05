"""The only importer of onnxruntime: devices, options, running, and its errors in our words."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from embedge.errors import ParamsError, ProviderUnavailableError, SessionError

if TYPE_CHECKING:
    import onnxruntime

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_CUDA_ADVICE = (
    "Install onnxruntime-gpu in place of onnxruntime, with the CUDA and cuDNN versions that it names, "
    "or use device='cpu'."
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that onnxruntime was found to offer.

    Attributes:
        kind: "cpu" or "cuda".
        index: which GPU; 0 for the CPU.
        reason: why this one.
    """

    kind: str
    index: int = 0
    reason: str = "asked for"

    @property
    def execution_provider(self) -> str:
        """Name that onnxruntime has for it."""
        return _CUDA if self.kind == "cuda" else _CPU

    @property
    def name(self) -> str:
        """The user's word for it."""
        return f"cuda:{self.index}" if self.kind == "cuda" else "cpu"


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off, unless the user's environment already decides that.

    Raises:
        SessionError: it is not installed, or cannot be loaded.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise SessionError(
            f"onnxruntime cannot be imported ({error}); expected onnxruntime or onnxruntime-gpu. "
            "Install one: pip install onnxruntime"
        ) from error
    return onnxruntime


def find_devices(device: str | Sequence[str]) -> list[Device]:
    """Turn the user's words into devices that exist here.

    Args:
        device: "cpu", "cuda", "cuda:N" or "auto"; or a list of different "cuda:N".

    Raises:
        ParamsError: another word, a device twice, or a list that mixes kinds.
        ProviderUnavailableError: onnxruntime does not offer it here.
    """
    if isinstance(device, str):
        return [_find_device(device)]
    words: list[Any] = list(device) if hasattr(device, "__iter__") else [device]
    if not words:
        raise ParamsError(
            'device=[] names none; expected "cpu", "cuda", "auto", or a list such as ["cuda:0", "cuda:1"]'
        )
    found = [_find_device(word) for word in words]
    if len({d.name for d in found}) < len(found) or (len(found) > 1 and any(d.kind == "cpu" for d in found)):
        raise ParamsError(
            f'device={words!r} is not possible; a list names different GPUs, as in ["cuda:0", "cuda:1"]'
        )
    return found


def _find_device(device: str) -> Device:
    matched = re.fullmatch(r"(cpu|auto|cuda)(?::(\d+))?", str(device))
    if matched is None or (matched[2] and matched[1] != "cuda"):
        raise ParamsError(f'device={device!r} is not known; expected "cpu", "cuda", "cuda:N" or "auto"')
    if matched[1] == "cpu":
        return Device(kind="cpu")
    problem = _cuda_problem()
    if matched[1] == "auto":
        if problem is None:
            return Device(kind="cuda", reason="auto: onnxruntime offers CUDA, and its libraries load")
        return Device(kind="cpu", reason=f"auto: {problem}")
    if problem is not None:
        raise ProviderUnavailableError(f"device={device!r} cannot be used: {problem}. {_CUDA_ADVICE}")
    return Device(kind="cuda", index=int(matched[2] or 0))


@functools.cache
def _cuda_problem() -> str | None:
    """Why CUDA cannot be used, or None. onnxruntime itself only warns, and runs on the CPU."""
    ort = import_onnxruntime()
    offered = ort.get_available_providers()
    if _CUDA not in offered:
        return f"onnxruntime {ort.__version__} here offers {', '.join(offered)}, not {_CUDA}"
    if hasattr(ort, "preload_dlls"):
        # finds the libraries of the nvidia-* wheels and of torch; says nothing where there are none
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    folder = Path(ort.__file__).parent / "capi"
    try:
        for library in sorted(folder.glob("*onnxruntime_providers_shared*")):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        for library in sorted(folder.glob("*onnxruntime_providers_cuda*")):
            ctypes.CDLL(str(library))
    except OSError as error:
        return f"onnxruntime {ort.__version__} has CUDA, but its libraries do not load ({error})"
    return None


class Session:
    """One loaded graph; `run` may be called from several threads.

    Args:
        graph: the .onnx file.
        device: where to run.
        threads: threads inside one run.
        disabled_optimizers: onnxruntime's fusions that must not run.
        device_memory_bytes: limit of onnxruntime's memory arena on an accelerator.

    Raises:
        SessionError: onnxruntime refuses the graph.
        ProviderUnavailableError: it would not run on the device.
    """

    def __init__(
        self,
        graph: Path,
        *,
        device: Device,
        threads: int,
        disabled_optimizers: Sequence[str] = (),
        device_memory_bytes: int | None = None,
    ) -> None:
        self.device = device
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # threads wait actively between the operators of a run, and not at all between runs
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers: list[Any] = [_CPU]
        if device.kind == "cuda":
            settings = {"device_id": str(device.index), "arena_extend_strategy": "kSameAsRequested"}
            if device_memory_bytes is not None:
                settings["gpu_mem_limit"] = str(device_memory_bytes)
            providers.insert(0, (_CUDA, settings))
        try:
            self._session: onnxruntime.InferenceSession = ort.InferenceSession(
                str(graph),
                options,
                providers=providers,
                disabled_optimizers=list(disabled_optimizers),
                # else onnxruntime prints what went wrong and runs on the CPU
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime raises many unrelated classes
            if device.kind == "cuda" and re.search(r"cuda|device", str(error), re.IGNORECASE):
                raise ProviderUnavailableError(
                    f"device={device.name!r} cannot be used: {_first_line(error)}. {_CUDA_ADVICE}"
                ) from error
            raise SessionError(
                f"onnxruntime {ort.__version__} cannot load {graph.name}: {_first_line(error)}. "
                "Install a newer onnxruntime, or export the model again."
            ) from error
        actual = self._session.get_providers()
        if device.execution_provider not in actual:
            raise ProviderUnavailableError(
                f"device={device.name!r} cannot be used: onnxruntime fell back to {', '.join(actual)}. {_CUDA_ADVICE}"
            )

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Compute one output.

        Raises:
            SessionError: onnxruntime failed.
        """
        try:
            return np.asarray(self._session.run([output], dict(feeds))[0])
        except Exception as error:  # onnxruntime raises many unrelated classes
            shapes = {name: array.shape for name, array in feeds.items()}
            raise SessionError(
                f"onnxruntime failed on {self.device.name} with inputs {shapes}: {_first_line(error)}. "
                "If memory ran out, pass a smaller max_batch_tokens."
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
