"""Chunks become rows of numbers: the next is computed while one is written."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from itertools import islice
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from embedge._calls.naming import of_one
from embedge._corpus.chunks import Asked, Chunk
from embedge._corpus.records import Row
from embedge.errors import PromptError
from embedge.model import EdgeModel
from embedge.params import PoolingParams
from embedge.types import FloatArray, IntArray, LongText

CorpusTask: TypeAlias = Literal["embed", "classify", "score"]


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked; each field but the task means what it means to EdgeModel.

    Attributes:
        task: "embed" and "classify" for texts, "score" for pairs.
        query: first text of every pair, where rows hold the second alone.
    """

    task: CorpusTask = "embed"
    dimensions: int | None = None
    normalize: bool | None = None
    tower: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    long_text: LongText = "truncate"
    query: str | None = None

    @property
    def params(self) -> PoolingParams:
        """As EdgeModel takes them."""
        return PoolingParams(dimensions=self.dimensions, normalize=self.normalize)


class Answered(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A chunk that was computed.

    Attributes:
        rows: those that were answered, in order.
        rejected: those that were not, with their problems.
        numbers: float32, a row for each different text of the chunk.
        which: for each of `rows` the place of its numbers.
        tokens: of each different text, specials included.
        cut: of each different text, tokens beyond the limit.
        num_read: rows of the input, rejected ones included.
    """

    rows: tuple[Row, ...]
    rejected: tuple[Row, ...]
    numbers: FloatArray
    which: IntArray
    tokens: IntArray
    cut: IntArray
    num_read: int


class _Outputs(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    numbers: FloatArray
    tokens: IntArray
    cut: IntArray


def tower_of(model: EdgeModel, asking: Asking) -> str | None:
    """The tower that embeds rows: that of documents, where nobody says otherwise."""
    return model.manifest.tower_for("document") if asking.tower is None else asking.tower


def answer(model: EdgeModel, chunks: Iterator[Chunk], asking: Asking, size: int) -> Iterator[Answered]:
    """Compute chunks, in order.

    Args:
        model: the loaded model.
        chunks: of `size` different texts each, but for the last.
        asking: what it is asked.
        size: of a chunk; what is computed together does not depend on how far a job was before.

    Raises:
        EmbedgeError: as EdgeModel's verbs; texts too long for long_text "error" are rejected instead.
    """
    if asking.task != "score" and asking.long_text == "truncate":
        yield from _streamed(model, chunks, asking, size)
        return
    for chunk in chunks:
        yield _at_once(model, chunk, asking)


def _streamed(model: EdgeModel, chunks: Iterator[Chunk], asking: Asking, size: int) -> Iterator[Answered]:
    under_way: collections.deque[Chunk] = collections.deque()

    def texts() -> Iterator[Asked]:
        for chunk in chunks:
            under_way.append(chunk)
            yield from chunk.asked

    outputs = model.stream(
        texts(),  # type: ignore[arg-type]  # single texts, as no row has a pair
        asking.params,
        pooling_task="classify" if asking.task == "classify" else "embed",
        tower=tower_of(model, asking),
        prompt_name=asking.prompt_name,
        prompt=asking.prompt,
        truncate_prompt_tokens=-1,
        window=size,
    )
    while True:
        first = next(outputs, None)
        if first is None:
            break
        chunk = under_way.popleft()
        some = [first, *islice(outputs, len(chunk.asked) - 1)]
        yield _put_together(
            chunk,
            _Outputs(
                numbers=np.stack([output.outputs.data for output in some]),
                tokens=np.array([len(output.prompt_token_ids) for output in some]),
                cut=np.array([output.num_truncated_tokens for output in some]),
            ),
        )
    for chunk in under_way:  # a last one of rejected rows alone asks nothing
        yield _put_together(chunk, _nothing())


def _at_once(model: EdgeModel, chunk: Chunk, asking: Asking) -> Answered:
    asked = list(chunk.asked)
    problems: dict[Asked, str] = {}
    while asked:
        try:
            outputs = _ask(model, asked, asking)
            return _put_together(_without(chunk, problems), outputs)
        except PromptError as error:  # one for each text that is too long
            if error.index is None:
                raise
            problems[asked.pop(error.index)] = of_one(error)
    return _put_together(_without(chunk, problems), _nothing())


def _ask(model: EdgeModel, asked: list[Asked], asking: Asking) -> _Outputs:
    if asking.task == "score":
        if asking.query is None:
            sides = [list(side) for side in zip(*asked, strict=True)]
        else:
            sides = [[asking.query] * len(asked), [str(text) for text in asked]]
        limit = None if asking.long_text == "error" else -1
        outputs = model.score(
            *sides,
            truncate_prompt_tokens=limit,
            query_prompt_name=asking.prompt_name,
            instruction=asking.prompt,
        )
    elif asking.task == "embed":
        outputs = model.embed(  # type: ignore[assignment]
            [str(text) for text in asked],
            pooling_params=asking.params,
            tower=tower_of(model, asking),
            prompt_name=asking.prompt_name,
            prompt=asking.prompt,
            long_text=asking.long_text,
        )
    else:
        outputs = model.encode(  # type: ignore[assignment]
            [str(text) for text in asked],
            asking.params,
            pooling_task="classify",
            prompt_name=asking.prompt_name,
            prompt=asking.prompt,
        )
    numbers = outputs.numpy()
    return _Outputs(
        numbers=numbers[:, None] if asking.task == "score" else numbers,
        tokens=np.array([len(output.prompt_token_ids) for output in outputs]),
        cut=np.array([output.num_truncated_tokens for output in outputs]),
    )


def _without(chunk: Chunk, problems: dict[Asked, str]) -> Chunk:
    """A chunk whose texts with problems are rejected."""
    if not problems:
        return chunk
    kept = [place for place, asked in enumerate(chunk.asked) if asked not in problems]
    places = {place: index for index, place in enumerate(kept)}
    pairs = list(zip(chunk.rows, chunk.which, strict=True))
    return Chunk(
        rows=tuple(row for row, place in pairs if place in places),
        rejected=(
            *chunk.rejected,
            *(
                msgspec.structs.replace(row, problem=problems[chunk.asked[place]])
                for row, place in pairs
                if place not in places
            ),
        ),
        asked=tuple(chunk.asked[place] for place in kept),
        which=tuple(places[place] for _, place in pairs if place in places),
    )


def _put_together(chunk: Chunk, outputs: _Outputs) -> Answered:
    return Answered(
        rows=chunk.rows,
        rejected=chunk.rejected,
        numbers=outputs.numbers,
        which=np.array(chunk.which, dtype=np.int64),
        tokens=outputs.tokens,
        cut=outputs.cut,
        num_read=chunk.num_read,
    )


def _nothing() -> _Outputs:
    none = np.zeros(0, dtype=np.int64)
    return _Outputs(numbers=np.zeros((0, 0), dtype=np.float32), tokens=none, cut=none)
