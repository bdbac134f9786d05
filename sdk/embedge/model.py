"""EdgeModel: a loaded bundle and its verbs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal

import msgspec

from embedge._answer import Answerer, pooling_modes
from embedge._forward import Forward
from embedge._progress import Progress
from embedge._session import Session, available_threads, find_device
from embedge._tokenize import Encoded, PromptTokenizer, parse_prompts
from embedge._types import Compat, FloatArray, PathLike, PromptInput, Side, Task
from embedge.bundle import Bundle, check_files, choose_variant, open_bundle
from embedge.errors import BundleError, ParamsError, SessionError, TaskNotSupportedError
from embedge.manifest import TOKENIZER_FILE, Manifest
from embedge.outputs import (
    ArrayOutputs,
    ClassificationOutput,
    ClassificationRequestOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    RaggedOutputs,
)
from embedge.params import COMPATS, TASKS, ModelConfig, PoolerConfig, PoolingParams, ResolvedParams, resolve

_DEFAULT_BATCH_TOKENS = 2048
UseTqdm = bool | Callable[..., Any]
Params = PoolingParams | Sequence[PoolingParams] | None


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded model runs as.

    Attributes:
        name: the bundle's name.
        tasks: what it can do.
        variant: graph that runs.
        variant_reason: why this one.
        device: where it runs.
        device_reason: why there.
        execution_provider: onnxruntime's name of that.
        threads: threads inside one run.
        max_seq_len: limit in tokens.
        embedding_size: components of a full embedding, or None.
        fingerprint: of the bundle.
    """

    name: str
    tasks: tuple[Task, ...]
    variant: str
    variant_reason: str
    device: str
    device_reason: str
    execution_provider: str
    threads: int
    max_seq_len: int
    embedding_size: int | None
    fingerprint: str


class EdgeModel:
    """A bundle that is loaded and answers; one object may serve many threads.

    Args:
        model: a bundle's folder, or its name in the local store. Never looked up on a network.
        task: task of `encode` where a call names none; None means the bundle's first.
        device: "cpu", "cuda", "cuda:N", or "auto", which says in `info` what it chose. "cuda" never falls back.
        variant: "fp32", "int8" … as listed by `embedge inspect`, or "auto".
        pooler_config: overrides the bundle's pooling defaults.
        truncate_prompt_tokens: default for all calls; see PoolingParams.
        compat: "0.13" or "0.21": which vLLM's spelling of PoolingParams is meant.
        threads: threads inside one run; None means all processors that this process may use.
        max_batch_tokens: padded tokens per run.
        max_model_len: a lower limit in tokens than the bundle's max_seq_len.
        verify_hashes: compare the files with the manifest's hashes while loading.
        runner: "auto" or "pooling", as in vLLM; there is no other runner here.

    Raises:
        BundleError: no bundle there, a manifest that cannot be used, or an altered file.
        ParamsError: an argument is out of range.
        ProviderUnavailableError: the device cannot be used.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        task: Task | None = None,
        device: str = "auto",
        variant: str = "auto",
        pooler_config: PoolerConfig | None = None,
        truncate_prompt_tokens: int | None = None,
        compat: Compat = "0.13",
        threads: int | None = None,
        max_batch_tokens: int = _DEFAULT_BATCH_TOKENS,
        max_model_len: int | None = None,
        verify_hashes: bool = True,
        runner: Literal["auto", "pooling"] = "auto",
    ) -> None:
        if str(runner) not in ("auto", "pooling"):
            raise ParamsError(
                f"runner={runner!r} is not possible; embedge only pools: expected 'auto' or 'pooling'"
            )
        if compat not in COMPATS:
            raise ParamsError(f"compat={compat!r} is not known; expected one of {', '.join(COMPATS)}")
        for name, value in (("threads", threads), ("max_batch_tokens", max_batch_tokens)):
            if value is not None and (type(value) is not int or value < 1):
                raise ParamsError(f"{name}={value!r} is out of range; expected an int >= 1")
        self._bundle = open_bundle(model)
        manifest = self._bundle.manifest
        self._compat = compat
        self._default_task = manifest.tasks[0] if task is None else self._check_task(task)
        self._model_config = _model_config(manifest, pooler_config)
        self._truncate = PoolingParams(truncate_prompt_tokens=truncate_prompt_tokens).truncate_prompt_tokens
        found = find_device(device)
        choice = choose_variant(manifest, variant, found.kind)
        num_threads = available_threads() if threads is None else threads
        self._tokenizer = PromptTokenizer(
            self._bundle.file(TOKENIZER_FILE),
            manifest.tokenizer,
            vocab_size=manifest.vocab_size,
            max_seq_len=_max_seq_len(manifest, max_model_len),
        )
        self._tokenizer.check_limit(self._truncate)
        checks = _FileChecks(self._bundle, self._bundle.variant_files(choice.name) if verify_hashes else [])
        try:
            session = Session(
                self._bundle.file(choice.spec.file),
                device=found,
                threads=num_threads,
                disabled_optimizers=choice.spec.disabled_optimizers,
            )
        finally:
            # a damaged file is reported as such, not as what onnxruntime makes of it
            checks.join()
        forward = Forward(session, manifest.tokenizer, manifest.graph.inputs, max_batch_tokens)
        self._answerer: Answerer | None = Answerer(self._bundle, forward, pooler_config)
        self._lock = threading.Lock()
        self._num_requests = 0
        self.info = ModelInfo(
            name=manifest.name,
            tasks=manifest.tasks,
            variant=choice.name,
            variant_reason=choice.reason,
            device=found.name,
            device_reason=found.reason,
            execution_provider=found.execution_provider,
            threads=num_threads,
            max_seq_len=self._tokenizer.max_seq_len,
            embedding_size=manifest.embedding_size,
            fingerprint=manifest.fingerprint,
        )

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._bundle.manifest

    @property
    def model_config(self) -> ModelConfig:
        """What `PoolingParams.verify` takes as model_config for this model; a copy."""
        return msgspec.convert(msgspec.to_builtins(self._model_config), ModelConfig)

    def encode(
        self,
        prompts: PromptInput | Iterable[PromptInput],
        pooling_params: Params = None,
        *,
        pooling_task: Task | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
    ) -> (
        ArrayOutputs[PoolingRequestOutput[PoolingOutput]] | RaggedOutputs[PoolingRequestOutput[PoolingOutput]]
    ):
        """Pool prompts for any task.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or a sequence of these.
            pooling_params: None, one for all prompts, or one per prompt.
            pooling_task: the task; None takes it from pooling_params, else from the model.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: for prompts whose pooling_params leave it open; see PoolingParams.
            truncation_side: side that truncation drops, against the rules of PoolingParams.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.

        Returns:
            One PoolingRequestOutput per prompt, in order; `.numpy()` gives the float32 arrays.

        Raises:
            TaskNotSupportedError: the bundle does not have the task.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; nothing was computed.
            SessionError: onnxruntime failed.
        """
        call = self._prepare(
            prompts,
            pooling_params,
            pooling_task,
            prompt_name,
            prompt,
            truncate_prompt_tokens,
            truncation_side,
        )
        if call.task in ("token_embed", "token_classify"):
            return self._encode_tokens(call, use_tqdm)
        rows = self._rows(call, use_tqdm)
        return ArrayOutputs(
            rows, lambda i: PoolingRequestOutput(outputs=PoolingOutput(data=rows[i]), **call.facts(i))
        )

    def embed(
        self,
        prompts: PromptInput | Iterable[PromptInput],
        *,
        pooling_params: Params = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
    ) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed prompts; arguments and errors are those of `encode`.

        Returns:
            One EmbeddingRequestOutput per prompt; `.numpy()` is float32 (num_prompts, dim).
        """
        call = self._prepare(
            prompts, pooling_params, "embed", prompt_name, prompt, truncate_prompt_tokens, truncation_side
        )
        rows = self._rows(call, use_tqdm)
        return ArrayOutputs(
            rows, lambda i: EmbeddingRequestOutput(outputs=EmbeddingOutput(data=rows[i]), **call.facts(i))
        )

    def classify(
        self,
        prompts: PromptInput | Iterable[PromptInput],
        *,
        pooling_params: Params = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
    ) -> ArrayOutputs[ClassificationRequestOutput]:
        """Classify prompts; arguments and errors are those of `encode`.

        Returns:
            One ClassificationRequestOutput per prompt; `.numpy()` is float32 (num_prompts, num_labels).
        """
        call = self._prepare(
            prompts, pooling_params, "classify", None, None, truncate_prompt_tokens, truncation_side
        )
        rows = self._rows(call, use_tqdm)
        labels = self._labels()
        return ArrayOutputs(
            rows,
            lambda i: ClassificationRequestOutput(
                outputs=ClassificationOutput(data=rows[i], labels=labels), **call.facts(i)
            ),
        )

    def close(self) -> None:
        """Free the graph's memory; a later call raises SessionError."""
        self._answerer = None

    def __enter__(self) -> EdgeModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EdgeModel({self.info.name!r}, variant={self.info.variant!r}, device={self.info.device!r})"

    def _prepare(
        self,
        prompts: PromptInput | Iterable[PromptInput],
        pooling_params: Params,
        pooling_task: Task | None,
        prompt_name: str | None,
        prompt: str | None,
        truncate_prompt_tokens: int | None,
        truncation_side: Side | None,
    ) -> _Call:
        """Check and tokenise everything before anything is computed."""
        answerer = self._open()
        texts = parse_prompts(prompts)
        task = self._task_of(pooling_task, pooling_params)
        params = self._resolve(pooling_params, task, len(texts))
        if truncation_side not in (None, "left", "right"):
            raise ParamsError(
                f"truncation_side={truncation_side!r} is not known; expected 'left', 'right' or None"
            )
        default = PoolingParams(truncate_prompt_tokens=truncate_prompt_tokens).truncate_prompt_tokens
        default = self._truncate if default is None else default
        encoded = self._tokenizer.encode(
            texts,
            [default if p.truncate_prompt_tokens is None else p.truncate_prompt_tokens for p in params],
            truncation_side=truncation_side,
            stored_prompt=self._stored_prompt(prompt_name, prompt),
            with_offsets=task in ("token_embed", "token_classify"),
        )
        return _Call(
            task=task, answerer=answerer, encoded=encoded, params=params, first_id=self._count(len(texts))
        )

    def _rows(self, call: _Call, use_tqdm: UseTqdm) -> FloatArray | list[FloatArray]:
        with Progress(len(call.encoded), use_tqdm, call.task) as progress:
            if call.task == "embed":
                return call.answerer.embeddings(call.encoded, call.params, progress.update)
            logits = call.answerer.logits(call.encoded, progress.update)
            return call.answerer.probabilities(logits, call.params, for_score=call.task == "score")

    def _encode_tokens(
        self, call: _Call, use_tqdm: UseTqdm
    ) -> RaggedOutputs[PoolingRequestOutput[PoolingOutput]]:
        embeds = call.task == "token_embed"
        answer = call.answerer.token_embeddings if embeds else call.answerer.token_probabilities
        with Progress(len(call.encoded), use_tqdm, call.task) as progress:
            rows, positions = answer(call.encoded, call.params, progress.update)

        def make(i: int) -> PoolingRequestOutput[PoolingOutput]:
            offsets = call.encoded[i].offsets
            kept = None if offsets is None else [offsets[k] for k in positions[i]]
            labels = None if embeds else self._labels(call.params[i])
            return PoolingRequestOutput(
                outputs=PoolingOutput(data=rows[i], offsets=kept, labels=labels), **call.facts(i)
            )

        return RaggedOutputs(rows, make)

    def _count(self, num_prompts: int) -> int:
        with self._lock:
            first_id = self._num_requests
            self._num_requests += num_prompts
        return first_id

    def _open(self) -> Answerer:
        if self._answerer is None:
            raise SessionError(f"the model {self.info.name!r} is closed; load it again with EdgeModel(...)")
        return self._answerer

    def _check_task(self, task: Any) -> Task:
        if task not in TASKS:
            raise ParamsError(f"task={task!r} is not known; expected one of {', '.join(TASKS)}")
        tasks = self.manifest.tasks
        if task not in tasks:
            raise TaskNotSupportedError(
                f"bundle {self.manifest.name!r} cannot {task}; its tasks are {', '.join(tasks)}. "
                "Use one of these, or a bundle exported for that task.",
                task=task,
                tasks=tasks,
            )
        known: Task = task
        return known

    def _task_of(self, pooling_task: Task | None, pooling_params: Params) -> Task:
        if pooling_task is not None:
            return self._check_task(pooling_task)
        several = pooling_params if isinstance(pooling_params, Sequence) else [pooling_params]
        stated = {p.task for p in several if isinstance(p, PoolingParams) and p.task is not None}
        if len(stated) > 1:
            raise ParamsError(
                f"pooling_params state different tasks {sorted(stated)}; one call answers one task: "
                "pass pooling_task, or make one call per task"
            )
        return self._check_task(stated.pop()) if stated else self._default_task

    def _resolve(self, pooling_params: Params, task: Task, num_prompts: int) -> list[ResolvedParams]:
        if pooling_params is None:
            pooling_params = PoolingParams()
        if isinstance(pooling_params, PoolingParams):
            return [resolve(pooling_params, task, self._model_config, compat=self._compat)] * num_prompts
        if not isinstance(pooling_params, Sequence):
            raise ParamsError(
                f"pooling_params is a {type(pooling_params).__name__}; expected PoolingParams, a list of them, or None"
            )
        if len(pooling_params) != num_prompts:
            raise ParamsError(
                f"{num_prompts} prompts and {len(pooling_params)} pooling_params; expected as many, or one for all"
            )
        for index, params in enumerate(pooling_params):
            if not isinstance(params, PoolingParams):
                raise ParamsError(
                    f"pooling_params[{index}] is a {type(params).__name__}; expected PoolingParams"
                )
        return [resolve(p, task, self._model_config, compat=self._compat) for p in pooling_params]

    def _stored_prompt(self, prompt_name: str | None, prompt: str | None) -> str:
        prompts = self.manifest.prompts
        if prompt_name is not None and prompt is not None:
            raise ParamsError("prompt_name and prompt are both given; expected one of them")
        if prompt is not None:
            if not isinstance(prompt, str):
                raise ParamsError(
                    f"prompt is a {type(prompt).__name__}; expected text to put before each text"
                )
            return prompt
        if prompt_name is None:
            default = self.manifest.default_prompt_name
            return prompts.get(default, "") if default else ""
        if prompt_name not in prompts:
            names = ", ".join(map(repr, prompts)) or "none"
            raise ParamsError(
                f"prompt_name={prompt_name!r} is not stored in bundle {self.manifest.name!r}; it has {names}. "
                "Pass the text itself as prompt=..."
            )
        return prompts[prompt_name]

    def _labels(self, params: ResolvedParams | None = None) -> tuple[str, ...]:
        labels = self.manifest.head.labels if self.manifest.head else ()
        if params is not None and params.returned_token_ids is not None:
            return tuple(labels[i] if i < len(labels) else str(i) for i in params.returned_token_ids)
        return labels


class _Call(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One call of a verb, checked and tokenised."""

    task: Task
    answerer: Answerer
    encoded: list[Encoded]
    params: list[ResolvedParams]
    first_id: int

    def facts(self, i: int) -> dict[str, Any]:
        """What every request output states of prompt i."""
        encoded = self.encoded[i]
        return {
            "request_id": str(self.first_id + i),
            "prompt_token_ids": encoded.token_ids,
            "num_truncated_tokens": encoded.num_truncated,
        }


class _FileChecks:
    """Hash checks on their own thread, while onnxruntime loads the same files."""

    def __init__(self, bundle: Bundle, names: list[str]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._check, args=(bundle, names), name="embedge-hash", daemon=True
        )
        self._thread.start()

    def _check(self, bundle: Bundle, names: list[str]) -> None:
        try:
            check_files(bundle, names)
        except (BundleError, OSError) as error:
            self._error = error

    def join(self) -> None:
        """Wait, and raise what was found."""
        self._thread.join()
        if self._error is not None:
            raise self._error


def _model_config(manifest: Manifest, override: PoolerConfig | None) -> ModelConfig:
    modes = pooling_modes(manifest, override)
    stored = manifest.pooling
    given = override or PoolerConfig()
    pooler_config = PoolerConfig(
        pooling_type=modes[0] if len(modes) == 1 else None,
        normalize=manifest.normalize if given.normalize is None else given.normalize,
        dimensions=given.dimensions,
        use_activation=given.use_activation,
        logit_bias=given.logit_bias,
    )
    if pooler_config.pooling_type == "STEP":
        columns = given.returned_token_ids or (stored.returned_token_ids if stored else None)
        pooler_config.returned_token_ids = None if columns is None else list(columns)
        pooler_config.step_tag_id = given.step_tag_id
        if given.step_tag_id is None and stored is not None:
            pooler_config.step_tag_id = stored.step_tag_id
    matryoshka = manifest.matryoshka
    return ModelConfig(
        pooler_config=pooler_config,
        is_matryoshka=bool(matryoshka),
        matryoshka_dimensions=list(matryoshka) if isinstance(matryoshka, tuple) else None,
        served_model_name=manifest.name,
        embedding_size=manifest.embedding_size,
    )


def _max_seq_len(manifest: Manifest, max_model_len: Any) -> int:
    if max_model_len is None:
        return manifest.max_seq_len
    limit = manifest.max_seq_len
    if (
        isinstance(max_model_len, bool)
        or not isinstance(max_model_len, int)
        or not 1 <= max_model_len <= limit
    ):
        raise ParamsError(
            f"max_model_len={max_model_len!r} is out of range; bundle {manifest.name!r} takes 1 to {limit} tokens"
        )
    return max_model_len


LLM = EdgeModel
"""vLLM's name for it, so that ported programs read naturally."""
