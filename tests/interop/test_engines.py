"""Rows that Ray's actors and Spark's tasks compute are those of a process alone. `make peers` installs both engines,
into an environment of their own."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import embedge
from embedge import EdgeModel, PoolingParams
from embedge.testing import tiny_bundle

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venvs" / "engines" / "bin" / "python"
WORDS = ["the", "food", "city", "river", "water", "light", "good", "bad", "old", "new", "house", "time"]
BATCH, FILE, ROWS = 64, 256, 1024
needs_engines = pytest.mark.skipif(not PYTHON.exists(), reason="needs .venvs/engines: make peers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    tiny_bundle(folder / "bundle")
    texts = [" ".join(WORDS[(n * k * k + k + n) % 12] for k in range(1 + n % 9)) for n in range(ROWS)]
    rows = pyarrow.table({"text": texts, "row": list(range(ROWS))})
    pyarrow.parquet.write_table(rows, folder / "rows.parquet")
    (folder / "rows").mkdir()
    for start in range(0, ROWS, FILE):
        pyarrow.parquet.write_table(rows.slice(start, FILE), folder / "rows" / f"{start:04}.parquet")
    return folder


def run(script: str, folder: Path, source: str) -> None:
    done = subprocess.run(
        [str(PYTHON), str(HERE / script), *(str(folder / name) for name in (source, "bundle", script))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(Path(embedge.__file__).parents[1]),
            "PYSPARK_PYTHON": str(PYTHON),
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    )
    assert done.returncode == 0, done.stderr[-5000:]


def alone(folder: Path, texts: list[str], **asked) -> np.ndarray:
    """A process alone, in the same batches."""
    with EdgeModel(folder / "bundle", device="cpu", threads=1) as model:
        parts = [model.embed(texts[at : at + BATCH], **asked).numpy() for at in range(0, ROWS, BATCH)]
    return np.concatenate(parts)


def read(path: Path) -> pyarrow.Table:
    table = pyarrow.parquet.read_table(path).sort_by("row")
    assert table["row"].to_pylist() == list(range(ROWS))
    return table


def numbers(table: pyarrow.Table, column: str) -> np.ndarray:
    return np.array(table[column].to_pylist(), dtype=np.float32)


@pytest.mark.slow
@needs_engines
def test_ray(folder) -> None:
    run("ray_rows.py", folder, "rows.parquet")
    table = read(folder / "ray_rows.py")
    texts = table["text"].to_pylist()
    assert numbers(table, "numpy").tobytes() == alone(folder, texts).tobytes()
    assert (folder / "ray_rows.py.killed").exists()
    assert set(table["threads"].to_pylist()) == {1}
    assert len(set(table["actor"].to_pylist())) == 2
    raw = alone(folder, texts, pooling_params=PoolingParams(normalize=False))
    assert numbers(table, "pandas").tobytes() == raw.tobytes()
    assert numbers(table, "pyarrow").tobytes() == alone(folder, texts, prompt="the ").tobytes()
    assert table.schema.field("pyarrow").type == pyarrow.list_(pyarrow.float32(), raw.shape[1])


@pytest.mark.slow
@needs_engines
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark runs in Java, which is not installed")
def test_spark(folder) -> None:
    run("spark_rows.py", folder, "rows")
    table = read(folder / "spark_rows.py")
    raw = alone(folder, table["text"].to_pylist(), pooling_params=PoolingParams(normalize=False))
    assert numbers(table, "embedding").tobytes() == raw.tobytes()
    assert len(list((folder / "spark_rows.py").glob("part-*.parquet"))) > 1
