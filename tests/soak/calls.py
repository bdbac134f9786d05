"""What the threads of a soak do, over and over: each makes calls of one kind and compares what it gets."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.soak.known import Known

from embedge import CallCancelledError, DeadlineError, EdgeModel
from embedge.errors import BundleError, SessionError

_BULK = 400
_ENDS = (CallCancelledError, DeadlineError)


class Counts:
    """Calls and what became of them, from many threads.

    Attributes:
        found: by name: calls, texts, wrong, swapped, lost, ended early, loads …
        unexpected: what was raised that should not be, at most a few.
    """

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._lock = threading.Lock()

    def add(self, **what: int) -> None:
        with self._lock:
            self.found.update(what)

    def note(self, error: BaseException | None, what: str = "") -> None:
        with self._lock:
            self.found["unexpected"] += 1
            if len(self.unexpected) < 10:
                self.unexpected.append(f"{what} {type(error).__name__}: {error}".strip())


class Caller:
    """One thread's calls.

    Args:
        model: that many threads share.
        known: its answers.
        counts: of all threads.
        seed: of what it asks.
        others: bundles with other weights, to load beside.
        damaged: bundles that cannot be loaded.
    """

    def __init__(
        self,
        model: EdgeModel,
        known: Known,
        counts: Counts,
        seed: int,
        others: list[Known],
        damaged: list[Path],
    ) -> None:
        self._model, self._known, self._counts = model, known, counts
        self._rng = random.Random(seed)
        self._others, self._damaged = others, damaged

    def single(self) -> None:
        """One text."""
        index = self._rng.randrange(len(self._known.texts))
        self._compare([index], self._model.embed(self._known.texts[index]).numpy())

    def few(self) -> None:
        """A few texts, and the rows of their tokens."""
        indices = self._some(self._rng.randint(2, 12))
        texts = [self._known.texts[i] for i in indices]
        self._compare(indices, self._model.embed(texts).numpy())
        rows = self._model.encode(texts, pooling_task="token_embed").numpy()
        self._counts.add(calls=1, texts=len(texts))
        lengths = [len(text.split()) + 2 for text in texts]
        if [len(row) for row in rows] != lengths:
            self._counts.add(wrong=1)

    def bulk(self) -> None:
        """Many texts."""
        indices = self._some(_BULK)
        self._compare(indices, self._model.embed([self._known.texts[i] for i in indices]).numpy())

    def rerank(self) -> None:
        """Documents in order of their scores."""
        query, *indices = self._some(20)
        found = self._model.rerank(self._known.texts[query], [self._known.texts[i] for i in indices])
        scores = self._known.rows[indices] @ self._known.rows[query]
        self._counts.add(calls=1, texts=len(indices))
        if any(abs(scores[each.index] - each.score) > 1e-5 for each in found) or len(found) != len(indices):
            self._counts.add(wrong=1)

    def half_stream(self) -> None:
        """A stream that is dropped, closed, or read to its end."""
        indices = self._some(_BULK)
        stream = self._model.stream([self._known.texts[i] for i in indices], window=32)
        take = self._rng.choice((1, 33, 100, _BULK))
        taken = [output for _, output in zip(range(take), stream, strict=False)]
        self._compare(indices[:take], np.stack([output.outputs.data for output in taken]))
        if [int(output.request_id) for output in taken] != list(range(take)):
            self._counts.add(swapped=1)
        if self._rng.random() < 0.5:
            stream.close()

    def ended(self) -> None:
        """A large call that its deadline or its caller ends, or not."""
        indices = self._some(4 * _BULK)
        texts = [self._known.texts[i % len(self._known.texts)] for i in indices]
        started, limit_s = time.monotonic(), self._rng.choice((0.0005, 0.002, 0.01, 0.05))
        options = (
            {"deadline_s": limit_s}
            if self._rng.random() < 0.5
            else {"cancel": lambda: time.monotonic() - started > limit_s}
        )
        try:
            self._compare(indices, self._model.embed(texts, **options).numpy())
        except _ENDS:
            self._counts.add(calls=1, ended_early=1)

    def in_asyncio(self) -> None:
        """An event loop with calls that are awaited, cancelled, timed out, or streamed in part."""
        asyncio.run(self._together())

    def reload(self) -> None:
        """Another bundle, which may be replaced by a third while it is opened; its answers are of one of the two."""
        first, second = self._others
        with EdgeModel(first.folder, device="cpu", threads=2) as model:
            indices = self._some(40)
            rows = model.embed([first.texts[i] for i in indices]).numpy()
            after = model.embed([first.texts[i] for i in indices * 10]).numpy()[: len(indices)]
        wrong = min(known.wrong(indices, np.concatenate([rows]))[0] for known in (first, second))
        wrong += int(not np.allclose(rows, after, atol=2e-6))
        self._counts.add(calls=2, texts=11 * len(indices), loads=1, wrong=wrong)

    def failing_load(self) -> None:
        """A bundle that is damaged."""
        folder = self._rng.choice(self._damaged)
        try:
            EdgeModel(folder, device="cpu", threads=2).close()
        except (BundleError, SessionError):
            self._counts.add(failed_loads=1)
        else:
            self._counts.add(wrong=1)

    async def _together(self) -> None:
        single = [asyncio.create_task(self._asked(1)) for _ in range(20)]
        large = [asyncio.create_task(self._asked(_BULK)) for _ in range(3)]
        late = asyncio.create_task(self._asked(2 * _BULK, self._rng.choice((0.001, 0.01))))
        await asyncio.sleep(self._rng.random() * 0.01)
        for task in (single[0], large[0]):
            task.cancel()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._half_astream())
        ended = await asyncio.gather(*single, *large, late, return_exceptions=True)
        for error in ended:
            if isinstance(error, (asyncio.CancelledError, *_ENDS)):
                self._counts.add(calls=1, ended_early=1)
            elif error is not None:
                self._counts.note(error)

    async def _asked(self, count: int, deadline_s: float | None = None) -> None:
        indices = self._some(count)
        texts = [self._known.texts[i] for i in indices]
        self._compare(indices, (await self._model.aembed(texts, deadline_s=deadline_s)).numpy())

    async def _half_astream(self) -> None:
        indices = self._some(200)
        stream = self._model.astream([self._known.texts[i] for i in indices], window=32)
        taken = []
        async for output in stream:
            taken.append(output.outputs.data)
            if len(taken) == 70:
                break
        await stream.aclose()
        self._compare(indices[:70], np.stack(taken))

    def _some(self, count: int) -> list[int]:
        return self._rng.choices(range(len(self._known.texts)), k=count)

    def _compare(self, indices: list[int], rows: np.ndarray) -> None:
        wrong, swapped = self._known.wrong(indices, rows)
        lost = max(0, len(indices) - len(rows))
        self._counts.add(calls=1, texts=len(indices), wrong=wrong, swapped=swapped, lost=lost)


KINDS: dict[str, tuple[int, Callable[[Caller], None]]] = {
    "single": (4, Caller.single),
    "few": (2, Caller.few),
    "bulk": (1, Caller.bulk),
    "rerank": (1, Caller.rerank),
    "half stream": (1, Caller.half_stream),
    "ended": (1, Caller.ended),
    "asyncio": (2, Caller.in_asyncio),
    "reload": (1, Caller.reload),
    "failing load": (1, Caller.failing_load),
}
"""Threads of each kind, and what they do."""
