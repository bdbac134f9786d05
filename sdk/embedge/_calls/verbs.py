"""What the verbs of EdgeModel share: check a call, tokenise, compute, and number the outputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from embedge._calls.progress import Progress
from embedge._calls.request import (
    Call,
    Params,
    check_side,
    check_task,
    limits_of,
    refuse_pairs,
    resolve_all,
    stored_prompt,
)
from embedge._text.prompts import parse_prompts
from embedge._text.windows import cut_into_windows, join_windows, num_text_tokens
from embedge.errors import TaskNotSupportedError
from embedge.outputs import (
    ArrayOutputs,
    PoolingOutput,
    PoolingRequestOutput,
    RaggedOutputs,
    ScoringOutput,
    ScoringRequestOutput,
)
from embedge.params import ResolvedParams
from embedge.types import Compat, FloatArray, PairTruncation, ParsedPrompt, PromptInput, Side, Task

if TYPE_CHECKING:
    from embedge._calls.scoring import Scores
    from embedge._engine.engine import Engine

_TOKEN_TASKS = ("token_embed", "token_classify")
UseTqdm: TypeAlias = bool | Callable[..., Any]
Prompts: TypeAlias = PromptInput | Iterable[PromptInput]
Outputs: TypeAlias = PoolingRequestOutput[PoolingOutput]


class Verbs:
    """Answers checked calls; arguments are those of EdgeModel and its verbs.

    Args:
        engine: the loaded bundle.
        compat: vLLM's spelling.
        truncate: truncate_prompt_tokens of calls that leave it open.
    """

    def __init__(self, engine: Engine, compat: Compat, truncate: int | None) -> None:
        self.engine = engine
        self._manifest = engine.manifest
        self._compat: Compat = compat
        self._truncate = truncate
        self._lock = threading.Lock()
        self._num_requests = 0

    def prepare(
        self,
        texts: list[ParsedPrompt],
        pooling_params: Params,
        task: Task,
        prompt_name: str | None,
        prompt: str | None,
        truncate_prompt_tokens: int | None,
        truncation_side: Side | None,
        never_truncate: bool = False,
    ) -> Call:
        """Check a call against the bundle and tokenise its prompts."""
        task = check_task(self._manifest, task, self._compat)
        refuse_pairs(texts, task)
        params = resolve_all(pooling_params, task, len(texts), self.engine.model_config, self._compat)
        default = None if never_truncate else self._truncate
        encoded = self.engine.encode(
            texts,
            limits_of(params, truncate_prompt_tokens, default),
            truncation_side=check_side(truncation_side),
            stored_prompt=stored_prompt(self._manifest, prompt_name, prompt),
            with_offsets=task in _TOKEN_TASKS,
        )
        return Call(task=task, encoded=encoded, params=params, first_id=self._count(len(texts)))

    def encode(self, call: Call, use_tqdm: UseTqdm) -> ArrayOutputs[Outputs] | RaggedOutputs[Outputs]:
        """Pool for any task."""
        if call.task in _TOKEN_TASKS:
            return self._encode_tokens(call, use_tqdm)
        if call.task == "plugin":
            with Progress(len(call.encoded), use_tqdm, "plugin") as progress:
                arrays = self.engine.answerer.plugin_rows(call.encoded, call.params, progress.update)
            return RaggedOutputs(
                arrays, lambda i: PoolingRequestOutput(outputs=PoolingOutput(data=arrays[i]), **call.facts(i))
            )
        rows = self.rows(call, use_tqdm)
        return ArrayOutputs(
            rows, lambda i: PoolingRequestOutput(outputs=PoolingOutput(data=rows[i]), **call.facts(i))
        )

    def rows(self, call: Call, use_tqdm: UseTqdm) -> FloatArray | list[FloatArray]:
        """Embeddings, or probabilities: one row per prompt."""
        answerer = self.engine.answerer
        with Progress(len(call.encoded), use_tqdm, call.task) as progress:
            if call.task == "embed":
                return answerer.embeddings(call.encoded, call.params, progress.update)
            logits = answerer.logits(call.encoded, progress.update)
            # with compat="0.21", classify is also the name of a reranker's score
            scores = call.task == "score" or (self._compat == "0.21" and "score" in self._manifest.tasks)
            return answerer.probabilities(logits, call.params, for_score=scores)

    def embed_windows(
        self,
        prompts: Prompts,
        pooling_params: Params,
        prompt_name: str | None,
        prompt: str | None,
        use_tqdm: UseTqdm,
    ) -> tuple[Call, FloatArray | list[FloatArray]]:
        """Embed each prompt as the mean of its windows."""
        engine = self.engine
        check_task(self._manifest, "embed", self._compat)
        texts = parse_prompts(prompts)
        refuse_pairs(texts, "embed")
        params = resolve_all(pooling_params, "embed", len(texts), self.engine.model_config, self._compat)
        windows = cut_into_windows(
            engine.tokenizer, texts, stored_prompt(self._manifest, prompt_name, prompt)
        )
        with Progress(len(texts), use_tqdm, "embed") as progress:
            weights = [[num_text_tokens(engine.tokenizer, window) for window in parts] for parts in windows]
            rows = engine.answerer.window_embeddings(windows, weights, params, progress.update)
        joined = [join_windows(engine.tokenizer, parts) for parts in windows]
        return Call(task="embed", encoded=joined, params=params, first_id=self._count(len(texts))), rows

    def _encode_tokens(self, call: Call, use_tqdm: UseTqdm) -> RaggedOutputs[Outputs]:
        answerer = self.engine.answerer
        embeds = call.task == "token_embed"
        answer = answerer.token_embeddings if embeds else answerer.token_probabilities
        with Progress(len(call.encoded), use_tqdm, call.task) as progress:
            rows, positions = answer(call.encoded, call.params, progress.update)

        def make(i: int) -> Outputs:
            offsets = call.encoded[i].offsets
            kept = None if offsets is None else [offsets[k] for k in positions[i]]
            labels = None if embeds else self.labels(call.params[i])
            return PoolingRequestOutput(
                outputs=PoolingOutput(data=rows[i], offsets=kept, labels=labels), **call.facts(i)
            )

        return RaggedOutputs(rows, make)

    def score(
        self,
        data_1: Any,
        data_2: Any,
        pooling_params: Params,
        truncate_prompt_tokens: int | None,
        truncate: PairTruncation,
        instruction: str | None,
        prompt_names: tuple[str | None, str | None],
        use_tqdm: UseTqdm,
    ) -> tuple[Scores, int]:
        """Score pairs; the scores, and the request id of the first."""
        from embedge._calls.scoring import parse_pairs, score_pairs

        engine = self.engine
        task = self._scoring_task()
        queries, documents = parse_pairs(data_1, data_2)
        params = resolve_all(pooling_params, task, len(documents), self.engine.model_config, self._compat)
        with Progress(len(documents), use_tqdm, "score") as progress:
            scores = score_pairs(
                engine,
                queries,
                documents,
                params,
                limits_of(params, truncate_prompt_tokens, self._truncate),
                truncate=truncate,
                instruction=instruction,
                stored_prompts=(
                    stored_prompt(self._manifest, prompt_names[0], None),
                    stored_prompt(self._manifest, prompt_names[1], None),
                ),
                on_done=progress.update,
            )
        return scores, self._count(len(documents))

    def score_prompts(
        self, prompts: Prompts, pooling_params: Params, truncate_prompt_tokens: int | None, use_tqdm: UseTqdm
    ) -> ArrayOutputs[ScoringRequestOutput]:
        """Score pairs that are one text each."""
        from embedge._calls.scoring import score_encoded

        engine = self.engine
        task = self._scoring_task()
        if self._manifest.head is None or self._manifest.template is not None:
            raise TaskNotSupportedError(
                f"bundle {self._manifest.name!r} is no cross-encoder, so score(prompts=...) has no meaning for it; "
                "pass queries and documents as data_1 and data_2",
                task="score",
                tasks=self._manifest.tasks,
            )
        call = self.prepare(
            parse_prompts(prompts), pooling_params, task, None, None, truncate_prompt_tokens, None
        )
        with Progress(len(call.encoded), use_tqdm, "score") as progress:
            scores = score_encoded(engine, call.encoded, call.params, progress.update)
        return scoring_outputs(scores, call.first_id)

    def _scoring_task(self) -> Task:
        """The task whose parameters a score takes: the bundle's own way to compare two texts."""
        tasks = self._manifest.tasks
        if "score" in tasks:
            return "classify" if self._compat == "0.21" else "score"
        if "embed" in tasks:
            return "embed"
        if self._manifest.late_interaction is not None:
            return "token_embed"
        return check_task(self._manifest, "classify" if self._compat == "0.21" else "score", self._compat)

    def _count(self, num_prompts: int) -> int:
        with self._lock:
            first_id = self._num_requests
            self._num_requests += num_prompts
        return first_id

    def labels(self, params: ResolvedParams | None = None) -> tuple[str, ...]:
        """Names of the columns that the head, or these parameters, return."""
        labels = self._manifest.head.labels if self._manifest.head else ()
        if params is not None and params.returned_token_ids:
            return tuple(labels[i] if i < len(labels) else str(i) for i in params.returned_token_ids)
        return labels


def scoring_outputs(scores: Scores, first_id: int) -> ArrayOutputs[ScoringRequestOutput]:
    """Number scores as the verbs return them."""

    def make(i: int) -> ScoringRequestOutput:
        parts = scores.pairs[i]
        query = parts[0].num_truncated if len(parts) == 2 else parts[0].num_truncated_query
        total = sum(part.num_truncated for part in parts)
        return ScoringRequestOutput(
            request_id=str(first_id + i),
            outputs=ScoringOutput(data=scores.scores[i]),
            prompt_token_ids=[token_id for part in parts for token_id in part.token_ids],
            num_truncated_tokens=total,
            num_truncated_query_tokens=query,
            num_truncated_document_tokens=total - query,
        )

    return ArrayOutputs(scores.scores, make)
