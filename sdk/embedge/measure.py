"""Speed of a loaded model on this machine: one text at a time, many by each way to split them, and parts of both."""

from __future__ import annotations

import importlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge._sessions.tuning import Tuning, splits
from embedge._text.tokens import EncodedRows, batch_of_one
from embedge.errors import ParamsError
from embedge.model import EdgeModel
from embedge.types import FloatArray, IntArray

if TYPE_CHECKING:
    from embedge._batches.forward import Forward
    from embedge._engine.engine import Engine
    from embedge._text.tokens import Encoded

TRIED_BATCH_TOKENS = (256, 512, 1024, 2048)
_MARGIN = 1.03
"""A split has to be so much faster than the rule's to be preferred: less may be noise."""
_PASSES = 3
_DOCUMENTED = (
    "argparse",
    "collections",
    "decimal",
    "difflib",
    "email",
    "json",
    "logging",
    "pathlib",
    "random",
)


class SplitSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """Speed of one way to split a call.

    Attributes:
        tuning: the way.
        texts_per_s, tokens_per_s: medians of three passes.
    """

    tuning: Tuning
    texts_per_s: float
    tokens_per_s: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Time from text to vector, one text at a time.

    Attributes:
        num_tokens: of the text, special tokens included.
        p50_ms, p95_ms: of all calls.
    """

    num_tokens: int
    p50_ms: float
    p95_ms: float


def sample_texts(count: int) -> list[str]:
    """Paragraphs of the documentation that comes with Python: 5 to 120 words each."""
    paragraphs: list[str] = []
    for name in _DOCUMENTED:
        module = importlib.import_module(name)
        documented = [module, *(value for _, value in sorted(vars(module).items()) if callable(value))]
        for each in documented:
            for paragraph in (inspect.getdoc(each) or "").split("\n\n"):
                words = paragraph.split()
                if len(words) >= 5:
                    paragraphs.append(" ".join(words[:120]))
    if not paragraphs:
        raise ParamsError("this Python was stripped of its documentation (-OO); pass texts with --texts")
    return [paragraphs[i % len(paragraphs)] for i in range(count)]


def measure_latency(answer: Callable[[], int], seconds: float) -> Latency:
    """Call again and again for some seconds, at least ten times after a warm-up.

    Args:
        answer: answers one text and returns its number of tokens.
        seconds: how long.
    """
    num_tokens = answer()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 10 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        answer()
        times.append(1000 * (time.perf_counter() - before))
    cuts = statistics.quantiles(times, n=20)
    return Latency(num_tokens=num_tokens, p50_ms=cuts[9], p95_ms=cuts[18])


def measure_splits(
    model: EdgeModel, texts: Sequence[str], batch_tokens: Sequence[int] = TRIED_BATCH_TOKENS
) -> Iterator[SplitSpeed]:
    """Run the same texts by each way to split them; texts are tokenised once, beforehand.

    Args:
        model: on the CPU.
        texts: those beyond the limit are cut.
        batch_tokens: sizes of batches to try with each split into workers and threads.
    """
    from embedge._engine.engine import tuned

    engine = _engine(model)
    encoded = engine.tokenizer.encode(texts, [-1] * len(texts))
    num_tokens = sum(len(e.token_ids) for e in encoded)
    for workers, each in splits(engine.info.threads):
        for limit in batch_tokens:
            tuning = Tuning(workers=workers, threads_per_worker=each, batch_tokens=limit)
            forward = tuned(engine, tuning)
            _run(forward, engine, encoded[: max(16, len(encoded) // 8)])
            seconds = statistics.median(_run(forward, engine, encoded) for _ in range(_PASSES))
            yield SplitSpeed(
                tuning=tuning, texts_per_s=len(texts) / seconds, tokens_per_s=num_tokens / seconds
            )


def count_tokens(model: EdgeModel, texts: Sequence[str]) -> IntArray:
    """Tokenise texts, and nothing else: the host's part of a call.

    Returns:
        Tokens of each text, int64 (num_texts,): special tokens included, stored prompts left out, and no more than
        the model's limit.
    """
    encoded = _engine(model).tokenizer.encode(texts, [-1] * len(texts))
    if isinstance(encoded, EncodedRows):
        return encoded.num_tokens.astype(np.int64)
    return np.array([len(each.token_ids) for each in encoded], dtype=np.int64)


def graph_runs(model: EdgeModel, texts: Sequence[str]) -> list[Callable[[], FloatArray]]:
    """The graph's part of a call with one text: for each text a function that runs the graph on its tokens alone."""
    engine = _engine(model)
    output = _main_output(engine)
    lane = engine.sessions.lanes([1])[0]
    encoded = engine.tokenizer.encode(texts, [-1] * len(texts))
    return [partial(lane.run, output, engine.forward.feeds(batch_of_one(each))) for each in encoded]


def fastest(speeds: Sequence[SplitSpeed], rule: Tuning) -> SplitSpeed:
    """The fastest way, or the rule's where that is as fast within what a measurement tells."""
    best = max(speeds, key=lambda speed: speed.texts_per_s)
    for speed in speeds:
        if speed.tuning == rule and speed.texts_per_s * _MARGIN >= best.texts_per_s:
            return speed
    return best


def _engine(model: EdgeModel) -> Engine:
    return model._open().engine


def _run(forward: Forward, engine: Engine, encoded: Sequence[Encoded]) -> float:
    output = _main_output(engine)
    started = time.perf_counter()
    for _ in forward.batches(output, encoded):
        pass
    return time.perf_counter() - started


def _main_output(engine: Engine) -> str:
    graph = engine.manifest.graph
    output = graph.pooled or graph.token or graph.hidden
    assert output is not None
    return output
