"""Saved rows in other libraries' indexes: the rows that they find are those that embedge finds. `make peers` installs
usearch and faiss, into an environment of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import embedge
from embedge import EdgeModel
from embedge.cli.main import main
from embedge.corpus import Vectors, encode_files
from embedge.testing import tiny_bundle

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venvs" / "indexes" / "bin" / "python"
TOP = 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    words = ["the", "food", "city", "river", "water", "light", "good", "bad", "old", "new", "house", "time"]
    (folder / "a.txt").write_text(
        "\n".join(f"{a} {b} {c}" for a in words for b in words[:5] for c in words[:3])
    )
    with EdgeModel(tiny_bundle(folder / "bundle"), device="cpu") as model:
        encode_files(model, folder / "a.txt", folder / "float32.npy")
    # a tiny model's vectors differ in too few signs
    shape = np.load(folder / "float32.npy").shape
    rows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.save(folder / "float32.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return folder / "float32.npy"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists(), reason="needs .venvs/indexes: make peers")
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("library", ["usearch", "faiss", "lancedb"])
def test_the_same_rows_are_found(saved, tmp_path, library, precision) -> None:
    if (library, precision) == ("lancedb", "binary"):
        pytest.skip("lancedb makes its own bits")
    rows = saved if precision == "float32" else tmp_path / "rows.npy"
    vectors = Vectors.open(saved) if rows == saved else Vectors.open(saved).quantize(rows, precision)
    command = [PYTHON, HERE / "index_rows.py", library, rows, tmp_path / "index", TOP]
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(embedge.__file__).parents[1])},
    )
    if done.returncode == 77:
        pytest.skip(f"{library} is not installed in .venvs/indexes")
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout))
    numbers = vectors.dequantize().astype(np.float64)
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    cosines = numbers @ numbers.T
    # of rows that are equally near any may come; a graph may miss one now and then
    bound = np.sort(cosines, axis=1)[:, -TOP]
    near = np.take_along_axis(cosines, found, 1) >= bound[:, None] - (2e-2 if precision == "int8" else 1e-5)
    assert near.mean() > (0.8 if precision == "binary" else 0.98)  # many rows are equally near
    assert len({tuple(sorted(row)) for row in found.tolist()}) > 20
    assert json.loads((tmp_path / "index.json").read_bytes())["num_rows"] == len(vectors)


def test_what_cannot_be_handed_over(saved, tmp_path, capsys) -> None:
    assert main(["index", str(saved), "--format", "usearch", "-o", str(saved)]) == 1
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["index", str(saved), "--format", "faiss"])
    assert "-o/--output" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["usearch", "faiss", "lancedb"])
def test_without_the_library(saved, tmp_path, capsys, monkeypatch, library) -> None:
    for name in (library, f"{library}.index"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["index", str(saved), "--format", library, "-o", str(tmp_path / "index")]) == 1
    assert f"pip install {library}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
