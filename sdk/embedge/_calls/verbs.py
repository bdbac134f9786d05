"""The verbs of EdgeModel: check a call against the bundle, tokenise, compute, and number the outputs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from embedge._calls import answers
from embedge._calls.answers import PromptRows
from embedge._calls.leading import lead_of_prompts
from embedge._calls.naming import naming
from embedge._calls.options import (
    CallOptions,
    PairOptions,
    PooledOutput,
    Prompts,
    ShowOptions,
    as_count,
)
from embedge._calls.progress import ProgressBar
from embedge._calls.request import Call, check_task, named_tasks, refuse_pairs, stated_task
from embedge._calls.resolve import Resolving, limits_of, prompt_of
from embedge._calls.scoring import Scores, parse_pairs, score_encoded, score_pairs
from embedge._calls.sides import TextSide, on_side
from embedge._engine.engine import Engine
from embedge._engine.options import LoadOptions
from embedge._engine.tokenising import encode_prompts
from embedge._text.prompts import listed, parse_prompts
from embedge._text.templated_pairs import encode_template
from embedge._text.tokens import Encoded
from embedge._text.windows import cut_into_windows
from embedge.errors import ParamsError, PromptError, TaskNotSupportedError
from embedge.manifest import TemplateSpec
from embedge.outputs import (
    ArrayOutputs,
    ClassificationRequestOutput,
    EmbeddingRequestOutput,
    RaggedOutputs,
    RerankResult,
    ScoringRequestOutput,
    SparseEmbeddingRequestOutput,
)
from embedge.types import ParsedPrompt, Task

_TOKEN_TASKS = ("token_embed", "token_classify")


class Verbs:
    """Answers calls; arguments and errors are those of EdgeModel's verbs.

    Args:
        engine: the loaded bundle.
        options: with which it was loaded.

    Raises:
        ParamsError: the limit in tokens is not possible with this bundle, or the default task does not exist.
        TaskNotSupportedError: the bundle does not have the default task.
    """

    def __init__(self, engine: Engine, options: LoadOptions) -> None:
        engine.tokenizer.check_limit(options.truncate_prompt_tokens)
        self.engine = engine
        self._manifest = engine.manifest
        self._compat = options.compat
        self._truncate = options.truncate_prompt_tokens
        self._default_task = (
            named_tasks(self._manifest, self._compat)[0]
            if options.task is None
            else self._checked(options.task)
        )
        self._lock = threading.Lock()
        self._num_requests = 0
        self._resolving = Resolving(engine.model_config, options.compat)
        self._towers = {name: Verbs(tower, options) for name, tower in engine.towers.items()}

    def of(self, tower: str | None) -> Verbs:
        """What answers for a tower; None stands for the one that the bundle names."""
        self.engine.of(tower)  # raises where there is none
        return self._towers.get(tower or "", self)

    def task(self, options: CallOptions) -> Task:
        """The task that a call of `encode` or `stream` asks for."""
        return self._checked(
            options.pooling_task or stated_task(options.pooling_params) or self._default_task
        )

    def prepare(
        self, prompts: list[ParsedPrompt], task: Task, options: CallOptions, first_id: int | None = None
    ) -> Call:
        """Check a call against the bundle and tokenise its prompts.

        Args:
            prompts: parsed.
            task: what is asked.
            options: of the call.
            first_id: request id of the first prompt; None counts on.
        """
        task = self._checked(task)
        refuse_pairs(prompts, task)
        params = self._resolving.all(options.pooling_params, task, len(prompts))
        limits = limits_of(params, options.limit(self._truncate))
        template = self._manifest.template
        pairs = [each for each in prompts if isinstance(each, tuple)] if template is not None else []
        if template is not None and pairs:
            encoded: Sequence[Encoded] = self._templated(template, pairs, len(prompts), limits)
        else:
            encoded = encode_prompts(
                self.engine,
                prompts,
                limits,
                truncation_side=options.truncation_side,
                stored_prompt=prompt_of(self._manifest, options),
                with_offsets=task in _TOKEN_TASKS,
            )
        first_id = self._count(len(prompts)) if first_id is None else first_id
        lead = lead_of_prompts(self.engine, prompts, options)
        return Call(task=task, encoded=encoded, params=params, first_id=first_id, lead=lead)

    def _templated(
        self,
        template: TemplateSpec,
        pairs: Sequence[tuple[str, str]],
        num_prompts: int,
        limits: Sequence[int | None],
    ) -> Sequence[Encoded]:
        """Pairs in the chat template that CrossEncoder puts them into, too."""
        if len(pairs) != num_prompts:
            raise PromptError(
                f"{len(pairs)} of {num_prompts} prompts are pairs, and bundle {self._manifest.name!r} puts pairs into "
                "a chat template; expected texts or pairs alone. Make a call for each."
            )
        queries, documents = zip(*pairs, strict=True)
        return encode_template(self.engine.tokenizer, template, queries, documents, limits)

    def encode(
        self, prompts: Prompts, options: CallOptions
    ) -> ArrayOutputs[PooledOutput] | RaggedOutputs[PooledOutput]:
        """Pool for any task."""
        task = self.task(options)
        return self.pooled(self.prepare(parse_prompts(prompts), task, options), options)

    def pooled(
        self, call: Call, shown: ShowOptions
    ) -> ArrayOutputs[PooledOutput] | RaggedOutputs[PooledOutput]:
        """Compute a call of `encode` or `stream`."""
        if call.task not in (*_TOKEN_TASKS, "plugin"):
            return answers.pooled_outputs(call, self._rows(call, shown))
        answerer = self.engine.answerer
        with ProgressBar(len(call.encoded), shown, call.task) as progress:
            if call.task == "plugin":
                arrays = answerer.plugin_rows(call.encoded, call.params, progress.update)
                return answers.plugin_outputs(call, arrays)
            embeds = call.task == "token_embed"
            answer = answerer.token_embeddings if embeds else answerer.token_probabilities
            rows, positions = answer(call.encoded, call.params, progress.update)
        return answers.token_outputs(call, rows, positions, self._manifest.head)

    def embed_side(
        self, prompts: Prompts, options: CallOptions, side: TextSide
    ) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed queries or documents."""
        verbs = self.of(self._manifest.tower_for(side))
        return verbs.embed(prompts, on_side(verbs._manifest, side, options))

    def embed(self, prompts: Prompts, options: CallOptions) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed prompts."""
        if options.long_text == "mean":
            return answers.embedding_outputs(*self._embed_windows(prompts, options))
        call = self.prepare(parse_prompts(prompts), "embed", options)
        return answers.embedding_outputs(call, self._rows(call, options))

    def embed_sparse(
        self, prompts: Prompts, options: CallOptions
    ) -> RaggedOutputs[SparseEmbeddingRequestOutput]:
        """Embed prompts as terms and weights."""
        manifest = self._manifest
        if not manifest.sparse:
            raise TaskNotSupportedError(
                f"bundle {manifest.name!r} has dense embeddings; embed_sparse needs a SPLADE bundle. Use embed.",
                task="embed",
                tasks=manifest.tasks,
            )
        call = self.prepare(parse_prompts(prompts), "embed", options)
        with ProgressBar(len(call.encoded), options, "embed") as progress:
            terms = self.engine.answerer.sparse(call.encoded, progress.update)
        return answers.sparse_outputs(call, terms, manifest.vocab_size)

    def classify(self, prompts: Prompts, options: CallOptions) -> ArrayOutputs[ClassificationRequestOutput]:
        """Classify prompts."""
        call = self.prepare(parse_prompts(prompts), "classify", options)
        return answers.classification_outputs(call, self._rows(call, options), self._manifest.head)

    def score(
        self, data_1: Any, data_2: Any, prompts: Prompts | None, options: PairOptions
    ) -> ArrayOutputs[ScoringRequestOutput]:
        """Score pairs."""
        if prompts is None:
            return answers.scoring_outputs(*self._scores(data_1, data_2, options))
        if data_1 is not None or data_2 is not None:
            raise ParamsError("prompts and data_1, data_2 are both given; expected one or the other")
        return answers.scoring_outputs(*self._scores_of_prompts(prompts, options))

    def rerank(
        self, query: Any, documents: Iterable[str], top_n: Any, options: PairOptions
    ) -> list[RerankResult]:
        """Rank documents."""
        if top_n is not None:
            top_n = as_count(top_n, "top_n")
        if not isinstance(query, str):
            raise PromptError(f"query is a {type(query).__name__}; expected one text")
        if isinstance(documents, str):
            raise PromptError("documents is one text; expected a list of texts")
        documents = listed(documents, "documents", "expected a list of texts")
        if not documents:
            return []
        scores, _ = self._scores(query, documents, options)
        return answers.ranking(scores, documents, top_n)

    def _rows(self, call: Call, shown: ShowOptions) -> PromptRows:
        """Embeddings, or probabilities: one row per prompt."""
        answerer = self.engine.answerer
        with ProgressBar(len(call.encoded), shown, call.task) as progress:
            if call.task == "embed":
                return answerer.embeddings(call.encoded, call.params, progress.update, call.lead)
            logits = answerer.logits(call.encoded, progress.update, call.lead)
            # with compat="0.21", classify is also the name of a reranker's score
            scores = call.task == "score" or (self._compat == "0.21" and "score" in self._manifest.tasks)
            return answerer.probabilities(logits, call.params, for_score=scores)

    def _embed_windows(self, prompts: Prompts, options: CallOptions) -> tuple[Call, PromptRows]:
        """Embed each prompt as the mean of its windows."""
        task = self._checked("embed")
        texts = parse_prompts(prompts)
        refuse_pairs(texts, task)
        params = self._resolving.all(options.pooling_params, task, len(texts))
        before = prompt_of(self._manifest, options)
        windows = cut_into_windows(self.engine.tokenizer, texts, before)
        with ProgressBar(len(texts), options, task) as progress:
            weights = [each.num_text_tokens for each in windows]
            parts = [each.parts for each in windows]
            texts_of_parts = [i for i, some in enumerate(parts) for _ in some]
            with naming(position=texts_of_parts.__getitem__):
                rows = self.engine.answerer.window_embeddings(parts, weights, params, progress.update)
        joined = [each.joined() for each in windows]
        return Call(task=task, encoded=joined, params=params, first_id=self._count(len(texts))), rows

    def _scores(self, data_1: Any, data_2: Any, options: PairOptions) -> tuple[Scores, int]:
        """Score pairs; the scores, and the request id of the first."""
        task = self._scoring_task()
        queries, documents = parse_pairs(data_1, data_2)
        params = self._resolving.all(options.pooling_params, task, len(documents))
        limits = limits_of(params, options.limit(self._truncate))
        with ProgressBar(len(documents), options, "score") as progress:
            scores = score_pairs(self.engine, queries, documents, params, limits, options, progress.update)
        return scores, self._count(len(documents))

    def _scores_of_prompts(self, prompts: Prompts, options: PairOptions) -> tuple[Scores, int]:
        """Score pairs that are one text each; the scores, and the request id of the first."""
        task, manifest = self._scoring_task(), self._manifest
        if manifest.head is None or manifest.template is not None:
            raise TaskNotSupportedError(
                f"bundle {manifest.name!r} is no cross-encoder, so score(prompts=...) has no meaning for it; "
                "pass queries and documents as data_1 and data_2",
                task="score",
                tasks=manifest.tasks,
            )
        as_texts = CallOptions(
            pooling_params=options.pooling_params, truncate_prompt_tokens=options.truncate_prompt_tokens
        )
        call = self.prepare(parse_prompts(prompts), task, as_texts)
        with ProgressBar(len(call.encoded), options, "score") as progress:
            scores = score_encoded(self.engine, call.encoded, call.params, progress.update)
        return scores, call.first_id

    def _scoring_task(self) -> Task:
        """The task whose parameters a score takes: the bundle's own way to compare two texts."""
        tasks = self._manifest.tasks
        scoring: Task = "classify" if self._compat == "0.21" else "score"
        if "score" in tasks:
            return scoring
        if "embed" in tasks:
            return "embed"
        if self._manifest.late_interaction is not None:
            return "token_embed"
        return self._checked(scoring)

    def _checked(self, task: Any) -> Task:
        return check_task(self._manifest, task, self._compat)

    def _count(self, num_prompts: int) -> int:
        """Reserve as many request ids; the first."""
        with self._lock:
            first_id = self._num_requests
            self._num_requests += num_prompts
        return first_id
