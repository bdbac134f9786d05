"""Ask a model the built-in texts through the SDK as a user would, and a reference the same for comparison."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from embedge import EdgeModel, PoolingParams
from embedge.manifest import Manifest
from embedge.types import FloatArray
from embedge_export.progress import PromptBar, part, tracked
from embedge_export.texts.graded_pairs import GRADED_PAIRS
from embedge_export.texts.retrieval import JUDGED_DOCUMENTS
from embedge_export.verify.numbers import largest_difference
from embedge_export.verify.questions import Prompt, Questions, main_prompts
from embedge_export.verify.reference import Reference, finish

_REFERENCE_TEXTS = 32
_ALONE = 12
_LATENCY_RUNS = 15
SPEED_RUNS = 5
"""Parts of the questions that are timed apart; what is shown is the median."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a variant answered on the machine of the export.

    Attributes:
        load_s: from opening the bundle to the first answer; None where it was open already.
        query_ms: median time of one short text.
        texts_per_s, tokens_per_s: of documents in one call, special tokens included.
        threads: processors used.
    """

    query_ms: float
    texts_per_s: float
    tokens_per_s: float
    threads: int
    load_s: float | None = None


class Answers(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What was answered.

    Attributes:
        rows: one per text or pair, in the order of Questions; of token classifiers all tokens' rows. From a
            reference only the first few.
        max_batch_diff: largest difference between a text alone and in a batch; 0 for a reference.
        timing: None for a reference.
    """

    rows: FloatArray
    max_batch_diff: float = 0.0
    timing: Timing | None = None


def ask(model: EdgeModel, asked: Questions, load_s: float | None = None) -> Answers:
    """Have a variant answer, and time it.

    Args:
        model: the bundle, opened with one variant.
        asked: the questions.
        load_s: what opening it took.

    Raises:
        EmbedgeError: it cannot answer.
    """
    main = main_prompts(asked)
    answer = _Answerer(model, asked)
    answer(main[:1])
    short = asked.texts.queries[:1] if asked.comparison == "embed" else main[:1]
    latencies = []
    for _ in range(_LATENCY_RUNS):
        start_s = time.perf_counter()
        answer(short)
        latencies.append(time.perf_counter() - start_s)
    pieces, total_tokens, speeds = [], 0, []
    with part(0.0, 0.5):
        for piece in tracked(_pieces(main)):
            start_s = time.perf_counter()
            piece_rows, num_tokens = answer(piece, use_tqdm=PromptBar)
            speeds.append(num_tokens / (time.perf_counter() - start_s))
            pieces.append(piece_rows)
            total_tokens += num_tokens
    rows = np.concatenate(pieces)
    tokens_per_s = float(np.median(speeds))
    # lengths from short to long: a text's neighbours then differ most from it
    by_length = sorted(range(len(main)), key=lambda index: len("".join(main[index])))
    many = _ALONE if len(main) < JUDGED_DOCUMENTS else len(main) // 10
    picked = [main[i] for i in by_length[:: max(1, len(main) // many)]]
    together = answer(picked)[0]
    with part(0.5, 0.7):
        alone = np.concatenate([answer([prompt])[0] for prompt in tracked(picked)])
    others = [answer(asked.others)[0]] if asked.others else []
    if asked.comparison == "embed":
        with part(0.7, 1.0):
            rest = [answer(asked.texts.queries, asked.query_prompt, use_tqdm=PromptBar)[0], *others]
        rest += [answer([(left, right)[side] for left, right, _ in GRADED_PAIRS], None)[0] for side in (0, 1)]
        rows = np.concatenate([rows, *rest])
    else:
        rows = np.concatenate([rows, *others])
    return Answers(
        rows=rows,
        max_batch_diff=largest_difference(alone, together),
        timing=Timing(
            query_ms=float(np.median(latencies)) * 1e3,
            texts_per_s=tokens_per_s * len(main) / total_tokens,
            tokens_per_s=tokens_per_s,
            threads=model.info.threads,
            load_s=load_s,
        ),
    )


def _pieces(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Prompts in so many runs that the speed of each can be told, in order; their lengths differ, so tokens count."""
    size = -(-len(prompts) // SPEED_RUNS)
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def ask_reference(reference: Reference, manifest: Manifest, asked: Questions) -> Answers | None:
    """Have a reference answer the first few questions in float32, one by one.

    Returns:
        None where it cannot be asked the same way: stored prompts that the pooling leaves out, or that are part of a
        message.
    """
    prefix = "" if asked.document_prompt is None else manifest.prompts[asked.document_prompt]
    if prefix and manifest.pooling is not None and not manifest.pooling.include_prompt:
        return None
    if prefix and manifest.message is not None:
        return None
    inputs: list[tuple[str, str | None]] = [
        (prefix + prompt, None) if isinstance(prompt, str) else prompt
        for prompt in main_prompts(asked)[:_REFERENCE_TEXTS]
    ]
    rows = []
    for answer in reference.answers(inputs):
        if answer is None:
            return None
        raw = np.atleast_2d(answer[asked.task])
        finished = finish(raw, manifest, asked.comparison, reference.computation, asked.task)
        rows.append(_means([finished]) if asked.task == "token_embed" else finished)
    return Answers(rows=np.concatenate(rows))


class _Answerer:
    """One way to call the model, whatever its task: prompts in, rows and the number of tokens out."""

    def __init__(self, model: EdgeModel, asked: Questions) -> None:
        self._model = model
        self._asked = asked
        self._params = PoolingParams(truncate_prompt_tokens=-1)

    def __call__(
        self,
        prompts: Sequence[Prompt],
        prompt_name: str | None = "",
        use_tqdm: Literal[False] | type[PromptBar] = False,
    ) -> tuple[FloatArray, int]:
        if self._asked.comparison == "score":
            queries, documents = ([prompt[side] for prompt in prompts] for side in (0, 1))
            scores = self._model.score(queries, documents, pooling_params=self._params, use_tqdm=use_tqdm)
            return scores.numpy()[:, None], sum(len(output.prompt_token_ids) for output in scores)
        name = self._asked.document_prompt if prompt_name == "" else prompt_name
        outputs = self._model.encode(
            [str(prompt) for prompt in prompts],
            self._params,
            pooling_task=self._asked.task,
            prompt_name=name,
            prompt="" if name is None else None,
            use_tqdm=use_tqdm,
        )
        rows = outputs.numpy()
        num_tokens = sum(len(output.prompt_token_ids) for output in outputs)
        if isinstance(rows, np.ndarray):
            return rows, num_tokens
        if self._asked.comparison == "embed":
            return _means(rows), num_tokens
        return np.concatenate(rows), num_tokens


def _means(rows: Sequence[FloatArray]) -> FloatArray:
    """One row per text for models that only give rows of tokens."""
    return np.stack([tokens.mean(axis=0) for tokens in rows])
