"""What activations are on real texts, which int8 takes its scales from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embedge.runtime import available_threads, open_on_cpu
from embedge.types import FloatArray, IntArray
from embedge_export.memory import given_back
from embedge_export.texts.built_in import PAIRS, TEXTS
from embedge_export.texts.many_kinds import CALIBRATION_TEXTS, paired
from embedge_export.texts.retrieval import CALIBRATION_DOCUMENTS, built_in_set
from embedge_export.variants.editor import GraphEditor

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization

_SAMPLE_ROWS = 1024
_SAMPLE_BYTES = 256_000_000
"""Of all activations together: a large model's have fewer rows."""
_MOST_THREADS = 8
"""Each holds the activations of a text."""


class Activations(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What an activation was over the calibration texts.

    Attributes:
        lowest, highest: value of each channel, float32 (channels,).
        sample: some of its rows, float32 (rows, channels).
    """

    lowest: FloatArray
    highest: FloatArray
    sample: FloatArray


@given_back()
def calibrate(graph: Path, feeds: Sequence[Mapping[str, IntArray]]) -> dict[str, Activations]:
    """Look at the activations that int8 quantises.

    Args:
        graph: file of a float32 graph.
        feeds: inputs of some real texts, each int64 (1, seq_len).

    Returns:
        By tensor name; empty where no product is worth quantising.
    """
    editor = GraphEditor.open(graph)
    channels = {product.rows: product.channels for product in editor.products()}
    names = sorted(channels)
    if not names:  # a session that is asked for no output gives all
        return {}
    editor.expose(names)
    # beside the graph, where its external data is found
    exposed = graph.with_name(f".{graph.name}")
    exposed.write_bytes(editor.serialize())
    try:
        session = open_on_cpu(exposed, threads=1)
    finally:
        exposed.unlink()
    random = np.random.default_rng(0)
    num_rows = min(_SAMPLE_ROWS, _SAMPLE_BYTES // (4 * sum(channels.values())))
    per_feed = -(-num_rows // max(1, len(feeds)))
    lowest: dict[str, FloatArray] = {}
    highest: dict[str, FloatArray] = {}
    samples: dict[str, list[FloatArray]] = {name: [] for name in names}
    for outputs in _in_order(lambda feed: session.run(names, dict(feed)), feeds):
        for name, rows in zip(names, outputs, strict=True):
            flat = rows.reshape(-1, rows.shape[-1])
            low, high = flat.min(axis=0), flat.max(axis=0)
            lowest[name] = np.minimum(low, lowest.get(name, low))
            highest[name] = np.maximum(high, highest.get(name, high))
            samples[name].append(flat[random.permutation(len(flat))[:per_feed]])
    # in no order, so that a part is of all texts as well
    return {
        name: Activations(
            lowest=lowest[name],
            highest=highest[name],
            sample=random.permutation(np.concatenate(samples[name])),
        )
        for name in lowest
    }


def _in_order(
    run: Callable[[Mapping[str, IntArray]], list[FloatArray]], feeds: Sequence[Mapping[str, IntArray]]
) -> Iterator[list[FloatArray]]:
    """What a graph gives for each text, in their order; as many texts are in work as there are processors."""
    num_threads = min(available_threads(), _MOST_THREADS)
    waiting: deque[Future[list[FloatArray]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for feed in feeds:
            waiting.append(pool.submit(run, feed))
            if len(waiting) > num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def calibration_feeds(
    names: Sequence[str], tokenization: Tokenization, *, pairs: bool
) -> list[dict[str, IntArray]]:
    """Inputs of some real texts to calibrate int8 with, one text each, so that no padding is measured.

    Args:
        names: of the graph's inputs.
        tokenization: of the checkpoint.
        pairs: the graph scores pairs, so half of the texts are.

    Returns:
        By input, int64 (1, seq_len).
    """
    # the gate asks the first documents, and must not meet what was calibrated on
    documents = built_in_set().documents[-CALIBRATION_DOCUMENTS:]
    texts: list[tuple[str, str | None]] = [(text, None) for text in (*documents, *CALIBRATION_TEXTS)]
    if pairs:
        texts = [*texts[: CALIBRATION_DOCUMENTS // 2], *PAIRS, *paired(CALIBRATION_TEXTS)]
    # in short texts a word attends to little but itself, which takes its activations beyond those in documents
    beginnings = [" ".join(text.split()[: 1 + i % 4]) for i, text in enumerate(documents)]
    feeds = []
    for text, document in [*texts, *((text, None) for text in (*TEXTS[:8], *beginnings))]:
        encoding = tokenization.encode(text, document)
        count = len(encoding["input_ids"])
        if not count:
            continue
        known = {
            "attention_mask": [1] * count,
            "token_type_ids": [0] * count,
            "position_ids": list(range(count)),
            **encoding,
        }
        feeds.append({name: np.asarray([known[name]], dtype=np.int64) for name in names})
    return feeds
