"""`embedge doctor`: what this machine offers."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from embedge import store
from embedge._engine.replayed import refused_here
from embedge._machine.cpu import available_threads, cpu_features, cpu_name, processor_quota
from embedge._machine.memory import available_memory_bytes, group_memory_bytes
from embedge._sessions.cuda import cuda_problem
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.openvino import openvino_problem
from embedge._sessions.products import EXACT_INT8, graph_features
from embedge._version import __version__
from embedge.cli._console import print_facts, print_json, size
from embedge.cli._parser import Parser
from embedge.errors import BundleError, EmbedgeError

_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "msgspec")
_EXTRAS = {"export": ("onnx", "safetensors"), "export-torch": ("torch", "transformers")}
"""Modules that each brings."""
_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def add_parser(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `doctor`."""
    doctor = commands.add_parser("doctor", help="show what embedge finds on this machine")
    doctor.add_argument("--json", action="store_true", help="the findings as JSON")
    doctor.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Show the findings; fails where onnxruntime cannot be imported."""
    findings = _findings()
    if args.json:
        print_json(findings)
    else:
        print_facts([(name, _words(value)) for name, value in findings.items()])
    return 0 if "providers" in findings else 1


def _findings() -> dict[str, Any]:
    threads, quota = available_threads(), processor_quota()
    free, granted = available_memory_bytes(), group_memory_bytes()
    stated = os.environ.get(_TELEMETRY)
    found: dict[str, Any] = {
        "embedge": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
        "packages": {name: each for name in _PACKAGES if (each := _version(name)) is not None},
        "exporter": _exporter(),
        "cpu": cpu_name(),
        "cpu features": list(cpu_features()),
        "threads": threads,
        "processors": os.cpu_count(),
        "cgroup quota": quota,
        "free memory": None if free is None else size(free),
        "of a cgroup's limit": None if granted is None else size(granted),
        **_store(),
        "telemetry": _telemetry(stated),
    }
    try:
        ort = import_onnxruntime()
    except EmbedgeError as error:
        return found | {"onnxruntime": str(error)}
    return found | {
        "providers": list(ort.get_available_providers()),
        "8-bit products": "exact"
        if EXACT_INT8 in graph_features()
        else "overflow here; uint8 runs in place of int8",
        "cuda": cuda_problem() or "usable",
        "openvino": openvino_problem() or "usable",
        **({} if found["bundles"] is None else {"refused variants": _refused()}),
    }


def _store() -> dict[str, Any]:
    try:
        return {
            "store": str(store.home()),
            "bundles": [store.name_of(folder) for folder in store.list_bundles()],
        }
    except BundleError as error:
        return {"store": str(error), "bundles": None}


def _refused() -> list[str]:
    return [f"{each.bundle} {each.variant} ({each.outcome})" for each in refused_here()]


def _telemetry(stated: str | None) -> str:
    if stated is not None:
        return f"left to {_TELEMETRY}={stated}"
    # the variable is read when onnxruntime is imported, which another program may do before embedge
    return f"off, set by embedge; a program that imports onnxruntime first has to set {_TELEMETRY}=1 itself"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _exporter() -> str:
    """What of the exporter can be used here: its own packages, and torch, which traces what is not built."""
    missing = [extra for extra in _EXTRAS if not all(map(importlib.util.find_spec, _EXTRAS[extra]))]
    if "export" in missing:
        return "not installed; pip install 'embedge[export]'"
    return "installed, without torch" if missing else "installed, with torch"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "none" if value is None else str(value)
