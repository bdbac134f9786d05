"""A soak: threads of every kind at once for some time, and what the process held meanwhile; and many loads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.soak import known
from tests.soak.calls import KINDS, Caller, Counts
from tests.soak.watching import Held, held, median, noticed, settled

from embedge import EdgeModel
from embedge._placing.swapping import exchange
from embedge.errors import BundleError, SessionError

_PATIENCE_S = 60.0
_WINDOWS = 30
"""Of which the first is for warming up, and the second is compared with the last."""


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What was seen.

    Attributes:
        seconds: it took.
        counts: of calls.
        unexpected: what was raised that should not be.
        hung: kinds whose thread did not come back.
        start, end: held before the shared model was loaded, after warming up; and when it was closed.
        early, late: held while everything ran, in the second and in the last part of the time.
        samples: all of them.
    """

    seconds: float
    counts: dict[str, int]
    unexpected: list[str]
    hung: list[str]
    start: Held
    end: Held
    early: Held
    late: Held
    samples: list[Held]

    @property
    def growth(self) -> float:
        """Of memory, from early to late, as a share."""
        return self.late.rss_mib / self.early.rss_mib - 1

    @property
    def faults(self) -> list[str]:
        """Everything that must not be; memory and what is kept are judged by who reads the figures."""
        bad = [
            f"{name}: {self.counts[name]}"
            for name in ("wrong", "swapped", "lost", "unexpected")
            if self.counts.get(name)
        ]
        return bad + [f"hung: {kind}" for kind in self.hung] + self.unexpected


def soak(folder: Path, seconds: float) -> Soak:
    """Run every kind of call at once.

    Args:
        folder: empty, for bundles.
        seconds: for how long.
    """
    main = known.make(folder / "main", 1)
    others = [known.make(folder / name, seed) for name, seed in (("first", 2), ("second", 3))]
    damaged = known.broken(folder / "damaged")
    _everything_once(main, others, damaged)
    start = settled()
    counts, samples = Counts(), [held()]
    began = time.monotonic()
    with noticed(counts.note), EdgeModel(main.folder, device="cpu", threads=2) as model:
        over = threading.Event()
        threads: list[tuple[str, threading.Thread]] = []
        for kind, (many, call) in KINDS.items():
            for _ in range(many):
                caller = Caller(model, main, counts, len(threads), others, damaged)
                work = _repeating(call, caller, counts, over)
                threads.append((kind, threading.Thread(target=work, daemon=True)))
        threads.append(("replacing", threading.Thread(target=_replacing(others, over), daemon=True)))
        for _, thread in threads:
            thread.start()
        pause_s = min(1.0, seconds / (2 * _WINDOWS))
        while time.monotonic() - began < seconds:
            time.sleep(pause_s)
            samples.append(held())
        over.set()
        limit = time.monotonic() + _PATIENCE_S
        for _, thread in threads:
            thread.join(timeout=max(0.0, limit - time.monotonic()))
        hung = [kind for kind, thread in threads if thread.is_alive()]
        seconds = time.monotonic() - began
    part = max(1, len(samples) // _WINDOWS)
    return Soak(
        seconds=seconds,
        counts=dict(counts.found),
        unexpected=counts.unexpected,
        hung=hung,
        start=start,
        end=settled(),
        early=median(samples[part : 2 * part]),
        late=median(samples[-part:]),
        samples=samples,
    )


def load_often(folder: Path, count: int) -> tuple[Held, Held]:
    """Load a bundle, answer and close it, so often; what was held before (after a few) and at the end."""
    main = known.make(folder / "main", 1)

    def once() -> None:
        with EdgeModel(main.folder, device="cpu", threads=2) as model:
            indices = list(range(40))
            wrong, _ = main.wrong(indices, model.embed([main.texts[i] for i in indices]).numpy())
        assert not wrong

    return _often(once, count)


def fail_often(folder: Path, count: int) -> tuple[Held, Held]:
    """Load bundles that are damaged, so often; likewise."""
    damaged = known.broken(folder / "damaged")

    def once() -> None:
        for each in damaged:
            try:
                EdgeModel(each, device="cpu", threads=2).close()
            except (BundleError, SessionError):
                continue
            raise AssertionError(f"{each} was loaded")

    return _often(once, -(-count // len(damaged)))


def _often(once: Callable[[], None], count: int) -> tuple[Held, Held]:
    for _ in range(max(3, count // 20)):
        once()
    before = settled()
    for _ in range(count):
        once()
    return before, settled()


def _everything_once(main: known.Known, others: list[known.Known], damaged: list[Path]) -> None:
    """Modules are imported, and libraries make what they keep for good."""
    counts = Counts()
    with EdgeModel(main.folder, device="cpu", threads=2) as model:
        for seed, (_, call) in enumerate(KINDS.values()):
            call(Caller(model, main, counts, seed, others, damaged))


def _repeating(
    call: Callable[[Caller], None], caller: Caller, counts: Counts, over: threading.Event
) -> Callable[[], None]:
    def once() -> None:
        try:
            call(caller)
        except Exception as error:
            counts.note(error)

    def work() -> None:
        while not over.is_set():
            once()

    return work


def _replacing(others: list[known.Known], over: threading.Event) -> Callable[[], None]:
    first, second = (other.folder for other in others)

    def work() -> None:
        while not over.wait(0.05):
            exchange(first, second)

    return work
