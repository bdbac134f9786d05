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
    (folder / "rows").mkdir()
    for start in range(0, ROWS, FILE):
        rows = {"text": texts[start : start + FILE], "row": range(start, min(start + FILE, ROWS))}
        pyarrow.parquet.write_table(
            pyarrow.table({**rows, "row": list(rows["row"])}), folder / "rows" / f"{start:04}.parquet"
        )
    return folder


def run(script: str, folder: Path) -> None:
    done = subprocess.run(
        [str(PYTHON), str(HERE / script), *(str(folder / name) for name in ("rows", "bundle", script))],
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


def read(path: Path) -> tuple[pyarrow.Table, np.ndarray]:
    table = pyarrow.parquet.read_table(path).sort_by("row")
    assert table["row"].to_pylist() == list(range(ROWS))
    return table, np.array(table["embedding"].to_pylist(), dtype=np.float32)


@pytest.mark.slow
@needs_engines
def test_ray(folder) -> None:
    run("ray_rows.py", folder)
    tables = {name: read(folder / "ray_rows.py" / name) for name in ("numpy", "pandas", "pyarrow")}
    table, numbers = tables["numpy"]
    texts = table["text"].to_pylist()
    assert numbers.tobytes() == alone(folder, texts).tobytes()
    assert (folder / "ray_rows.py" / "killed").exists()
    assert set(table["threads"].to_pylist()) == {1}
    assert len(set(table["actor"].to_pylist())) == 2
    raw = alone(folder, texts, pooling_params=PoolingParams(normalize=False))
    assert tables["pandas"][1].tobytes() == raw.tobytes()
    table, numbers = tables["pyarrow"]
    assert numbers.tobytes() == alone(folder, texts, prompt="the ").tobytes()
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), numbers.shape[1])


@pytest.mark.slow
@needs_engines
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark runs in Java, which is not installed")
def test_spark(folder) -> None:
    run("spark_rows.py", folder)
    table, numbers = read(folder / "spark_rows.py")
    raw = alone(folder, table["text"].to_pylist(), pooling_params=PoolingParams(normalize=False))
    assert numbers.tobytes() == raw.tobytes()
    assert len(list((folder / "spark_rows.py").glob("part-*.parquet"))) > 1
