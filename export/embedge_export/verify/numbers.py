"""Compare a written bundle with the reference, through the public SDK; nothing passes by default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedge import EdgeModel
from embedge.errors import EmbedgeError, VerificationError
from embedge.manifest import Fidelity, Probe, load_manifest
from embedge.types import FloatArray, Task
from embedge.verify import raw_params
from embedge_export.memory import given_back
from embedge_export.progress import part, tracked
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.texts.built_in import PAIRS, PROBE_PAIRS, PROBES, TEXTS, steps
from embedge_export.verify.reference import Reference, TaskAnswers

FP32_PROBE_FACTOR = 10
"""Other CPUs add in another order: float32 probes may differ there by ten times what the gate allows here."""

PROBE_MARGIN = 1.5
"""Probes of a compressed graph may differ on another CPU by half as much again as they do here."""

_AGAIN = 8
"""Of texts that were asked alone for one task, every so manyth is for the next one."""

_BATCH_TOKENS = (512, 8192)
"""Tokens of a batch, padding included: twice the longest text that a model takes, but no fewer and no more."""
_PARTED_CHARS = (100, 2000)
_MOST_PARTED = 8
"""Texts of such a length that are asked in two parts."""
_DIGITS = 7
_PROBE_VALUES = 20_000
_FEW_PROBES = 2


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A text or pair, and what the reference answers.

    Attributes:
        prompt: the text, or the query of a pair.
        document: second side of a pair.
        expected: the reference's answers by task.
    """

    prompt: str
    expected: TaskAnswers
    document: str | None = None


Inputs = list[tuple[str, str | None]]


def built_in_inputs(checkpoint: Checkpoint) -> tuple[Inputs, Inputs]:
    """Texts and pairs that suit a checkpoint: those to verify it with, and a few for its probes."""
    texts: Inputs = [(text, None) for text in TEXTS]
    probes: Inputs = [(text, None) for text in PROBES]
    match checkpoint.facts.inputs:
        case "pairs":
            return [*PAIRS], [*PROBE_PAIRS]
        case "texts and pairs":
            return [*texts, *PAIRS], [*probes, *PROBE_PAIRS]
        case "steps" if checkpoint.step_tag is not None:
            chains: Inputs = [(text, None) for text in steps(checkpoint.step_tag)]
            return chains, chains[-5:]
    return texts, probes


def make_cases(reference: Reference, inputs: Inputs, known: Sequence[Case] = ()) -> list[Case]:
    """Answer texts and pairs with the reference, but those that are known; what has not a single token is left out."""
    answered = {(case.prompt, case.document): case for case in known}
    asked = [each for each in inputs if each not in answered]
    for (prompt, document), expected in zip(asked, reference.answers(asked), strict=True):
        if expected is not None:
            case = Case(prompt=prompt, document=document, expected=expected)
            answered[prompt, document] = case
    return [answered[each] for each in inputs if each in answered]


def make_probes(cases: Sequence[Case]) -> tuple[Probe, ...]:
    """Turn cases into probes, with seven significant digits.

    Of large answers only the smallest few are kept, so that probes.json stays small beside the graph.
    """
    return tuple(
        Probe(
            task=task,
            prompt=case.prompt,
            document=case.document,
            expected=tuple(float(f"{value:.{_DIGITS}g}") for value in case.expected[task].ravel().tolist()),
        )
        for task in dict.fromkeys(task for case in cases for task in case.expected)
        for case in _few(cases, task)
    )


def largest_expected(probes: Sequence[Probe]) -> float:
    """Largest absolute value of all that probes expect."""
    return max((abs(x) for probe in probes for x in probe.expected), default=0.0)


def fp32_probe_tolerance(checkpoint: Checkpoint, largest: float) -> float:
    """Largest absolute difference that float32 probes may have elsewhere, whose largest value is given."""
    return float(f"{checkpoint.family.max_abs_diff * FP32_PROBE_FACTOR * max(1.0, largest):.3g}")


def _few(cases: Sequence[Case], task: Task) -> list[Case]:
    answered = [case for case in cases if task in case.expected]
    if sum(case.expected[task].size for case in answered) <= _PROBE_VALUES:
        return answered
    return sorted(answered, key=lambda case: case.expected[task].size)[:_FEW_PROBES]


@given_back()
def verify_variant(
    folder: Path,
    variant: str,
    cases: Sequence[Case],
    gate: float,
    *,
    device: str = "cpu",
    in_proportion: bool = True,
) -> Fidelity:
    """Run every case through the SDK, alone and in batches of mixed lengths, and compare.

    Args:
        folder: the bundle.
        variant: which graph.
        cases: texts with the reference's answers.
        gate: largest absolute difference of any component.
        device: where to run it.
        in_proportion: the gate is that of answers up to 1, and larger in proportion to `magnitude`.

    Returns:
        The measured figures.

    Raises:
        VerificationError: the gate is missed, or the SDK refuses the bundle or a text.
    """
    tasks = list(dict.fromkeys(task for case in cases for task in case.expected))
    if not tasks:
        raise VerificationError(
            "there is nothing to verify: the tokenizer gives no token for any built-in text"
        )
    worst = batch_diff = 0.0
    cosines: list[float] = []
    try:
        tokens = _batch_tokens(load_manifest(folder).max_seq_len)
        with EdgeModel(folder, device=device, variant=variant, max_batch_tokens=tokens) as model:
            for task in tracked(tasks):
                asked = [case for case in cases if task in case.expected]
                typical = typical_magnitude([case.expected[task] for case in asked])
                with part(0.0, 0.6):
                    alone = {
                        index: _run(model, task, [asked[index]])[0] for index in tracked(_alone(asked, task))
                    }
                batched = _run(model, task, asked)
                parted = _run_parted(model, task, asked)
                for index, case in enumerate(asked):
                    expected = case.expected[task]
                    diff = max(
                        largest_difference(rows, expected)
                        for rows in (
                            batched[index],
                            *(some[index] for some in (alone, parted) if index in some),
                        )
                    )
                    allowed = gate * (magnitude(expected, typical) if in_proportion else 1.0)
                    if not diff <= allowed:
                        raise VerificationError(_message(variant, task, index, case, diff, allowed))
                    worst = max(worst, diff)
                    if index in alone:
                        batch_diff = max(batch_diff, largest_difference(alone[index], batched[index]))
                if task == "embed":
                    cosines = [
                        _cosine(row, case.expected[task]) for row, case in zip(batched, asked, strict=True)
                    ]
    except VerificationError:
        raise
    except EmbedgeError as error:
        raise VerificationError(f"variant {variant} could not be verified: {error}") from error
    return Fidelity(
        num_texts=len(cases),
        max_abs_diff=worst,
        max_batch_diff=batch_diff,
        cosine_min=min(cosines) if cosines else None,
        cosine_mean=sum(cosines) / len(cosines) if cosines else None,
    )


def _alone(cases: Sequence[Case], task: Task) -> list[int]:
    """Which cases a task is asked alone: a few of those that another task was asked alone before.

    Until the heads, both are the same graph, and what a task makes of every text is seen in the batch.
    """
    seen_before = [index for index, case in enumerate(cases) if next(iter(case.expected)) != task]
    again = set(seen_before[::_AGAIN])
    return [index for index in range(len(cases)) if index in again or index not in seen_before]


def _batch_tokens(max_seq_len: int) -> int:
    fewest, most = _BATCH_TOKENS
    return min(most, max(fewest, 2 * max_seq_len))


def typical_magnitude(answers: Sequence[NDArray[np.floating[Any]]]) -> float:
    """The median of the largest numbers of several texts' answers to one task."""
    return float(np.median([np.abs(answer).max(initial=0.0) for answer in answers])) if answers else 0.0


def magnitude(answer: NDArray[np.floating[Any]], typical: float) -> float:
    """What a gate grows with: rounding is worth as much more as the numbers are larger that are added.

    These are not smaller where they cancel: a logit near 0 is what is left of terms as large as those of other texts,
    so that at least a typical text's answer counts.

    Args:
        answer: the text's own, of any shape.
        typical: see `typical_magnitude`.
    """
    return max(1.0, typical, float(np.abs(answer).max(initial=0.0)))


def _run(model: EdgeModel, task: Task, cases: Sequence[Case]) -> Sequence[FloatArray]:
    params = raw_params(task, model.manifest)
    if task == "score":
        documents = [case.document or "" for case in cases]
        scores = model.score([case.prompt for case in cases], documents, pooling_params=params)
        return [output.outputs.data for output in scores]
    prompts = [
        case.prompt if case.document is None else {"text": case.prompt, "text_pair": case.document}
        for case in cases
    ]
    return list(model.encode(prompts, params, pooling_task=task, prompt="").numpy())


def _run_parted(model: EdgeModel, task: Task, cases: Sequence[Case]) -> dict[int, FloatArray]:
    """Some texts whose first half is given as a prompt, where that is computed apart: the text is the same."""
    if task != "embed" or not model.info.prefix_cache_bytes or model.manifest.message is not None:
        return {}
    shortest, longest = _PARTED_CHARS
    chosen = [
        index
        for index, case in enumerate(cases)
        if case.document is None and shortest <= len(case.prompt) <= longest
    ]
    params, rows = raw_params(task, model.manifest), {}
    for index in chosen[:_MOST_PARTED]:
        text = cases[index].prompt
        head, tail = text[: len(text) // 2], text[len(text) // 2 :]
        rows[index] = model.embed([tail], pooling_params=params, prompt=head).numpy()[0]
    return rows


def largest_difference(actual: FloatArray, expected: FloatArray) -> float:
    """Largest absolute difference of any number; infinite where the shapes differ, 0 where there are no numbers."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max(initial=0.0))


def _cosine(a: FloatArray, b: FloatArray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    if not x.any() and not y.any():
        return 1.0  # a text of unknown words alone, to both
    # rounding may carry a cosine above 1
    return min(1.0, float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-300)))


def _message(variant: str, task: Task, index: int, case: Case, diff: float, gate: float) -> str:
    start = case.prompt if len(case.prompt) <= 40 else case.prompt[:37] + "..."
    return (
        f"variant {variant} is not the checkpoint: task {task}, built-in text {index} ({start!r}) differs from "
        f"the float32 reference by {diff:.3g}; expected at most {gate:.2g}. Nothing was written. "
        "Please report this with the model's name."
    )
