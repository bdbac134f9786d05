"""From the user's words for a device to what onnxruntime offers on this machine; nothing falls back silently."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from embedge._machine.gpu import count_gpus
from embedge._plain import plain
from embedge._sessions.cuda import CUDA, CUDA_ADVICE, cuda_problem
from embedge._sessions.onnxruntime import import_onnxruntime, plugin_devices
from embedge._sessions.openvino import OPENVINO, OPENVINO_ADVICE, device_type_problem, openvino_problem
from embedge.errors import ParamsError, ProviderUnavailableError, did_you_mean

CPU = "CPUExecutionProvider"
UNTESTED = {
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""Further execution providers by the user's word; they get the same checks, and no release was tested on them."""

_WORDS = '"cpu", "cuda", "cuda:N", "openvino", "auto", or one of ' + ", ".join(
    f'"{word}"' for word in UNTESTED
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that onnxruntime was found to offer.

    Attributes:
        kind: "cpu", "cuda", "openvino", or a key of UNTESTED.
        index: which GPU; 0 for everything but CUDA.
        reason: why this one.
        options: settings of the execution provider, beyond those that embedge makes.
    """

    kind: str
    index: int = 0
    reason: str = "asked for"
    options: tuple[tuple[str, str], ...] = ()

    @property
    def execution_provider(self) -> str:
        """Name that onnxruntime has for it."""
        return {"cpu": CPU, "cuda": CUDA, "openvino": OPENVINO, **UNTESTED}[self.kind]

    @property
    def name(self) -> str:
        """The user's word for it."""
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


def find_devices(
    device: str | Sequence[str], provider_options: Mapping[str, Any] | None = None
) -> list[Device]:
    """Turn the user's words into devices that exist here.

    Args:
        device: "cpu", "cuda", "cuda:N", "openvino" or "auto"; a key of UNTESTED; or a list of different "cuda:N".
        provider_options: settings of the execution provider, by onnxruntime's names.

    Raises:
        ParamsError: another word, a device twice, a list that mixes kinds, or options for the CPU.
        ProviderUnavailableError: onnxruntime does not offer it here.
    """
    options = _checked_options(provider_options)
    if isinstance(device, str):
        words: list[Any] = [device]
    else:
        try:
            words = list(device)
        except TypeError:  # no sequence, or an array of no dimensions
            words = [device]
        if not words:
            raise ParamsError(
                'device=[] names none; expected "cpu", "cuda", "auto", or a list such as ["cuda:0", "cuda:1"]'
            )
    found = [_find_device(word) for word in words]
    if len({d.name for d in found}) < len(found) or (len(found) > 1 and any(d.kind != "cuda" for d in found)):
        raise ParamsError(
            f'device={words!r} is not possible; a list names different GPUs, as in ["cuda:0", "cuda:1"]'
        )
    if options and found[0].kind == "cpu":
        raise ParamsError(
            f"provider_options={dict(options)!r} are settings of an accelerator, and device={device!r} is the CPU "
            f"here ({found[0].reason}); leave them out"
        )
    if found[0].kind == "openvino":
        return [_openvino(options)]
    return [msgspec.structs.replace(d, options=options) for d in found]


def _checked_options(provider_options: Any) -> tuple[tuple[str, str], ...]:
    if provider_options is None:
        return ()
    if not isinstance(provider_options, Mapping) or not all(
        isinstance(key, str) and isinstance(plain(value), (str, int, float, bool))
        for key, value in provider_options.items()
    ):
        raise ParamsError(
            f"provider_options={provider_options!r} is not possible; expected a dict from onnxruntime's names of "
            'settings to text or numbers, as in {"device_type": "GPU"}'
        )
    return tuple((key, str(value)) for key, value in provider_options.items())


def _find_device(device: Any) -> Device:
    word = str(device).lower()
    if word == "openvino":
        return Device(kind="openvino")
    if word in UNTESTED:
        return _find_untested(word)
    matched = re.fullmatch(r"(cpu|auto|cuda)(?::(\d+))?", str(device))
    if matched is None or (matched[2] and matched[1] != "cuda"):
        known = ("cpu", "cuda", "openvino", "auto", *UNTESTED)
        near = did_you_mean(device, known)
        raise ParamsError(f"device={device!r} is not known; expected {_WORDS}.{near}")
    if matched[1] == "cpu":
        return Device(kind="cpu")
    problem = cuda_problem()
    if matched[1] == "auto":
        if problem is None:
            return Device(
                kind="cuda", reason="auto: onnxruntime offers CUDA, its libraries load, a GPU is there"
            )
        return Device(kind="cpu", reason=f"auto: {problem}")
    if problem is not None:
        raise ProviderUnavailableError(f"device={device!r} cannot be used: {problem}. {CUDA_ADVICE}")
    index, count = int(matched[2] or 0), count_gpus()
    if index >= count:
        there = ", ".join(f"cuda:{i}" for i in range(count))
        raise ProviderUnavailableError(
            f"device={device!r} is not there; this machine has {count} GPU{'s' if count > 1 else ''} ({there})"
        )
    return Device(kind="cuda", index=index)


def _openvino(options: tuple[tuple[str, str], ...]) -> Device:
    device_type = dict(options).get("device_type", "CPU")
    problem = openvino_problem() or device_type_problem(device_type)
    if problem is not None:
        raise ProviderUnavailableError(f"device='openvino' cannot be used: {problem}. {OPENVINO_ADVICE}")
    reason = "asked for"
    if device_type != "CPU":
        reason = (
            f"asked for; untested: embedge's releases are tested with OpenVINO's CPU, not its {device_type}"
        )
    return Device(kind="openvino", reason=reason, options=options)


def _find_untested(word: str) -> Device:
    ort = import_onnxruntime()
    name = UNTESTED[word]
    offered = [*ort.get_available_providers(), *(d.ep_name for d in plugin_devices(name))]
    if name not in offered:
        raise ProviderUnavailableError(
            f"device={word!r} cannot be used: onnxruntime {ort.__version__} here offers {', '.join(offered)}, "
            f"not {name}. Install the onnxruntime wheel that has it, or register its plugin library "
            "(onnxruntime.register_execution_provider_library) before the model is loaded."
        )
    return Device(kind=word, reason=f"asked for; untested: embedge's releases are not tested with {name}")
