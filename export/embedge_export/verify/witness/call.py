"""Call the witness, and compare what it says with what the bundle answers.

What the export read from the checkpoint's files is not used here: the library reads the folder itself, as it does for
its users. So this finds what a reference that shares our reading cannot find.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from embedge import EdgeModel
from embedge.errors import EmbedgeError, VerificationError
from embedge.manifest import WitnessRecord
from embedge_export.source.checkpoint import Checkpoint, weight_sizes
from embedge_export.source.libraries import is_light
from embedge_export.spec import ExportSpec
from embedge_export.threads import one_thread
from embedge_export.verify.numbers import magnitude, typical_magnitude
from embedge_export.verify.witness.by_door import questions
from embedge_export.verify.witness.library import Door, find_doors, open_door, silent
from embedge_export.verify.witness.question import Both, Question

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_LIMIT = -1
"""truncate_prompt_tokens: cut at the model's limit, as the libraries do."""

_ROOM = 2
"""The bundle may be as far from torch as the family's gate, and the library as far again: it asks torch with another
attention kernel than the reference, and with other threads."""

_SMALL_BYTES = 400e6
"""Up to the weights of BERT-base, one thread is the fastest for texts as short as these."""


def call_witness(
    folder: Path, checkpoint: Checkpoint, spec: ExportSpec, variant: str = "fp32"
) -> WitnessRecord:
    """Ask the checkpoint's own library and the bundle's float32 graph the same texts, and compare.

    Args:
        folder: the bundle.
        checkpoint: where the library finds the checkpoint, and what kind it is.
        spec: what the caller stated against the checkpoint's files.
        variant: a float32 graph.

    Returns:
        What was asked and how close the answers are; or why nobody was asked.

    Raises:
        VerificationError: the bundle answers otherwise, or not at all.
    """
    if not spec.witness:
        return WitnessRecord(reason="left out by --no-witness")
    doors = find_doors(checkpoint, spec)
    door = next((door for door in doors if door.versions), None)
    if door is None:
        missing = " or ".join(dict.fromkeys(door.package for door in doors))
        return WitnessRecord(
            reason=f"{missing} is not installed"
            if doors
            else f"no library has a public door to this {checkpoint.kind.replace('_', ' ')}"
        )
    if is_light(spec) and door.needs_torch:
        asked_for = spec.reference == "numpy"
        return WitnessRecord(
            reason="left out by --reference numpy"
            if asked_for
            else f"{door.package} needs torch and transformers, which are not both installed"
        )
    with (
        silent(door),
        EdgeModel(folder, device="cpu", variant=variant, truncate_prompt_tokens=_LIMIT) as model,
    ):
        try:
            library = open_door(door, checkpoint, spec, model.info.max_seq_len)
        except (
            Exception
        ) as error:  # whatever a library of another version, or a checkpoint's own code, may raise
            return WitnessRecord(
                versions=door.versions, door=door.name, reason=_cannot("load it", door, error)
            )
        both = Both(door=door, library=library, model=model, checkpoint=checkpoint, spec=spec)
        return _ask(both, checkpoint.family.max_abs_diff * _ROOM)


def _ask(both: Both, gate: float) -> WitnessRecord:
    worst, asked = 0.0, []
    reason = None
    small = sum(weight_sizes(both.checkpoint).values()) <= _SMALL_BYTES
    for question in questions(both):
        try:
            with one_thread() if small else contextlib.nullcontext():
                expected = [np.asarray(row, dtype=np.float64) for row in question.library()]
        except Exception as error:  # as when it is loaded
            reason = _cannot(f"answer ({question.words})", both.door, error)
            break
        worst = max(worst, _difference(question, expected, gate, both.door))
        asked.append(question.words)
    return WitnessRecord(
        versions=both.door.versions,
        door=both.door.name,
        asked=tuple(asked),
        max_abs_diff=worst,
        reason=reason,
    )


def _difference(question: Question, expected: Sequence[Rows], gate: float, door: Door) -> float:
    try:
        actual = [np.asarray(row, dtype=np.float64) for row in question.bundle()]
    except EmbedgeError as error:
        raise VerificationError(
            f"the bundle cannot answer what {door.package}'s {door.name} answers ({question.words}): {error} "
            "Nothing was written."
        ) from error
    worst, typical = 0.0, typical_magnitude(expected)
    for index, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        what = f"the bundle is not the checkpoint: {question.words}, answer {index}"
        if ours.shape != theirs.shape:
            raise VerificationError(
                f"{what} has the shape {ours.shape}; {door.package}'s {door.name} gives {theirs.shape}. {_ADVICE}"
            )
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        allowed = gate * magnitude(theirs, typical)
        if not difference <= allowed:
            raise VerificationError(
                f"{what} differs from that of {door.package}'s {door.name} by {difference:.3g}; expected at most "
                f"{allowed:.1g}. {_ADVICE}"
            )
        worst = max(worst, difference)
    return worst


_ADVICE = "Nothing was written. Please report this with the model's name."


def _cannot(what: str, door: Door, error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{door.package} {door.versions[door.package]} cannot {what}: {reason[:200]}"
