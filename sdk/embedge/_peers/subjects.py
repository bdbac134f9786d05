"""Who can be asked for a bundle's vectors on this machine: its own variants, and the libraries that are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from embedge._engine.variant import choose_variant, suiting
from embedge._peers.checkpoints import Checkpoint
from embedge._peers.figures import LeftOut
from embedge.bundle import Bundle
from embedge.errors import ParamsError
from embedge.manifest import Manifest

_MOST_VARIANTS = 4
_LOOK_S = 20.0
_SETTINGS = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }
)
"""Nothing is fetched, nothing is reported."""
_POOLED_BY_OTHERS = ("MEAN", "CLS")
_LOOK = (
    "import importlib.metadata as m, json, sys\n"
    "found = {}\n"
    "for name in sys.argv[1:]:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(found))"
)


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """A way to ask another library.

    Attributes:
        label: what a picture calls it.
        opener: of asked.OPENERS.
        needs: packages, the one whose version is shown first.
        backend: of sentence-transformers.
        from_graph: it runs an ONNX graph of hidden states and pools them itself; others read the checkpoint.
    """

    label: str
    opener: str
    needs: tuple[str, ...]
    backend: str = ""
    from_graph: bool = False


LIBRARIES = (
    Library(label="fastembed", opener="fastembed", needs=("fastembed",), from_graph=True),
    Library(label="light-embed", opener="light_embed", needs=("light-embed",), from_graph=True),
    Library(label="onnxruntime, a script", opener="script", needs=("onnxruntime", "tokenizers"), from_graph=True),
    Library(
        label="sentence-transformers, torch",
        opener="sentence_transformers",
        needs=("sentence-transformers", "torch"),
        backend="torch",
    ),
    Library(
        label="sentence-transformers, onnx",
        opener="sentence_transformers",
        needs=("sentence-transformers", "optimum-onnx", "onnxruntime"),
        backend="onnx",
    ),
    Library(
        label="sentence-transformers, openvino",
        opener="sentence_transformers",
        needs=("sentence-transformers", "optimum-intel", "openvino"),
        backend="openvino",
    ),
)  # fmt: skip
"""In the order in which they are asked: those that load fast come first, in case that the time runs out."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One way to the vectors, as a process of its own takes it.

    Attributes:
        label: what a picture calls it.
        ours: it is a variant of the bundle.
        of_checkpoint: it is the checkpoint's own library, in float32.
        dtype: of its weights.
        python: interpreter that runs it.
        version: of the library.
        job: what the process is told.
    """

    label: str
    ours: bool
    of_checkpoint: bool = False
    dtype: str
    python: str
    version: str
    job: Mapping[str, Any]


def own_subjects(bundle: Bundle, variants: Sequence[str], threads: int, version: str) -> list[Subject]:
    """The bundle's variants that this processor runs, or those that are asked for.

    Raises:
        ParamsError: the bundle has no such variant.
    """
    manifest = bundle.manifest
    there = suiting(manifest, "cpu")
    if not there:
        raise ParamsError(
            f"bench measures the CPU, and bundle {manifest.name!r} has no variant that runs on this one; it has "
            f"{', '.join(manifest.variants)}. Export the checkpoint with --variants fp32,int8"
        )
    # also what stands in for one that this processor lacks something for
    variants = [choose_variant(manifest, name, "cpu").name for name in variants]
    return [
        Subject(
            label=f"embedge {name}",
            ours=True,
            dtype=manifest.variants[name].dtype,
            python=sys.executable,
            version=version,
            job={
                "library": "embedge",
                "bundle": str(bundle.folder.absolute()),
                "variant": name,
                "threads": threads,
            },
        )
        for name in (variants or there[:_MOST_VARIANTS])
    ]


def other_subjects(
    bundle: Bundle, checkpoint: Checkpoint | str, pythons: Sequence[str], threads: int, empty: Path
) -> tuple[list[Subject], list[LeftOut]]:
    """Every library that an interpreter has and that can run this model; those that cannot, with the reason.

    Args:
        bundle: of embeddings.
        checkpoint: that it was exported from; a string says why there is none.
        pythons: interpreters to look in, this one first.
        threads: for all of them.
        empty: a folder without files, in which interpreters are begun: they import what lies where they are.
    """
    found: list[Subject] = []
    left_out: list[LeftOut] = []
    wanted = sorted({package for library in LIBRARIES for package in library.needs})
    for number, given in enumerate(pythons):
        # processes run elsewhere; an environment's link is kept, as it says which environment
        python = str(Path(given).absolute()) if {"/", os.sep} & set(given) else given
        versions = _installed(python, wanted, empty)
        for library in LIBRARIES:
            if any(package not in versions for package in library.needs):
                continue
            label = library.label if number == 0 else f"{library.label} ({python})"
            if library.opener == "script" and number > 0:
                continue
            made = _job(library, bundle, checkpoint)
            if isinstance(made, str):
                left_out.append(LeftOut(label=label, reason=made))
                continue
            note = ", on this bundle's graph" if made.get("folder") == str(bundle.folder.absolute()) else ""
            found.append(
                Subject(
                    label=library.label + note,
                    ours=False,
                    of_checkpoint=library.backend == "torch",
                    dtype="float32",
                    python=python,
                    version=f"{library.needs[0]} {versions[library.needs[0]]}",
                    job={**made, "threads": threads, "max_tokens": bundle.manifest.max_seq_len},
                )
            )
    return found, left_out


def _job(library: Library, bundle: Bundle, checkpoint: Checkpoint | str) -> dict[str, Any] | str:
    """What its process is told, or why it cannot be asked."""
    manifest = bundle.manifest
    if not library.from_graph:
        if isinstance(checkpoint, str):
            return checkpoint
        return {
            "library": library.opener,
            "backend": library.backend,
            "checkpoint": str(checkpoint.folder.absolute()),
        }
    pooling = _pooling(manifest)
    if pooling is None:
        return "it pools by mean or first token without further layers, and this model does otherwise"
    if not isinstance(checkpoint, str) and checkpoint.graph is not None:
        folder, graph, data = checkpoint.folder, checkpoint.graph, checkpoint.graph_data
    elif library.opener != "script" and "fp32" in manifest.variants and manifest.graph.hidden is not None:
        spec = manifest.variants["fp32"]
        folder, graph, data = bundle.folder, spec.file, spec.data_files
    else:
        return (
            f"it runs the checkpoint's onnx/model.onnx, and {checkpoint}"
            if isinstance(checkpoint, str)
            else "the checkpoint has no onnx/model.onnx for it"
        )
    return {
        "library": library.opener,
        "folder": str(folder.absolute()),
        "graph": graph,
        "graph_data": list(data),
        "pooling": pooling,
        "dim": manifest.hidden_size,
    }


def _pooling(manifest: Manifest) -> str | None:
    """How others would have to pool, where they can."""
    modes = () if manifest.pooling is None else manifest.pooling.modes
    plain = (
        len(modes) == 1 and not manifest.modules and not manifest.sparse and manifest.late_interaction is None
    )
    return str(modes[0]) if plain and modes[0] in _POOLED_BY_OTHERS else None


def _installed(python: str, packages: Sequence[str], empty: Path) -> dict[str, str]:
    """Versions of the packages that an interpreter has.

    Raises:
        ParamsError: it is no Python interpreter.
    """
    try:
        done = subprocess.run(
            [python, "-c", _LOOK, *packages],
            capture_output=True, text=True, check=True, timeout=_LOOK_S, env=environment(python), cwd=empty,
        )  # fmt: skip
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ParamsError(
            f"--python {python} does not answer as a Python interpreter does ({_why(error)}); expected one, as in "
            ".venv/bin/python"
        ) from error
    return found


def _why(error: Exception) -> str:
    """Why there was no answer, without the program that was asked."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {_LOOK_S:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        words = str(error.stderr).strip().splitlines()
        return f"it ended with status {error.returncode}{': ' + words[-1][:200] if words else ''}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "what it wrote is no answer"


def environment(python: str) -> dict[str, str]:
    """Variables of a process that asks a library: this one's own packages only where it is this interpreter."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python == sys.executable:
        given["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path if each)
    return given | _SETTINGS
