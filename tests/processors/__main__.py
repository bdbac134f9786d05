"""Replay a bundle's probes on emulated processors, print the table, and write it beside the other figures.

python -m tests.processors BUNDLE          # with the variants fp32, int8 and uint8; what `make processors` runs

Fails where a variant misses its probes, or fp32 or uint8 give other numbers than on this machine by more than rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime
from tests.processors import parts
from tests.soak.figures import write

from embedge._machine.cpu import cpu_features, cpu_name
from embedge.manifest import load_manifest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "benchmarks" / "results" / "processors.md"
_VARIANTS = ("fp32", "uint8", "int8")
_ROUNDING = 1e-3
"""Of raw embeddings of MiniLM's size, whose components are up to 10: kernels add up in another order."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What is emulated.

    Attributes:
        name: for people.
        machine, cpu: of qemu.
        exact: whether it adds the products of int8 up without overflow, so that int8 is meant for it.
    """

    name: str
    machine: str
    cpu: str
    exact: bool


PROCESSORS = (
    Processor(
        name="x86 with AVX2, without VNNI (Haswell)", machine="x86_64", cpu="Haswell-noTSX", exact=False
    ),
    Processor(name="x86 with SSE4 alone (Nehalem)", machine="x86_64", cpu="Nehalem", exact=False),
    Processor(name="aarch64 with dot products (max)", machine="aarch64", cpu="max", exact=True),
    Processor(name="aarch64 without them (Cortex-A72)", machine="aarch64", cpu="cortex-a72", exact=True),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant on one processor.

    Attributes:
        processor, variant: which.
        max_abs_diff, tolerance: of its probes.
        from_here: largest difference to the answers of the same variant on this machine.
        seconds: for two replays.
    """

    processor: Processor
    variant: str
    max_abs_diff: float
    tolerance: float
    from_here: float
    seconds: float

    @property
    def is_used(self) -> bool:
        """Whether embedge runs the variant on such a processor."""
        return self.variant != "int8" or self.processor.exact

    @property
    def holds(self) -> bool:
        """Whether it may be used."""
        return self.max_abs_diff <= self.tolerance and self.from_here <= _ROUNDING


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.processors")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", type=Path, default=ROOT / ".venvs" / "processors", help="of the emulators")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    asked = parser.parse_args()
    there = load_manifest(asked.bundle).variants
    variants = [name for name in _VARIANTS if name in there]
    with tempfile.TemporaryDirectory() as scratch:
        here = replayed([sys.executable], asked.bundle, variants, Path(scratch))
        cells = [
            cell
            for processor in PROCESSORS
            for cell in emulated(processor, asked.parts, asked.bundle, variants, here)
        ]
    text = section(cells)
    print(text)
    if not asked.no_write:
        write("processors", text, FILE, "# Other processors\n")
    if wrong := [cell for cell in cells if cell.is_used and not cell.holds]:
        raise SystemExit(
            "\n".join(f"{cell.variant} does not hold on {cell.processor.name}" for cell in wrong)
        )


def emulated(
    processor: Processor,
    folder: Path,
    bundle: Path,
    variants: list[str],
    here: dict[str, tuple[dict, np.ndarray]],
) -> list[Cell]:
    """Replay on an emulated processor, and compare with this machine."""
    qemu = str(parts.qemu(folder.resolve()) / f"qemu-{processor.machine}")
    if processor.machine == "x86_64":
        packages = Path(onnxruntime.__file__).parents[1]
        command, paths = [qemu, "-cpu", processor.cpu, os.path.realpath(sys.executable)], [packages]
    else:
        root, site = parts.arm_python(folder.resolve())
        command = [qemu, "-cpu", processor.cpu, "-L", str(root), str(root / "usr" / "bin" / "python3.11")]
        paths = [site]
    with tempfile.TemporaryDirectory() as scratch:
        found = replayed(command, bundle, variants, Path(scratch), paths)
    return [
        Cell(
            processor=processor,
            variant=name,
            max_abs_diff=line["max_abs_diff"],
            tolerance=line["tolerance"],
            from_here=float(np.abs(answers - here[name][1]).max()),
            seconds=line["seconds"],
        )
        for name, (line, answers) in found.items()
    ]


def replayed(
    command: list[str], bundle: Path, variants: list[str], scratch: Path, paths: list[Path] | None = None
) -> dict[str, tuple[dict, np.ndarray]]:
    """What the child prints, and the answers that it saves, by variant."""
    child = Path(__file__).with_name("child.py")
    search = os.pathsep.join(map(str, [ROOT / "sdk", *(paths or ())]))
    done = subprocess.run(
        [*command, str(child), str(bundle.resolve()), str(scratch), *variants],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    lines = {each["variant"]: each for each in map(json.loads, done.stdout.splitlines())}
    return {name: (line, np.load(scratch / f"{name}.npy")) for name, line in lines.items()}


def section(cells: list[Cell]) -> str:
    """The table, as Markdown."""
    lines = [
        f"`make processors`, {datetime.now(timezone.utc):%Y-%m-%d}, onnxruntime {onnxruntime.__version__}, Debian's "
        f"qemu-user, beside {cpu_name()} with {' '.join(cpu_features())}. The probes' raw embeddings: largest "
        "difference from float32 at export, what is allowed, and the largest difference from the same variant on this "
        "machine. int8 on processors whose 8-bit products overflow is never used by embedge, which takes uint8 in its "
        "place; its row shows what that avoids.",
        "",
        "| processor | variant | from float32 | allowed | from the same here | outcome | s |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {cell.processor.name} | {cell.variant} | {cell.max_abs_diff:.1e} | {cell.tolerance:.1e} "
        f"| {cell.from_here:.1e} | {_outcome(cell)} | {cell.seconds:.0f} |"
        for cell in cells
    ]
    return "\n".join(lines)


def _outcome(cell: Cell) -> str:
    if not cell.is_used:
        return "not used there"
    return "holds" if cell.holds else "**fails**"


if __name__ == "__main__":
    main()
