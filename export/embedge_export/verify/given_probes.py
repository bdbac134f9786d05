"""`--probes FILE`: answers that someone else computed, in place of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from embedge import EdgeModel
from embedge.errors import EmbedgeError, ExportError, VerificationError, expected_one_of
from embedge.manifest import Dtype, Fidelity, Probe, Probes
from embedge.types import FloatArray
from embedge.verify import raw_params
from embedge_export.precisions import STORED_AS
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.spec import expanded
from embedge_export.verify.numbers import Case, largest_difference

_TOKEN_TASKS = ("token_embed", "token_classify")


class TextProbe(msgspec.Struct, frozen=True, kw_only=True):
    """A text and its embedding as the model's own library returns it: prompt, modules and normalisation applied."""

    text: str
    embedding: tuple[float, ...]


class GivenProbes(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of probes holds: either texts with embeddings, or the content of a bundle's probes.json."""

    texts: tuple[TextProbe, ...] = ()
    probes: tuple[Probe, ...] = ()
    tolerances: dict[str, float] = msgspec.field(default_factory=dict)

    def tolerance(self, variant: str, dtype: Dtype) -> float:
        """Largest difference allowed: what the file states, else what suits the precision."""
        return self.tolerances.get(variant, STORED_AS[dtype].given_tolerance)


def read_probes(path: Path) -> GivenProbes:
    """Read a file of probes in either form.

    Raises:
        ExportError: it is not there, in neither form, or holds no probe.
    """
    try:
        data = expanded(path).read_bytes()
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}. Check --probes.") from error
    try:
        if data.lstrip()[:1] == b"[":
            given = GivenProbes(texts=tuple(msgspec.json.decode(data, type=list[TextProbe])))
        else:
            probes = msgspec.json.decode(data, type=Probes)
            given = GivenProbes(probes=probes.probes, tolerances=probes.tolerances)
    except ValueError as error:  # msgspec's errors, and wrong UTF-8
        raise ExportError(
            f'{path} is no file of probes: {error}; expected a list of {{"text": …, "embedding": […]}}, or '
            "the probes.json of a bundle"
        ) from error
    if not given.texts and not given.probes:
        raise ExportError(f"{path} holds no probe; expected at least one")
    return given


def as_cases(probes: Sequence[Probe], checkpoint: Checkpoint) -> list[Case]:
    """Probes in the form that verify_variant compares.

    Raises:
        ExportError: a probe is for a task or prompt that the checkpoint does not have.
    """
    cases = []
    for probe in probes:
        if probe.task not in checkpoint.tasks:
            raise ExportError(
                f"a probe is for the task {probe.task!r}; expected one of {', '.join(checkpoint.tasks)}. "
                "Pass probes of the same model."
            )
        if probe.prompt_name is not None and probe.prompt_name not in checkpoint.prompts:
            raise ExportError(
                f"a probe uses the prompt {probe.prompt_name!r}; "
                f"{expected_one_of(checkpoint.prompts, 'the checkpoint stores none')}"
            )
        expected = np.asarray(probe.expected, dtype=np.float32)
        if probe.task in _TOKEN_TASKS:
            size = len(checkpoint.head.labels) if checkpoint.head else checkpoint.embedding_size or 1
            expected = expected.reshape(-1, size) if expected.size % size == 0 else expected
        text = checkpoint.prompts.get(probe.prompt_name or "", "") + probe.prompt
        cases.append(Case(prompt=text, document=probe.document, expected={probe.task: expected}))
    return cases


def compare_embeddings(
    folder: Path, variant: str, given: Sequence[TextProbe], tolerance: float
) -> tuple[Fidelity, list[Case]]:
    """Compare a bundle's embeddings, alone and in a batch, with those of a file.

    Returns:
        The figures, and the bundle's own answers before cut and normalisation, for its probes.json.

    Raises:
        VerificationError: one differs by more than `tolerance`, or the bundle cannot answer.
    """
    texts = [probe.text for probe in given]
    try:
        with EdgeModel(folder, device="cpu", variant=variant, truncate_prompt_tokens=-1) as model:
            raw = raw_params("embed", model.manifest)
            batched = model.embed(texts).numpy()
            alone = [model.embed(text).numpy()[0] for text in texts]
            answers = list(model.encode(texts, raw, pooling_task="embed", prompt="").numpy())
    except EmbedgeError as error:
        raise VerificationError(f"variant {variant} could not be verified: {error}") from error
    worst = batch_diff = 0.0
    for index, probe in enumerate(given):
        expected = np.asarray(probe.embedding, dtype=np.float32)
        diff = max(largest_difference(alone[index], expected), largest_difference(batched[index], expected))
        if not diff <= tolerance:
            raise VerificationError(_message(variant, index, probe, alone[index], diff, tolerance))
        worst = max(worst, diff)
        batch_diff = max(batch_diff, largest_difference(alone[index], batched[index]))
    figures = Fidelity(num_texts=len(given), max_abs_diff=worst, max_batch_diff=batch_diff)
    pairs = zip(texts, answers, strict=True)
    return figures, [Case(prompt=text, expected={"embed": answer}) for text, answer in pairs]


def _message(
    variant: str, index: int, probe: TextProbe, actual: FloatArray, diff: float, tolerance: float
) -> str:
    if len(actual) != len(probe.embedding):
        what = f"has {len(probe.embedding)} components, the bundle's {len(actual)}"
    else:
        what = f"differs from the bundle's by {diff:.3g}; expected at most {tolerance:g}"
    return (
        f"variant {variant} does not agree with the probes: the embedding of text {index} ({probe.text[:40]!r}) "
        f"{what}. Check --pooling, --normalize and the default prompt. Nothing was written."
    )
