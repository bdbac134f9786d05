"""A program frozen by PyInstaller with its bundle: runs where there is no Python, offline, with the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from embedge import EdgeModel
from embedge.testing import tiny_bundle

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venvs" / "frozen" / "bin" / "python"
PROGRAM = """
import json, sys
from pathlib import Path
from embedge import EdgeModel, EmbedgeError
with EdgeModel(Path(__file__).parent / "model") as model:
    row = model.embed(sys.argv[1]).numpy()[0].tolist()
try:
    EdgeModel("nothing")
except EmbedgeError as error:
    print(json.dumps({"row": row, "error": str(error), "modules": sorted({n.split(".")[0] for n in sys.modules})}))
"""
MAX_OWN_MB = 150
"""onnxruntime takes 25 and numpy with its BLAS 40 of them, Python itself 20."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="PyInstaller is not installed; `make peers` installs it"),
]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    bundle = tiny_bundle(folder / "model", "embed")
    folder.joinpath("program.py").write_text(PROGRAM)
    options = ["--noconfirm", "--log-level", "ERROR", "--add-data", f"{bundle}:model"]
    subprocess.run(
        [PYTHON, "-m", "PyInstaller", *options, "program.py"],
        cwd=folder,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "sdk")},
    )
    return folder / "dist" / "program"


def test_it_answers_without_python_and_network(frozen, tmp_path) -> None:
    alone = ["unshare", "-rn"]  # no network, where users may have that
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []
    done = subprocess.run(
        [*alone, frozen / "program", "hello world"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    with EdgeModel(tiny_bundle(tmp_path / "same", "embed")) as model:
        assert told["row"] == pytest.approx(model.embed("hello world").numpy()[0].tolist(), abs=1e-6)
    assert "no bundle at 'nothing'" in told["error"]
    assert {"huggingface_hub", "torch", "embedge_export"}.isdisjoint(told["modules"])


def test_it_brings_nothing_that_it_does_not_need(frozen) -> None:
    files = [path for path in frozen.rglob("*") if path.is_file()]
    names = {path.relative_to(frozen / "_internal").parts[0] for path in files if "_internal" in path.parts}
    others = ("cryptography", "httpx", "huggingface_hub", "pyarrow", "torch")
    assert not {name for name in names if name.startswith(others)}
    assert sum(path.stat().st_size for path in files if not path.is_symlink()) < MAX_OWN_MB * 1_000_000
