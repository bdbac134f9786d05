"""Helpers for tests of programs that use embedge: a tiny bundle, and a comparison of embeddings.

They need nothing but the runtime's own dependencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._testing.tiny_kinds import TinyBundle, TinyKind
from embedge.bundle import sha256_file
from embedge.errors import ParamsError
from embedge.manifest import MANIFEST_FILE, FileRecord, dump_manifest, fingerprint
from embedge.types import PathLike, PoolingMode, Side

__all__ = ["TinyKind", "assert_embeddings_close", "tiny_bundle"]


def tiny_bundle(
    folder: PathLike,
    kind: TinyKind = "embed",
    *,
    pooling: Sequence[PoolingMode] = ("MEAN",),
    with_dense: bool = False,
    special_tokens: bool = True,
    padding_side: Side = "right",
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a complete bundle of a few kilobytes, with random weights; it loads in milliseconds.

    Texts are split into words at white space and punctuation. About fifty English words are known; the word
    "nan" makes the graph return NaN.

    Args:
        folder: where to write; made if missing, files in it are replaced.
        kind: what the model is for. "llm_reranker" has a template, left padding and no special tokens,
            whatever the other arguments say; "late_interaction" has a Dense module.
        pooling: kind "embed": modes whose results are concatenated; ("ALL",) gives token_embed only.
        with_dense: kind "embed": a Dense module with Tanh after pooling.
        special_tokens: put [CLS] and [SEP] around texts.
        padding_side: where padding goes.
        seed: of the weights.
        changes: manifest fields to replace, by name; the fingerprint is made afterwards.

    Returns:
        The folder.

    Raises:
        ParamsError: an unknown kind.
    """
    if kind not in get_args(TinyKind):
        raise ParamsError(f"kind={kind!r} is not known; expected one of {', '.join(get_args(TinyKind))}")
    if kind == "llm_reranker":
        special_tokens, padding_side = False, "left"
    made = TinyBundle(
        kind=kind,
        pooling=tuple(pooling),
        with_dense=with_dense or kind == "late_interaction",
        special_tokens=special_tokens,
        padding_side=padding_side,
        seed=seed,
    )
    target = Path(folder)
    contents, manifest = made.files(), made.manifest()
    for name, content in contents.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    records = {
        name: FileRecord(size_bytes=len(content), sha256=sha256_file(target / name))
        for name, content in contents.items()
    }
    manifest = msgspec.structs.replace(manifest, files=records)
    manifest = msgspec.structs.replace(manifest, **(changes or {}))
    manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
    (target / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
    return target


def assert_embeddings_close(actual: npt.ArrayLike, expected: npt.ArrayLike, atol: float = 1e-5) -> None:
    """Compare two sets of embeddings component by component.

    Args:
        actual: (num_prompts, dim) or (dim,).
        expected: of the same shape.
        atol: largest absolute difference allowed.

    Raises:
        AssertionError: shapes differ, or a component does; names the worst row, its largest difference and its cosine.
    """
    a, e = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (actual, expected))
    if a.shape != e.shape:
        raise AssertionError(f"embeddings have shape {a.shape}, expected {e.shape}")
    # NaN compares as a difference without limit
    diffs = np.nan_to_num(np.abs(a - e), nan=np.inf).max(axis=1, initial=0.0)
    if (diffs <= atol).all():
        return
    worst = int(diffs.argmax())
    norms = float(np.linalg.norm(a[worst]) * np.linalg.norm(e[worst]))
    cosine = float(a[worst] @ e[worst]) / norms if norms else float("nan")
    raise AssertionError(
        f"{int((diffs > atol).sum())} of {len(a)} embeddings differ by more than {atol:g}; the worst is row {worst}: "
        f"largest absolute difference {diffs[worst]:.3g}, cosine {cosine:.6f}"
    )
