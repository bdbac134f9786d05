"""Rows as points of a plane, on a page that shows the text of each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from html import escape
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._corpus.kept import Kept, in_blocks
from embedge._corpus.map_page import PAGE
from embedge._corpus.stored import Opened
from embedge.errors import CorpusError, MissingExtraError
from embedge.types import FloatArray, IntArray

MapMethod: TypeAlias = Literal["auto", "pca", "umap"]

_SHOWN_CHARS = 300
_SEED = 1


def draw_map(opened: Opened, method: MapMethod, limit: int) -> tuple[str, str]:
    """A page, and how the points were found, in words.

    Args:
        opened: rows, and what is known of each.
        method: "pca" keeps the two directions in which rows differ most; "umap" keeps neighbours together and needs
            umap-learn; "auto" takes that where it is installed.
        limit: points at most; of more rows some are taken, evenly.

    Raises:
        CorpusError: fewer than three rows.
        MissingExtraError: "umap", and it is not installed.
    """
    kept = opened.kept
    count = len(kept.rows)
    if count < 3:
        raise CorpusError(f"{count} rows make no map; expected at least 3")
    places = np.unique(np.linspace(0, count - 1, min(count, limit)).astype(np.int64))
    points, how = _points(kept, places, method)
    if len(places) < count:
        how += f"; {len(places):,} of {count:,} rows"
    return _page(opened, places, points, how), how


def principal_components(kept: Kept, places: IntArray) -> tuple[FloatArray, float]:
    """Rows along the two directions in which they differ most, and the share of their variance that this is.

    Args:
        kept: the rows; some thousand of them are held.
        places: those that are meant.

    Returns:
        float32 (num_places, 2); the largest component of each direction is positive, so that a map stays the same.
    """
    total = sum(numbers.sum(0, dtype=np.float64) for numbers in _blocks(kept, places))
    mean = np.asarray(total / len(places))
    scatter = np.zeros((len(mean), len(mean)))
    for numbers in _blocks(kept, places):
        away = numbers - mean
        scatter += away.T @ away
    values, vectors = np.linalg.eigh(scatter)
    directions = vectors[:, ::-1][:, :2]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), [0, 1]])
    points = np.concatenate([(numbers - mean) @ directions for numbers in _blocks(kept, places)])
    share = values[-2:].sum() / max(float(values.sum()), 1e-30)
    return points.astype(np.float32), float(share)


def _blocks(kept: Kept, places: IntArray) -> Iterator[FloatArray]:
    for some in in_blocks(places):
        yield kept.numbers(some)


def _points(kept: Kept, places: IntArray, method: MapMethod) -> tuple[FloatArray, str]:
    umap = None if method == "pca" else _umap(needed=method == "umap")
    if umap is None:
        if kept.sidecar.dimensions < 2:
            raise CorpusError("rows of one component make no map; expected at least 2")
        points, share = principal_components(kept, places)
        return points, f"principal components, {share:.0%} of the variance"
    neighbours = min(15, len(places) - 1)
    # of three rows it finds no eigenvectors to begin with
    start = "random" if len(places) < 10 else "spectral"
    reducer = umap.UMAP(n_neighbors=neighbours, metric="cosine", init=start, random_state=_SEED, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of few or equal rows: how it begins otherwise, which a map does not show
        points = reducer.fit_transform(kept.numbers(places))
    return points, "UMAP by cosine; only what is near says something"


def _umap(*, needed: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # of TensorFlow, which no map needs
            import umap
    except ImportError:
        if needed:
            raise MissingExtraError(
                "this map needs UMAP, which is not installed. Install it with: pip install umap-learn"
            ) from None
        return None
    return umap


def _page(opened: Opened, places: IntArray, points: FloatArray, how: str) -> str:
    entries = [opened.entries[int(place)] for place in places]
    data = {
        "x": _scaled(points[:, 0]).tolist(),
        "y": _scaled(points[:, 1]).tolist(),
        "ids": [entry.id for entry in entries],
        "texts": [(entry.text or "")[:_SHOWN_CHARS] for entry in entries],
    }
    # in a script no text may end it
    encoded = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    name = escape(opened.sidecar.bundle)
    return (
        PAGE.replace("{{title}}", f"{len(places):,} rows by {name}")
        .replace("{{how}}", escape(how))
        .replace("{{data}}", encoded)
    )


def _scaled(values: FloatArray) -> npt.NDArray[np.float64]:
    """Between 0 and 1, in as many digits as a screen shows after some zooming."""
    spread = float(values.max() - values.min())
    scaled = (values.astype(np.float64) - float(values.min())) / (spread or 1.0)
    rounded: npt.NDArray[np.float64] = np.round(scaled, 5)
    return rounded
