"""All subjects in turn, round after round, with the same texts, until the time is used up."""

from __future__ import annotations

import base64
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge._machine.memory import available_memory_bytes
from embedge._peers.figures import Comparison, LeftOut, Measured, Spread
from embedge._peers.process import Process, SubjectError
from embedge._peers.subjects import Subject
from embedge.types import FloatArray

MOST_ROUNDS = 5
_TURN_S = (0.15, 1.0)
"""Shortest and longest that one subject is measured at a time, on average over all subjects."""
_LOADED, _SEEN, _ALL = 0.55, 0.7, 0.95
"""Of the time, when loading ends and a subject whose turn comes later is left out; then a first look; then all."""
_COMPARED = 16
_LOOK = 5
"""Texts from which nobody's turn is shorter."""
_LEAST_S = 2.0
"""That a subject has for loading and for a first look, however many they are."""
_OTHER_VECTORS = 0.99
"""Cosine below which vectors are another model's, and not this one's with other rounding."""
_WEIGHTS_AT_ONCE = 3
"""Times its weights that a subject takes at most while it loads."""
_SETTLE_S = 0.1
"""Before a turn: threads of the one before may wait actively for a moment."""

Progress = Callable[[str], None]


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """What is embedded: short ones, also one at a time, and passages."""

    short: list[str]
    passages: list[str]


class _Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Texts of a turn."""

    queries: int
    shorts: int
    passages: int


class _Runner(msgspec.Struct, kw_only=True):
    """A subject that runs, and what its turns came to."""

    subject: Subject
    process: Process
    vectors: FloatArray | None = None
    looked_s: tuple[float, float, float] = (1.0, 1.0, 1.0)
    query_ms: list[float] = msgspec.field(default_factory=list)
    short_per_s: list[float] = msgspec.field(default_factory=list)
    passages_per_s: list[float] = msgspec.field(default_factory=list)


class _Field(msgspec.Struct, kw_only=True):
    """Everyone who was loaded, who still runs, or does not, and the time that is left to them."""

    seconds: float
    began: float
    progress: Progress
    runners: list[_Runner] = msgspec.field(default_factory=list)
    loaded: list[_Runner] = msgspec.field(default_factory=list)
    left_out: list[LeftOut] = msgspec.field(default_factory=list)

    def left(self, share: float = 1.0) -> float:
        """Seconds until a share of the time is used up."""
        return share * self.seconds - (time.perf_counter() - self.began)

    def each(self, do: Callable[[_Runner, float], None], until: float, least_s: float) -> None:
        """Let everyone do it in turn, within a time; who fails is left out from then on.

        Args:
            do: takes the seconds that it may take.
            until: share of the time; nobody may take more than twice an equal part of what is left of it.
            least_s: but as much as this.
        """
        waiting = list(self.runners)
        while waiting:
            runner = waiting.pop(0)
            time.sleep(_SETTLE_S)
            try:
                do(runner, max(least_s, 2 * self.left(until) / (1 + len(waiting))))
            except SubjectError as error:
                self.runners.remove(runner)
                runner.process.end()
                rounds = len(runner.passages_per_s)
                self.left_out.append(LeftOut(label=runner.subject.label, reason=str(error), rounds=rounds))


def compare(
    subjects: Sequence[Subject],
    texts: Texts,
    *,
    folder: Path,
    seconds: float,
    weights_bytes: int,
    left_out: Sequence[LeftOut],
    progress: Progress,
) -> Comparison:
    """Load every subject, compare their vectors, and time them in turn.

    Args:
        subjects: those that are to be measured, ours first.
        texts: as many as are wanted at most; fewer are taken where the time asks for it.
        folder: without files, in which processes run.
        seconds: for all of it.
        weights_bytes: of the float32 weights, which every subject has once.
        left_out: who cannot be measured.
        progress: is told what goes on, in a few words.

    Raises:
        SubjectError: no subject answered.
    """
    field = _Field(seconds=seconds, began=time.perf_counter(), progress=progress, left_out=list(left_out))
    with ExitStack() as stack:
        for waiting, subject in zip(reversed(range(len(subjects))), subjects, strict=True):
            # one that does not end leaves those that wait the time to load
            within_s = max(_LEAST_S, field.left(_LOADED) - _LEAST_S * waiting)
            _load(field, subject, texts.short[0], stack, folder, weights_bytes, within_s)
        progress("comparing vectors, and looking how many texts the time allows")
        field.each(lambda runner, within_s: _look(runner, texts, within_s), _SEEN, _LEAST_S)
        counts = _counts(field, texts)
        rounds = 0
        while field.runners and rounds < MOST_ROUNDS:
            before = time.perf_counter()
            progress(f"round {rounds + 1} of at most {MOST_ROUNDS}")
            # the first round is what everyone has to come to
            least_s = 0.2 * seconds if rounds == 0 else _LEAST_S
            field.each(lambda runner, within_s: _turn(runner, texts, counts, within_s), _ALL, least_s)
            rounds += 1
            if field.left(_ALL) < time.perf_counter() - before:
                break
    if not any(runner.passages_per_s for runner in field.loaded):
        raise SubjectError(
            "nothing could be measured: "
            # first why those failed that were begun
            + "; ".join(
                f"{each.label}: {each.reason}" for each in (*field.left_out[len(left_out) :], *left_out)
            )
        )
    return _comparison(field, texts, counts, rounds)


def _load(
    field: _Field,
    subject: Subject,
    first: str,
    stack: ExitStack,
    folder: Path,
    weights_bytes: int,
    within_s: float,
) -> None:
    field.progress(f"loading {subject.label}")
    free = available_memory_bytes()
    if field.left(_LOADED) < 1:
        reason = "no time was left to load it; --seconds gives more"
    elif field.runners and free is not None and free < _WEIGHTS_AT_ONCE * weights_bytes:
        reason = "the memory that is free does not hold it beside the others"
    else:
        try:
            process = stack.enter_context(Process(subject, first, folder, within_s))
        except SubjectError as error:
            reason = str(error)
        else:
            field.loaded.append(_Runner(subject=subject, process=process))
            field.runners.append(field.loaded[-1])
            return
    field.left_out.append(LeftOut(label=subject.label, reason=reason))


def _look(runner: _Runner, texts: Texts, within_s: float) -> None:
    """Keep its vectors, and what a text takes: alone, of several short ones, of several passages."""
    deadline = time.perf_counter() + within_s

    def ask(action: str, asked: list[str]) -> dict[str, Any]:
        return runner.process.ask(action, asked, deadline - time.perf_counter())

    short, passages = texts.short[:_COMPARED], texts.passages[:_COMPARED]
    found = ask("vectors", passages)
    rows = np.frombuffer(base64.b64decode(found["vectors"]), "<f4").reshape(found["shape"])
    runner.vectors = rows.astype(np.float32)
    alone = statistics.median(ask("one_by_one", short[:_LOOK])["seconds"])
    together = ask("together", short)["seconds"][0] / len(short)
    runner.looked_s = alone, together, found["seconds"][0] / len(passages)


def _counts(field: _Field, texts: Texts) -> _Counts:
    """As many texts as let everyone's turn take equally long on average, and all rounds fit into the time."""
    turns = 3 * MOST_ROUNDS * max(1, len(field.runners))
    turn_s = min(_TURN_S[1], max(_TURN_S[0], field.left(_ALL) / turns))
    columns = zip(*(runner.looked_s for runner in field.runners), strict=True)
    fits = [int(turn_s / statistics.fmean(column)) for column in columns] or [0, 0, 0]
    return _Counts(
        queries=max(_LOOK, min(fits[0], len(texts.short))),
        shorts=max(_LOOK, min(fits[1], len(texts.short))),
        passages=max(_LOOK, min(fits[2], len(texts.passages))),
    )


def _turn(runner: _Runner, texts: Texts, counts: _Counts, within_s: float) -> None:
    deadline = time.perf_counter() + within_s

    def ask(action: str, asked: list[str]) -> list[float]:
        found: list[float] = runner.process.ask(action, asked, deadline - time.perf_counter())["seconds"]
        return found

    ask("one_by_one", texts.short[:2])
    query = ask("one_by_one", texts.short[: counts.queries])
    short = ask("together", texts.short[: counts.shorts])
    passages = ask("together", texts.passages[: counts.passages])
    runner.query_ms.append(1000 * statistics.median(query))
    runner.short_per_s.append(counts.shorts / short[0])
    runner.passages_per_s.append(counts.passages / passages[0])


def _comparison(field: _Field, texts: Texts, counts: _Counts, rounds: int) -> Comparison:
    ran = [each for each in field.loaded if each.passages_per_s]
    reference = next((each for each in ran if each.subject.of_checkpoint), ran[0])
    return Comparison(
        rounds=rounds,
        seconds=time.perf_counter() - field.began,
        queries=counts.queries,
        shorts=counts.shorts,
        passages=counts.passages,
        short_words=_mean_words(texts.short[: counts.shorts]),
        passage_words=_mean_words(texts.passages[: counts.passages]),
        reference=reference.subject.label,
        compared=min(_COMPARED, len(texts.passages)),
        measured=tuple(_measured(each, reference) for each in ran),
        left_out=tuple(field.left_out),
    )


def _measured(runner: _Runner, reference: _Runner) -> Measured:
    subject, cosines = runner.subject, _cosines(runner.vectors, reference.vectors)
    lowest = None if cosines is None else float(cosines.min())
    return Measured(
        label=subject.label,
        ours=subject.ours,
        dtype=subject.dtype,
        version=subject.version,
        start_s=runner.process.start_s,
        query_ms=_spread(runner.query_ms),
        short_per_s=_spread(runner.short_per_s),
        passages_per_s=_spread(runner.passages_per_s),
        peak_rss_bytes=runner.process.peak_rss_bytes,
        cosine_min=lowest,
        cosine_mean=None if cosines is None else float(cosines.mean()),
        same_vectors=lowest is not None and lowest >= _OTHER_VECTORS,
    )


def _cosines(rows: FloatArray | None, others: FloatArray | None) -> FloatArray | None:
    if rows is None or others is None or rows.shape != others.shape:
        return None
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    found: FloatArray = np.minimum(np.einsum("ij,ij->i", rows, others, dtype=np.float64) / lengths, 1.0)
    return found


def _spread(figures: list[float]) -> Spread:
    return Spread(median=statistics.median(figures), low=min(figures), high=max(figures))


def _mean_words(texts: list[str]) -> float:
    return statistics.fmean(len(text.split()) for text in texts)
