"""Files of texts to rows of numbers on disk, and search over them, from Python.

`encode_files` writes what `embedge encode FILES -o OUTPUT` writes; `Vectors.open(OUTPUT).search(model, question)` looks
through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from embedge._corpus.compute import Asking, CorpusTask
from embedge._corpus.inputs import Format, find_inputs
from embedge._corpus.job import CHUNK, Job, OnError, Summary, run
from embedge._corpus.journal import Counts
from embedge._corpus.precision import PRECISIONS, Precision, Stored, dequantize
from embedge._corpus.records import Identifier, Reading
from embedge._corpus.searching import search
from embedge._corpus.sidecar import Sidecar
from embedge._corpus.stored import Entry, Opened, open_output
from embedge.errors import CorpusError
from embedge.model import EdgeModel
from embedge.types import FloatArray, LongText

__all__ = ["Counts", "Entry", "Hit", "Sidecar", "Summary", "Vectors", "encode_files"]


def encode_files(
    model: EdgeModel,
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]],
    output: str | PathLike[str],
    *,
    task: CorpusTask = "embed",
    column: str | None = None,
    pair_column: str | None = None,
    id_column: str | None = None,
    input_format: Format | None = None,
    text_per_file: bool = False,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    precision: Precision = "float32",
    dimensions: int | None = None,
    normalize: bool | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    long_text: LongText = "truncate",
    keep_texts: bool = True,
    on_error: Literal["stop", "skip"] | PathLike[str] = "stop",
    resume: bool = False,
    overwrite: bool = False,
    chunk: int = CHUNK,
    progress: Callable[[Counts], None] | None = None,
) -> Summary:
    """Compute a row for each text of files and write them, in memory that does not grow with their number.

    Rows come in the order of the input. Whatever ends the process, what was committed stays: call again with `resume`.

    Args:
        model: the loaded model.
        inputs: files, folders, globs, or "-" for stdin; .txt (a text on each line), .jsonl, .csv, .tsv, .parquet.
        output: its name's end decides: .npy (what is known of each row in FILE.npy.rows.jsonl, facts in FILE.npy.json),
            .jsonl or .parquet.
        task: "embed", "classify", or "score" for pairs.
        column: of the texts; None takes "text", "sentence" or "content", or the only one.
        pair_column: of the second text of each pair.
        id_column: of the identifiers; None numbers the rows.
        input_format: of all files, against their names.
        text_per_file: a whole file is one text, and its path the identifier.
        encoding: as for `open`; a mark at the start of a file comes before.
        encoding_errors: as for `open`; "strict" makes a bad row of what is not of the encoding.
        precision: how a component is stored, as sentence-transformers' quantize_embeddings packs it. int8 and uint8
            store steps between the smallest and the largest value in the first chunk.
        dimensions: as for PoolingParams.
        normalize: as for PoolingParams.
        prompt_name: as for EdgeModel.embed.
        prompt: as for EdgeModel.embed.
        long_text: as for EdgeModel.embed.
        keep_texts: write the texts beside the rows, so that a search can show them.
        on_error: what becomes of rows that cannot be used: "stop", "skip", or a .jsonl file that tells of them.
        resume: go on with an unfinished output; begin where there is none.
        overwrite: replace an output.
        chunk: different texts that are computed and committed together.
        progress: told the counts after each chunk.

    Returns:
        What was done.

    Raises:
        CorpusError: an input, a row or the output is not what was expected.
        ParamsError, PromptError, TaskNotSupportedError, SessionError: as for EdgeModel.encode.
        MissingExtraError: Parquet, and pyarrow is not installed.
        OSError: a file cannot be read or written.
    """
    if precision not in PRECISIONS:
        raise CorpusError(f"precision={precision!r} is not known; expected one of {', '.join(PRECISIONS)}")
    if precision != "float32" and task != "embed":
        raise CorpusError(f"precision={precision!r} is for embeddings; expected float32 for task {task!r}")
    if (pair_column is not None) != (task == "score"):
        raise CorpusError(
            f"pair_column={pair_column!r} is given for task {task!r}; expected pairs for score, and only there"
        )
    if type(chunk) is not int or chunk < 1:
        raise CorpusError(f"chunk={chunk!r} is out of range; expected an int >= 1")
    names = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    job = Job(
        files=find_inputs([str(name) for name in names], input_format),
        reading=Reading(
            column=column,
            pair_column=pair_column,
            id_column=id_column,
            text_per_file=text_per_file,
            encoding=encoding,
            encoding_errors=encoding_errors,
        ),
        asking=Asking(
            task=task,
            dimensions=dimensions,
            normalize=normalize,
            prompt_name=prompt_name,
            prompt=prompt,
            long_text=long_text,
        ),
        output=Path(output),
        precision=precision,
        keep_texts=keep_texts,
        on_error=_on_error(on_error),
        resume=resume,
        overwrite=overwrite,
        chunk=chunk,
    )
    return run(model, job, progress)


def _on_error(word: str | PathLike[str]) -> OnError:
    return cast("OnError", word if word in ("stop", "skip") else Path(word))


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was found.

    Attributes:
        row: its position.
        score: cosine.
        id, text, pair: as in Entry.
    """

    row: int
    score: float
    id: Identifier
    text: str | None = None
    pair: str | None = None


class Vectors:
    """Rows that `encode_files` or `embedge encode -o` wrote.

    Attributes:
        facts: what is said beside them: bundle, fingerprint, prompt, precision, ….
        rows: (num_rows, stored size) as they are stored; .npy files are mapped, not read.
    """

    def __init__(self, opened: Opened) -> None:
        self.facts: Sidecar = opened.sidecar
        self.rows: Stored = opened.rows
        self._entries = opened.entries

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Vectors:
        """Open an output.

        Raises:
            CorpusError: it is missing, not whole, or not what is said beside it.
            MissingExtraError: a Parquet file, and pyarrow is not installed.
        """
        return cls(open_output(Path(path)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[Identifier]:
        """One for each row: of the id column, or its number."""
        return [entry.id for entry in self._entries]

    def entry(self, row: int) -> Entry:
        """What is known of a row."""
        return self._entries[row]

    def dequantize(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Rows as float32 (num_rows, dimensions); bits become -1 and 1, steps their middle."""
        ranges = None if self.facts.ranges is None else np.array(self.facts.ranges, dtype=np.float32)
        some = np.asarray(self.rows[start:stop])
        return dequantize(some, self.facts.precision, self.facts.dimensions, ranges)

    def search(
        self,
        model: EdgeModel,
        questions: str | Sequence[str],
        *,
        top: int = 5,
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> list[list[Hit]]:
        """The rows nearest to questions, by cosine; all rows are looked at.

        Args:
            model: of the bundle that made the rows.
            questions: one or several.
            top: rows for each.
            prompt_name: as for EdgeModel.embed; None takes a stored prompt named "query", else the default one.
            prompt: as for EdgeModel.embed.

        Returns:
            For each question at most `top` rows, nearest first.

        Raises:
            CorpusError: the rows are of another bundle, or no embeddings.
        """
        self._check(model)
        if prompt_name is None and prompt is None and "query" in model.manifest.prompts:
            prompt_name = "query"
        asked = model.embed(
            [questions] if isinstance(questions, str) else list(questions),
            pooling_params=None,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=-1,
        ).numpy()
        return self.nearest(asked[:, : self.facts.dimensions], top=top, threads=model.info.threads)

    def nearest(self, queries: FloatArray, *, top: int = 5, threads: int = 1) -> list[list[Hit]]:
        """The rows nearest to vectors, float32 (num_queries, dimensions), by cosine.

        Raises:
            CorpusError: vectors of another size, or `top` below 1.
        """
        asked = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        if asked.ndim != 2 or asked.shape[1] != self.facts.dimensions:
            raise CorpusError(
                f"queries have shape {asked.shape}; expected (num_queries, {self.facts.dimensions})"
            )
        if type(top) is not int or top < 1:
            raise CorpusError(f"top={top!r} shows nothing; expected an int >= 1")
        if not len(self):
            return [[] for _ in asked]
        positions, scores = search(self.rows, self.facts, asked, top, threads)
        return [
            [self._hit(int(row), float(score)) for row, score in zip(*each, strict=True)]
            for each in zip(positions, scores, strict=True)
        ]

    def _hit(self, row: int, score: float) -> Hit:
        entry = self._entries[row]
        return Hit(row=row, score=score, id=entry.id, text=entry.text, pair=entry.pair)

    def _check(self, model: EdgeModel) -> None:
        if self.facts.task != "embed":
            raise CorpusError(f"the rows are answers of {self.facts.task}; expected embeddings to search in")
        if self.facts.fingerprint != model.info.fingerprint:
            raise CorpusError(
                f"the rows were made by {self.facts.bundle}, fingerprint {self.facts.fingerprint[:12]}; the model has "
                f"{model.info.fingerprint[:12]}. Load that bundle, or embed the texts again."
            )
