"""All environments at work, and what their answers differ by."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.generations.cases import Case

ROOT = Path(__file__).parents[2]
YESTERDAY = ROOT / ".venvs" / "optimum" / "bin" / "python"
LIGHT = ROOT / ".venvs" / "light" / "bin" / "python"
PYTHONS = {"yesterday": YESTERDAY, "today": Path(sys.executable)}
"""What saves, and exports."""
EXPORTERS = {**PYTHONS, "light": LIGHT}
"""What exports."""
MISSING = f"{YESTERDAY.relative_to(ROOT)} is not installed; `make test` and `make test-optimum` install it"
_VERSIONS = """
from importlib.metadata import PackageNotFoundError, version
for name in ("transformers", "sentence-transformers", "torch", "onnxruntime"):
    try:
        print(name, version(name))
    except PackageNotFoundError:
        print("no", name)
"""


@dataclass(frozen=True)
class Cell:
    """One task of one case, saved by one environment and exported in another.

    Attributes:
        case: which.
        task: what was asked of it.
        saved, exported: names of the environments.
        max_abs_diff: of any component of any answer; None where there is none.
        trouble: why there is none.
        newer: one of the environments knows no such architecture; it may only say so.
    """

    case: Case
    task: str
    saved: str
    exported: str
    max_abs_diff: float | None = None
    trouble: str = ""
    newer: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bundle has the numbers of the library that saved its checkpoint, or there can be none."""
        if self.newer:
            return self.trouble.startswith(("absent", "refused"))
        if self.exported == "light" and self.trouble.startswith("refused"):
            return "embedge[export-torch]" in self.trouble
        return self.max_abs_diff is not None and self.max_abs_diff <= self.case.gate


def versions(name: str) -> str:
    """What an environment has, in words."""
    done = subprocess.run([EXPORTERS[name], "-c", _VERSIONS], check=True, capture_output=True, text=True)
    return ", ".join(done.stdout.splitlines())


def measure(cases: Sequence[Case], folder: Path, exporters: Iterable[str] = PYTHONS) -> list[Cell]:
    """Save every case under each environment, export each of them under each exporter, and compare.

    Raises:
        RuntimeError: an environment broke down altogether.
    """
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda name: _work(name, cases, "save", folder / name), PYTHONS))
        ways = [(saved, exported) for exported in exporters for saved in PYTHONS]
        list(
            threads.map(lambda way: _work(way[1], cases, "export", folder / way[0], _to(folder, *way)), ways)
        )
    return [
        cell for case in cases for saved, exported in ways for cell in _compare(case, saved, exported, folder)
    ]


def _to(folder: Path, saved: str, exported: str) -> Path:
    return folder / f"{saved}-{exported}"


def _work(name: str, cases: Iterable[Case], job: str, *folders: Path) -> None:
    folders[-1].mkdir()
    paths = [str(path) for path in (ROOT / "sdk", ROOT / "export", ROOT)]
    done = subprocess.run(
        [EXPORTERS[name], "-m", "tests.generations.child", job, *folders],
        input=json.dumps([dataclasses.asdict(case) for case in cases]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} could not {job}:\n{done.stderr[-2000:]}")


def _compare(case: Case, saved: str, exported: str, folder: Path) -> list[Cell]:
    made = _to(folder, saved, exported)
    trouble = _outcome(folder / saved, case) or _outcome(made, case)
    if trouble:
        newer = any(
            _outcome(folder / name, case).startswith("absent") for name in {saved, exported} & {*PYTHONS}
        )
        return [Cell(case, task, saved, exported, trouble=trouble, newer=newer) for task in case.tasks]
    expected, actual = (_answers(where / case.name) for where in (folder / saved, made))
    return [
        Cell(case, task, saved, exported, *difference(_of(task, actual), _of(task, expected)))
        for task in case.tasks
    ]


def difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> tuple[float | None, str]:
    """The largest, or why it cannot be told.

    Args:
        actual, expected: one array per text or pair.
    """
    shapes = [(ours.shape, theirs.shape) for ours, theirs in zip(actual, expected, strict=True)]
    if not shapes:
        return None, "no answers"
    if wrong := next((each for each in shapes if each[0] != each[1]), None):
        return None, f"shape {wrong[0]} for {wrong[1]}"
    pairs = zip(actual, expected, strict=True)
    # NaN stays NaN
    return float(np.max([np.abs(ours - theirs).max(initial=0.0) for ours, theirs in pairs])), ""


def _of(task: str, answers: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [row for name, row in answers.items() if name.startswith(f"{task}.")]


def _outcome(folder: Path, case: Case) -> str:
    outcome: str = json.loads((folder / "outcomes.json").read_text("utf-8"))[case.name]
    return outcome


def _answers(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "answers.npz") as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}
