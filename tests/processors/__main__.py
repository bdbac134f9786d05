"""Replay a bundle's probes on emulated processors, print the table, and write it beside the other figures.

python -m tests.processors BUNDLE          # with the variants fp32, int8 and uint8; what `make processors` runs

Fails where a variant that embedge uses there misses its probes, rounds or multiplies in 8 bits otherwise than numpy, or
answers further from this machine than the last bit of its weights makes here; and where int8 is used though it is not
exact, or not used though it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
from tests.processors import parts
from tests.processors.products import EightBits, eight_bits, one_rounding
from tests.soak.figures import write

from embedge import EdgeModel
from embedge._machine.cpu import cpu_features, cpu_name
from embedge.manifest import load_manifest, load_probes

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "benchmarks" / "results" / "processors.md"
_VARIANTS = ("fp32", "uint8", "int8")
_FP32 = 1e-4
"""How far fp32 may be from this machine: kernels add up in another order, and components go up to 10."""


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What is emulated.

    Attributes:
        name: for people.
        machine, cpu: of qemu.
    """

    name: str
    machine: str
    cpu: str


PROCESSORS = (
    Processor(name="x86 with AVX2, without VNNI (Haswell)", machine="x86_64", cpu="Haswell-noTSX"),
    Processor(name="x86 with SSE4 alone (Nehalem)", machine="x86_64", cpu="Nehalem"),
    Processor(name="aarch64 with dot products (max)", machine="aarch64", cpu="max"),
    Processor(name="aarch64 without them (Cortex-A72)", machine="aarch64", cpu="cortex-a72"),
)


@dataclass(frozen=True, kw_only=True)
class Here:
    """A variant on this machine.

    Attributes:
        answers: to its probes.
        rounding: how far others may be from them.
        nodes: its 8-bit nodes; None in float32.
    """

    answers: np.ndarray
    rounding: float
    nodes: EightBits | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One variant on one processor.

    Attributes:
        processor, variant: which.
        max_abs_diff, tolerance: of its probes.
        from_here, rounding: largest difference to the answers of the same variant on this machine, and allowed.
        steps_off: of its 8-bit nodes from numpy; 0 in float32.
        exact_int8: whether embedge takes the processor for one that multiplies exactly.
        seconds: for two replays.
    """

    processor: Processor
    variant: str
    max_abs_diff: float
    tolerance: float
    from_here: float
    rounding: float
    steps_off: float
    exact_int8: bool
    seconds: float

    @property
    def is_used(self) -> bool:
        """Whether embedge runs the variant on such a processor."""
        return self.variant != "int8" or self.exact_int8

    @property
    def holds(self) -> bool:
        """Whether it may be used."""
        near = self.max_abs_diff <= self.tolerance and self.from_here <= self.rounding
        return near and self.steps_off < 1

    @property
    def is_right(self) -> bool:
        """Whether it is used where it holds, and where its products are exact."""
        return self.holds if self.is_used else self.steps_off >= 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.processors")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", type=Path, default=ROOT / ".venvs" / "processors", help="of the emulators")
    parser.add_argument("--no-write", action="store_true", help="print alone")
    asked = parser.parse_args()
    manifest = load_manifest(asked.bundle)
    variants = [name for name in _VARIANTS if name in manifest.variants]
    here = on_this_machine(asked.bundle, variants)
    cells = [
        cell for processor in PROCESSORS for cell in emulated(processor, asked.parts, asked.bundle, here)
    ]
    text = section(cells)
    print(text)
    if not asked.no_write:
        write("processors", text, FILE, "# Other processors\n")
    if wrong := [cell for cell in cells if not cell.is_right]:
        raise SystemExit("\n".join(f"{cell.variant} is wrong on {cell.processor.name}" for cell in wrong))


def on_this_machine(bundle: Path, variants: list[str]) -> dict[str, Here]:
    """Ask each variant its probes, and how much a last bit changes them."""
    graph = load_manifest(bundle).graph
    read = {"embed": graph.pooled, "token_embed": graph.token}
    with EdgeModel(bundle, device="cpu") as model:
        asked = [
            (model.encode(probe.prompt, truncate_prompt_tokens=-1)[0].prompt_token_ids, read[probe.task])
            for probe in load_probes(bundle).probes
            if read.get(probe.task) is not None and probe.prompt_name is None
        ]
    longest = max((token_ids for token_ids, _ in asked), key=len)
    with tempfile.TemporaryDirectory() as scratch:
        answered = replayed([sys.executable], bundle, dict.fromkeys(variants), Path(scratch))
    found = {}
    for name in variants:
        path, whole = bundle / load_manifest(bundle).variants[name].file, name == "fp32"
        found[name] = Here(
            answers=answered[name][1],
            rounding=_FP32 if whole else 2 * one_rounding(path, asked),
            nodes=None if whole else eight_bits(path, longest),
        )
    return found


def emulated(processor: Processor, folder: Path, bundle: Path, here: dict[str, Here]) -> list[Cell]:
    """Replay on an emulated processor, and compare with this machine and with numpy."""
    qemu = str(parts.qemu(folder.resolve()) / f"qemu-{processor.machine}")
    if processor.machine == "x86_64":
        packages = Path(onnxruntime.__file__).parents[1]
        command, paths = [qemu, "-cpu", processor.cpu, os.path.realpath(sys.executable)], [packages]
    else:
        root, site = parts.arm_python(folder.resolve())
        command = [qemu, "-cpu", processor.cpu, "-L", str(root), str(root / "usr" / "bin" / "python3.11")]
        paths = [site]
    nodes = {name: each.nodes for name, each in here.items()}
    with tempfile.TemporaryDirectory() as scratch:
        found = replayed(command, bundle, nodes, Path(scratch), paths)
    return [
        Cell(
            processor=processor,
            variant=name,
            max_abs_diff=line["max_abs_diff"],
            tolerance=line["tolerance"],
            from_here=float(np.abs(answers - here[name].answers).max()),
            rounding=here[name].rounding,
            steps_off=steps_off,
            exact_int8=line["exact_int8"],
            seconds=line["seconds"],
        )
        for name, (line, answers, steps_off) in found.items()
    ]


def replayed(
    command: list[str],
    bundle: Path,
    nodes: Mapping[str, EightBits | None],
    scratch: Path,
    paths: Sequence[Path] = (),
) -> dict[str, tuple[dict, np.ndarray, float]]:
    """By variant what the child prints, the answers that it saves, and how far its 8-bit nodes are off, in steps."""
    for name, each in nodes.items():
        if each is not None:
            (scratch / f"{name}.onnx").write_bytes(each.graph)
            np.savez(scratch / f"{name}.feeds.npz", **each.feeds)
    child = Path(__file__).with_name("child.py")
    search = os.pathsep.join(map(str, [ROOT / "sdk", *paths]))
    done = subprocess.run(
        [*command, str(child), str(bundle.resolve()), str(scratch), *nodes],
        env=os.environ | {"PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    lines = {each["variant"]: each for each in map(json.loads, done.stdout.splitlines())}
    found = {}
    for name, line in lines.items():
        eight_bits, steps_off = nodes[name], 0.0
        if eight_bits is not None:
            with np.load(scratch / f"{name}.given.npz") as given:
                steps_off = eight_bits.steps_off(given)
        found[name] = line, np.load(scratch / f"{name}.npy"), steps_off
    return found


def section(cells: list[Cell]) -> str:
    """The table, as Markdown."""
    lines = [
        f"`make processors`, {datetime.now(UTC):%Y-%m-%d}, onnxruntime {onnxruntime.__version__}, Debian's "
        f"qemu-user, beside {cpu_name()} with {' '.join(cpu_features())}. The probes' raw embeddings: largest "
        "difference from float32 at export, and from the same variant on this machine, each with what is allowed: the "
        "latter twice what the last bit of the stored float32 numbers makes here, as a number on the edge between two "
        "steps of 8 bits goes to the other one. Every rounding and every product in 8 bits is asked alone, too, about "
        "rows of one of the texts: how many steps it is from numpy, which rounding in float32 keeps below 1.",
        "",
        "| processor | variant | from float32 | allowed | from here | allowed | steps off | outcome | s |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {cell.processor.name} | {cell.variant} | {cell.max_abs_diff:.1e} | {cell.tolerance:.1e} "
        f"| {cell.from_here:.1e} | {cell.rounding:.1e} | {_steps(cell)} | {_outcome(cell)} | {cell.seconds:.0f} |"
        for cell in cells
    ]
    return "\n".join(lines)


def _steps(cell: Cell) -> str:
    return "" if cell.variant == "fp32" else f"{cell.steps_off:,.2f}"


def _outcome(cell: Cell) -> str:
    if not cell.is_right:
        return "**fails**"
    return "holds" if cell.is_used else "seen to overflow; uint8 is used"


if __name__ == "__main__":
    main()
