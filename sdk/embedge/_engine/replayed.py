"""What became of probes on this machine, kept in the store, so that they are replayed once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge import store
from embedge._engine.choosing import Choice
from embedge._log import info
from embedge._machine.cpu import cpu_features, cpu_name
from embedge._replacing import replace_whole
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge.errors import BundleError

_FOLDER = ".probes"


class ReplayRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome and what it holds for.

    Attributes:
        fingerprint, bundle, variant: the graph, and the bundle's name.
        machine: the processor with its instruction sets, and the device.
        onnxruntime: its version.
        passed: whether the variant may be used.
        outcome: figures, for people.
    """

    fingerprint: str
    bundle: str
    variant: str
    machine: str
    onnxruntime: str
    passed: bool
    outcome: str


def find_record(choice: Choice) -> ReplayRecord | None:
    """What became of a chosen graph's probes on this machine with this onnxruntime, if that is known."""
    try:
        found = _read(_file(choice))
    except BundleError:  # there is no store
        return None
    fresh = _record(choice, "", passed=False)
    if found is None or _holds_for(found) != _holds_for(fresh):
        return None
    return found


def save_record(choice: Choice, outcome: str, *, passed: bool) -> ReplayRecord:
    """Keep an outcome; where the store cannot be written, probes are replayed at every load."""
    record = _record(choice, outcome, passed=passed)
    try:
        path = _file(choice)
    except BundleError as error:
        info("%s Probes are replayed at every load", error)
        return record
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        replace_whole(path, content, alone=False)
    except OSError as error:
        info("%s cannot be written (%s); probes are replayed at the next load", path, error.strerror)
    return record


def refused_here() -> list[ReplayRecord]:
    """Variants that missed their probes on this machine with this onnxruntime, by bundle and name.

    Raises:
        BundleError: there is no store.
    """
    version = str(import_onnxruntime().__version__)
    found = [record for path in sorted(_folder().glob("*.json")) if (record := _read(path)) is not None]
    here = [each for each in found if each.onnxruntime == version and each.machine.startswith(_processor())]
    return sorted((each for each in here if not each.passed), key=lambda each: (each.bundle, each.variant))


def _record(choice: Choice, outcome: str, *, passed: bool) -> ReplayRecord:
    return ReplayRecord(
        fingerprint=choice.manifest.fingerprint,
        bundle=choice.manifest.name,
        variant=choice.variant.name,
        machine=f"{_processor()}, {choice.device.name}",
        onnxruntime=str(import_onnxruntime().__version__),
        passed=passed,
        outcome=outcome,
    )


def _holds_for(record: ReplayRecord) -> tuple[str, ...]:
    return record.fingerprint, record.variant, record.machine, record.onnxruntime


def _processor() -> str:
    return f"{cpu_name()} with {' '.join(cpu_features()) or 'what its system does not list'}"


def _folder() -> Path:
    return store.home() / _FOLDER


def _file(choice: Choice) -> Path:
    device = choice.device.name.replace(":", "-")
    return _folder() / f"{choice.manifest.fingerprint[:16]}-{choice.variant.name}-{device}.json"


def _read(path: Path) -> ReplayRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ReplayRecord)
    except (OSError, ValueError, RecursionError):
        return None
