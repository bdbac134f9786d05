"""Rows that a job wrote, as a program holds them: searched, read as numbers, stored in fewer bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import msgspec
import numpy as np

from embedge._corpus.comparing import Duplicate, find_duplicates, find_similar
from embedge._corpus.precision import Precision, Stored
from embedge._corpus.records import Identifier
from embedge._corpus.requantizing import store_again
from embedge._corpus.searching import search
from embedge._corpus.sidecar import Sidecar
from embedge._corpus.stored import Entry, Opened, open_output
from embedge._plain import plain
from embedge.errors import CorpusError
from embedge.model import EdgeModel
from embedge.types import FloatArray

_SAME = ("fingerprint", "prompt", "long_text", "dimensions", "num_rows")
"""Facts of two outputs that hold the same rows in two precisions."""


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
        self._opened = opened
        self._entries = opened.entries
        self._kept = opened.kept

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
        return self._kept.numbers(slice(start, stop))

    def quantize(
        self, output: str | PathLike[str], precision: Precision, *, overwrite: bool = False
    ) -> Vectors:
        """Store the rows once more, in fewer bytes; a search in these can be rescored with the rows here.

        Args:
            output: as for `encode_files`.
            precision: as for `encode_files`; steps lie between the smallest and the largest value of all rows.
            overwrite: replace an output.

        Raises:
            CorpusError: rows of bits become numbers, or the output is not what was expected.
            OSError: a file cannot be written.
        """
        store_again(self._opened, Path(output), precision, overwrite=overwrite)
        return Vectors.open(output)

    def search(
        self,
        model: EdgeModel,
        questions: str | Sequence[str],
        *,
        top: int = 5,
        prompt_name: str | None = None,
        prompt: str | None = None,
        rescore: Vectors | None = None,
        oversample: int | None = None,
    ) -> list[list[Hit]]:
        """The rows nearest to questions, by cosine; all rows are looked at.

        Args:
            model: of the bundle that made the rows.
            questions: one or several.
            top: rows for each.
            prompt_name: as for EdgeModel.embed; None takes a stored prompt named "query", else the default one. A
                bundle with a tower for queries embeds questions by it.
            prompt: as for EdgeModel.embed.
            rescore: the same rows in more bytes, whose cosines decide between the nearest of these.
            oversample: rows that are rescored for each one asked for; None takes as many as lose hardly any of the
                nearest among a million: 40 of bits, 4 of others.

        Returns:
            For each question at most `top` rows, nearest first.

        Raises:
            CorpusError: the rows are of another bundle, or no embeddings; `rescore` has other rows.
        """
        self._check(model)
        if prompt_name is None and prompt is None and "query" in model.manifest.prompts:
            prompt_name = "query"
        asked = model.embed(
            [questions] if isinstance(questions, str) else list(questions),
            pooling_params=None,
            tower=model.manifest.tower_for("query"),
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=-1,
        ).numpy()
        return self.nearest(
            asked[:, : self.facts.dimensions],
            top=top,
            threads=model.info.threads,
            rescore=rescore,
            oversample=oversample,
        )

    def nearest(
        self,
        queries: FloatArray,
        *,
        top: int = 5,
        threads: int = 1,
        rescore: Vectors | None = None,
        oversample: int | None = None,
    ) -> list[list[Hit]]:
        """The rows nearest to vectors, float32 (num_queries, dimensions), by cosine.

        Raises:
            CorpusError: vectors of another size, `top` or `oversample` below 1, or `rescore` has other rows.
        """
        asked = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        if asked.ndim != 2 or asked.shape[1] != self.facts.dimensions:
            raise CorpusError(
                f"queries have shape {asked.shape}; expected (num_queries, {self.facts.dimensions})"
            )
        oversample = plain(oversample)
        top = _checked_top(top)
        if oversample is not None and (type(oversample) is not int or oversample < 1):
            raise CorpusError(f"oversample={oversample!r} is out of range; expected an int >= 1")
        if rescore is not None:
            self._check_same_rows(rescore)
        if not len(self):
            return [[] for _ in asked]
        finer = None if rescore is None else rescore._kept
        positions, scores = search(self._kept, asked, top, threads, finer=finer, oversample=oversample)
        if rescore is not None:
            for row in positions.flat:
                self._check_same_entry(rescore, int(row))
        return [
            [self._hit(int(row), float(score)) for row, score in zip(*each, strict=True)]
            for each in zip(positions, scores, strict=True)
        ]

    def duplicates(self, threshold: float = 0.95, *, threads: int = 1) -> list[Duplicate]:
        """Rows that are near an earlier row, by cosine; the work grows with the square of their number.

        Args:
            threshold: cosine from which rows are near.
            threads: products that are made at once.

        Returns:
            In order; a row that none of the kept ones before it is near is kept itself, and not among them.

        Raises:
            CorpusError: the threshold is no cosine above 0.
        """
        threshold = plain(threshold)
        if type(threshold) not in (int, float) or not 0 < threshold <= 1:
            raise CorpusError(
                f"threshold={threshold!r} is out of range; expected a cosine above 0, at most 1"
            )
        self._check_embeddings()
        return list(find_duplicates(self._kept, threshold, threads))

    def write_without(
        self, rows: Iterable[int], output: str | PathLike[str], *, overwrite: bool = False
    ) -> Vectors:
        """Write the other rows to an output, as they are stored; arguments and errors as of `quantize`."""
        places = np.setdiff1d(np.arange(len(self)), np.fromiter(rows, dtype=np.int64))
        store_again(self._opened, Path(output), self.facts.precision, overwrite=overwrite, places=places)
        return Vectors.open(output)

    def similar(self, other: Vectors, *, top: int = 1, threads: int = 1) -> Iterator[list[Hit]]:
        """For each row the nearest of another output; of this one itself the nearest other rows.

        Args:
            other: rows of the same bundle.
            top: rows for each.
            threads: blocks that are looked at at once.

        Raises:
            CorpusError: the rows cannot be compared, or `top` is below 1.
        """
        for name in ("fingerprint", "dimensions"):
            own, its = getattr(self.facts, name), getattr(other.facts, name)
            if own != its:
                raise CorpusError(
                    f"the rows have {name} {own!r}, and the others {its!r}; expected rows of one bundle. Embed the "
                    "texts of one of them again."
                )
        top = _checked_top(top)
        self._check_embeddings()
        return self._similar(other, top, threads)

    def _similar(self, other: Vectors, top: int, threads: int) -> Iterator[list[Hit]]:
        more = int(other is self)
        for start, positions, scores in find_similar(self._kept, other._kept, top + more, threads):
            for index, each in enumerate(zip(positions, scores, strict=True), start):
                found = [
                    (int(row), float(score))
                    for row, score in zip(*each, strict=True)
                    if not more or row != index
                ]
                yield [other._hit(row, score) for row, score in found[:top]]

    def _check_same_rows(self, other: Vectors) -> None:
        for name in _SAME:
            own, its = getattr(self.facts, name), getattr(other.facts, name)
            if own != its:
                raise CorpusError(
                    f"the rows to rescore with have {name} {its!r}, and those searched {own!r}; expected the same rows "
                    "in more bytes. Make the smaller ones of them: embedge quantize"
                )

    def _check_same_entry(self, other: Vectors, row: int) -> None:
        own, its = self._entries[row], other._entries[row]
        if own.id != its.id:
            raise CorpusError(
                f"row {row} is {own.id!r}, and {its.id!r} in the rows to rescore with; expected the same rows in the "
                "same order. Make the smaller ones of them: embedge quantize"
            )

    def _hit(self, row: int, score: float) -> Hit:
        entry = self._entries[row]
        return Hit(row=row, score=score, id=entry.id, text=entry.text, pair=entry.pair)

    def _check_embeddings(self) -> None:
        if self.facts.task != "embed":
            raise CorpusError(f"the rows are answers of {self.facts.task}; expected embeddings to search in")

    def _check(self, model: EdgeModel) -> None:
        self._check_embeddings()
        if self.facts.fingerprint != model.info.fingerprint:
            raise CorpusError(
                f"the rows were made by {self.facts.bundle}, fingerprint {self.facts.fingerprint[:12]}; the model has "
                f"{model.info.fingerprint[:12]}. Load that bundle, or embed the texts again."
            )


def _checked_top(top: int) -> int:
    top = plain(top)
    if type(top) is not int or top < 1:
        raise CorpusError(f"top={top!r} shows nothing; expected an int >= 1")
    return top
