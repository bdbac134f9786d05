"""What is compared, one row for each system: how it is asked, what it reads and writes, and how its output is read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
REFERENCE = "sentence-transformers"


def _of_parquet(output: Path) -> dict[str, np.ndarray]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(output)
    rows = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    return dict(zip(table["id"].to_pylist(), rows, strict=True))


def _of_txtai(output: Path) -> dict[str, np.ndarray]:
    import msgpack

    return dict(
        zip(msgpack.unpackb((output / "ids").read_bytes()), np.load(output / "embeddings"), strict=True)
    )


def _of_llm(output: Path) -> dict[str, np.ndarray]:
    rows = sqlite3.connect(output).execute("SELECT id, embedding FROM embeddings")
    return {identifier: np.frombuffer(data, "<f4") for identifier, data in rows}


@dataclass(frozen=True, kw_only=True)
class System:
    """A system, and the job as its documentation has it.

    Attributes:
        label: for the table.
        command: its program in the environment, and arguments; {bundle}, {checkpoint}, {onnx}, {texts} and {output} are
            put in. A script is one of this folder's.
        reads: suffix of the texts.
        writes: what the vectors are saved as.
        vectors: of an output, by identifier.
        environment: under .venvs.
        packages: whose versions are stated.
        before: a command that is run once, untimed.
    """

    label: str
    command: tuple[str, ...]
    reads: str = "parquet"
    writes: str = "Parquet"
    vectors: Callable[[Path], dict[str, np.ndarray]] = _of_parquet
    environment: str = "jobs"
    packages: tuple[str, ...]
    before: tuple[str, ...] = field(default=())

    @property
    def lines(self) -> int:
        """Lines that a user writes: the script's, without blank ones and what it says of itself; or one command."""
        if not self.command[1].endswith(".py"):
            return 1
        lines = (HERE / self.command[1]).read_text().splitlines()
        return sum(bool(line.strip()) and not line.startswith(('"""', "#")) for line in lines)


def _embedge(variant: str) -> System:
    asked = ("{bundle}", "{texts}", "--id-column", "id", "--variant", variant, "-o", "{output}")
    return System(
        label=f"**embedge encode, {variant}**",
        command=("python", "-m", "embedge", "encode", *asked),
        packages=("onnxruntime",),
    )


SYSTEMS = {
    "embedge-int8": _embedge("int8"),
    "embedge-fp32": _embedge("fp32"),
    REFERENCE: System(
        label="sentence-transformers, a script",
        command=("python", "sentence_transformers_script.py", "{checkpoint}", "{texts}", "{output}"),
        packages=("sentence-transformers", "torch"),
    ),
    "fastembed": System(
        label="fastembed, a script",
        command=("python", "fastembed_script.py", "{onnx}", "{texts}", "{output}"),
        environment="fastembed",
        packages=("fastembed", "onnxruntime"),
    ),
    "txtai": System(
        label="txtai, a script",
        command=("python", "txtai_script.py", "{checkpoint}", "{texts}", "{output}"),
        writes="an index of txtai",
        vectors=_of_txtai,
        packages=("txtai", "transformers", "torch"),
    ),
    "llm": System(
        label="llm embed-multi",
        command=(
            *("llm", "embed-multi", "texts", "{texts}", "-d", "{output}"),
            *("-m", "sentence-transformers/{checkpoint}"),
        ),
        reads="csv",
        writes="SQLite",
        vectors=_of_llm,
        packages=("llm", "llm-sentence-transformers", "sentence-transformers", "torch"),
        before=("llm", "sentence-transformers", "register", "{checkpoint}", "--lazy"),
    ),
}
