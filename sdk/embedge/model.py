"""EdgeModel: a loaded bundle and its verbs."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from embedge._calls.in_asyncio import in_threads
from embedge._calls.in_flight import CallsInFlight, InFlight
from embedge._calls.options import (
    CallOptions,
    Cancel,
    EndOptions,
    PairOptions,
    Params,
    PooledOutput,
    Progress,
    Prompts,
    UseTqdm,
)
from embedge._machine.own_memory import give_back
from embedge.outputs import (
    ArrayOutputs,
    ClassificationRequestOutput,
    EmbeddingRequestOutput,
    ModelInfo,
    PromptTokens,
    RaggedOutputs,
    RerankResult,
    ScoringRequestOutput,
    SparseEmbeddingRequestOutput,
)
from embedge.params import ModelConfig, PoolerConfig, PoolingParams
from embedge.types import (
    Compat,
    FloatArray,
    LongText,
    PairTruncation,
    PathLike,
    Profile,
    PromptInput,
    Replay,
    Side,
    Task,
    Trust,
)

if TYPE_CHECKING:
    from embedge._calls.verbs import Verbs
    from embedge.manifest import Manifest


class EdgeModel:
    """A bundle that is loaded and answers; one object may serve many threads.

    Pickled, it is its folder, its fingerprint and the arguments below, with which another process loads it again. A
    copy shares the loaded graph, and is closed by itself.

    Args:
        model: a bundle's folder, or its name in the local store. Never looked up on a network.
        task: task of `encode` where a call names none; None means the bundle's first.
        device: "cpu", "cuda", "cuda:N", "openvino", or "auto", which says in `info` what it chose. None falls back.
            A list such as ["cuda:0", "cuda:1"] deals the batches of each call to all of them; a device that fails is
            named in `lost_devices` and its batches are done by the others. "openvino" runs what an export with
            optimize_for="openvino" adds. Other execution providers of onnxruntime go by "directml", "coreml", "qnn",
            "tensorrt", "migraphx", "webgpu" and "xnnpack"; `info` says that embedge is not tested on them.
        variant: "fp32", "int8" … as listed by `embedge inspect`, or "auto".
        pooler_config: overrides the bundle's pooling defaults.
        pooling_plugin: registered pooling for the task "plugin"; None means the one that the bundle names.
        truncate_prompt_tokens: default for all calls; see PoolingParams.
        compat: "0.13" or "0.21": which vLLM's spelling of PoolingParams is meant.
        threads: processors to use; None means all that this process may use.
        max_batch_tokens: padded tokens per run; None means a size measured to suit the device, or what
            `embedge bench --save` kept for this bundle on this machine.
        device_memory_bytes: limit of the memory that onnxruntime takes on each GPU; None sets none. A batch that does
            not fit raises DeviceMemoryError, and the model goes on working.
        max_memory_mb: megabytes (2^20 bytes) that the model's calls together may take at once on the CPU, beside the
            loaded model, the prompts and the results. Batches are cut to fit, and those of calls that come at once
            wait for one another; a text that does not fit by itself is refused with PromptError before it is computed.
            Little is kept between runs, and small and large calls share one session, as with profile "throughput".
            What a run takes is an upper estimate from the graph. None sets no limit.
        provider_options: settings of an accelerator's execution provider, by onnxruntime's names, such as
            {"use_tf32": 1} for CUDA or {"device_type": "GPU"} for OpenVINO.
        retry_smaller_batches: on an accelerator, run a batch that does not fit into memory as halves, and those
            again, instead of raising DeviceMemoryError; each time is logged as a warning.
        cuda_graphs: answer single texts of up to 64 tokens, one at a time, in about half the time, on the first GPU. It
            captures when the model is loaded, while no other thread of the process may use a GPU. The weights are in
            the GPU's memory once; twice with device_memory_bytes, or an onnxruntime that shares none there.
        enable_prefix_caching: compute what all texts of a call begin with once, on the CPU and where the graph can: a
            stored prompt or `prompt=` of an embedder that is a decoder, a reranker's template and, of one query with
            documents, the query. The last prefixes are kept for later calls, in 256 MB at most, or in a quarter of
            max_memory_mb. False computes every text whole; the numbers are the same up to rounding,
            of 8 bits where the variant is int8.
        profile: "latency" answers a small call with all threads, and a large one or many small ones with one-thread
            workers; "throughput" has the workers only, for less memory; "background" uses one thread, and neither
            keeps memory planned for each shape of batch.
        max_model_len: a lower limit in tokens than the bundle's max_seq_len.
        verify_hashes: compare the files with the manifest's hashes while loading.
        fingerprint: the bundle's fingerprint as you know it, or its first 12 digits or more; another bundle is refused
            before anything of it but the manifest is read.
        signature: file that signs the bundle's fingerprint, in the format of minisign; a bundle that it does not sign
            is refused. Needs the extra "signed".
        public_key: file with the key of who made the bundle, or its line that begins with RW.
        trust: "exported" refuses graphs and tokenizers that hold what no export writes, such as loops, before
            onnxruntime and tokenizers read them; "any" runs such a graph in a helper process on the CPU, one batch
            after another, with a minute for each and memory for four times its files and a gigabyte (on Linux); it ends
            with the call's deadline or with this process. Hashes are compared in any case.
        probes: "once" replays the variant's probes when a bundle is first loaded on this machine, by its processor and
            onnxruntime's version, and keeps the outcome in the store; "always" at every load; "never" not at all. A
            variant that gives other numbers than at export is refused, and the next that suits the device is taken;
            `info.variant_reason`, a warning of the logger "embedge" and `embedge doctor` say so.
        runner: "auto" or "pooling", as in vLLM; there is no other runner here.

    Raises:
        BundleError: no bundle there, a manifest that cannot be used, an altered file, or another maker's signature.
        ParamsError: an argument is out of range.
        PluginError: the pooling that was named is not registered.
        ProviderUnavailableError: the device cannot be used.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        task: Task | None = None,
        device: str | Sequence[str] = "auto",
        variant: str = "auto",
        pooler_config: PoolerConfig | None = None,
        pooling_plugin: str | None = None,
        truncate_prompt_tokens: int | None = None,
        compat: Compat = "0.13",
        threads: int | None = None,
        max_batch_tokens: int | None = None,
        device_memory_bytes: int | None = None,
        max_memory_mb: int | None = None,
        provider_options: Mapping[str, str | int | float | bool] | None = None,
        retry_smaller_batches: bool = False,
        cuda_graphs: bool = False,
        enable_prefix_caching: bool = True,
        profile: Profile = "latency",
        max_model_len: int | None = None,
        verify_hashes: bool = True,
        fingerprint: str | None = None,
        signature: PathLike | None = None,
        public_key: PathLike | None = None,
        trust: Trust = "exported",
        probes: Replay = "never",
        runner: Literal["auto", "pooling"] = "auto",
    ) -> None:
        # these imports cost more than this module, so `import embedge` leaves them out
        from embedge._calls.loading import open_verbs
        from embedge._engine.options import LoadOptions

        options = LoadOptions(
            task=task,
            device=device,
            variant=variant,
            pooler_config=pooler_config,
            pooling_plugin=pooling_plugin,
            truncate_prompt_tokens=truncate_prompt_tokens,
            compat=compat,
            threads=threads,
            max_batch_tokens=max_batch_tokens,
            device_memory_bytes=device_memory_bytes,
            max_memory_mb=max_memory_mb,
            provider_options=provider_options,
            retry_smaller_batches=retry_smaller_batches,
            cuda_graphs=cuda_graphs,
            enable_prefix_caching=enable_prefix_caching,
            profile=profile,
            max_model_len=max_model_len,
            verify_hashes=verify_hashes,
            fingerprint=fingerprint,
            signature=signature,
            public_key=public_key,
            trust=trust,
            probes=probes,
            runner=runner,
        )
        verbs = open_verbs(model, options)
        engine = verbs.engine
        self.info: ModelInfo = engine.info
        self.manifest: Manifest = engine.manifest
        self._model_config = engine.model_config
        self._verbs: Verbs | None = verbs
        self._in_flight = CallsInFlight(engine.info.name)

    @property
    def lost_devices(self) -> tuple[str, ...]:
        """Devices that failed since the model was loaded, while others went on."""
        return self._open().engine.lost_devices

    @property
    def model_config(self) -> ModelConfig:
        """What `PoolingParams.verify` takes as model_config for this model; a copy."""
        return msgspec.convert(msgspec.to_builtins(self._model_config), ModelConfig)

    def encode(
        self,
        prompts: Prompts,
        pooling_params: Params = None,
        *,
        pooling_task: Task | None = None,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[PooledOutput] | RaggedOutputs[PooledOutput]:
        """Pool prompts for any task.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator.
            pooling_params: None, one for all prompts, or one per prompt.
            pooling_task: the task; None takes it from pooling_params, else from the model.
            tower: of a model that embeds queries and documents apart, "query" or "document", as encode_query,
                encode_document and the task= of sentence-transformers; with it comes the stored prompt of that name,
                where the call names none. None takes the tower that the checkpoint takes.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One PoolingRequestOutput per prompt, in order; `.numpy()` gives the float32 arrays: one array
            (num_prompts, dim), or a list with one array per prompt for token tasks and plugins.

        Raises:
            TaskNotSupportedError: the bundle does not have the task.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; nothing is returned, and nothing was computed, unless an accelerator
                had begun with the longest of several thousand prompts.
            SessionError: onnxruntime failed.
            PluginError: task "plugin": the plugin raised, or returned something else than one array per prompt.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            pooling_params=pooling_params,
            pooling_task=pooling_task,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.of(tower).encode(prompts, options)

    def stream(
        self,
        prompts: Iterable[PromptInput],
        pooling_params: PoolingParams | None = None,
        *,
        pooling_task: Task | None = None,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        window: int = 2048,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> Iterator[PooledOutput]:
        """Pool any number of prompts in bounded memory.

        Prompts are taken window by window, in the caller's thread. While the outputs of one window are consumed, the
        next is computed, and the one after that is tokenised. Close the iterator to stop early.

        Args:
            prompts: any iterable, e.g. a generator that reads a file.
            pooling_params: one for all prompts.
            pooling_task: the task; None takes it from pooling_params, else from the model.
            tower: of a model that embeds queries and documents apart, "query" or "document", as encode_query,
                encode_document and the task= of sentence-transformers; with it comes the stored prompt of that name,
                where the call names none. None takes the tower that the checkpoint takes.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            window: prompts that are sorted by length, batched and held at a time.
            deadline_s: seconds from this call to the last output; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Yields:
            One PoolingRequestOutput per prompt, in order; its request_id is its position.

        Raises:
            PromptError: a prompt cannot be used; earlier windows have been answered. `.index` counts all prompts.
        """
        from embedge._calls.stream import stream

        options = CallOptions(
            pooling_params=pooling_params,
            pooling_task=pooling_task,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        return stream(self._calling, prompts, options, window)

    def astream(
        self,
        prompts: Iterable[PromptInput] | AsyncIterable[PromptInput],
        pooling_params: PoolingParams | None = None,
        *,
        pooling_task: Task | None = None,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        window: int = 2048,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> AsyncIterator[PooledOutput]:
        """Pool any number of prompts in bounded memory with `async for`, off the event loop.

        Args:
            prompts: any iterable, or an asynchronous one; taken in the event loop's thread, a window at a time.
            pooling_params: one for all prompts, or None.
            pooling_task: the task; None takes it from pooling_params, else from the model.
            tower: of a model that embeds queries and documents apart, "query" or "document", as encode_query,
                encode_document and the task= of sentence-transformers; with it comes the stored prompt of that name,
                where the call names none. None takes the tower that the checkpoint takes.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            window: prompts that are sorted by length, batched and held at a time.
            deadline_s: seconds from this call to the last output, after which it ends with DeadlineError; None sets
                none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Yields:
            One PoolingRequestOutput per prompt, in order; its request_id is its position. All errors come with the
            first output that they concern.
        """
        from embedge._calls.stream import astream

        options = CallOptions(
            pooling_params=pooling_params,
            pooling_task=pooling_task,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        return astream(self._calling, prompts, options, window)

    def embed(
        self,
        prompts: Prompts,
        *,
        pooling_params: Params = None,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        long_text: LongText | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed prompts.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator.
            pooling_params: None, one for all prompts, or one per prompt.
            tower: of a model that embeds queries and documents apart, "query" or "document", as encode_query,
                encode_document and the task= of sentence-transformers; with it comes the stored prompt of that name,
                where the call names none. None takes the tower that the checkpoint takes.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            long_text: what becomes of prompts beyond the limit. "error" and "truncate" are truncate_prompt_tokens
                None and -1. "mean" embeds windows of max_seq_len tokens, each with its own special tokens and
                stored prompt, or the chat template around it, and averages their embeddings weighted by the tokens
                of text in each; cut and normalisation come after the average. vLLM's HTTP server has another rule
                for long texts.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One EmbeddingRequestOutput per prompt; `.numpy()` is float32 (num_prompts, dim).

        Raises:
            TaskNotSupportedError: the bundle does not embed.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; its `.index` is the prompt's position. Nothing is returned.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            pooling_params=pooling_params,
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            long_text=long_text,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.of(tower).embed(prompts, options)

    def embed_query(
        self,
        prompts: Prompts,
        *,
        pooling_params: Params = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        long_text: LongText | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed queries, to be compared with documents.

        Where neither prompt_name nor prompt is given, the stored prompt named "query" goes before each text, or none
        where there is none, not even the default one: as with sentence-transformers' encode_query.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator.
            pooling_params: None, one for all prompts, or one per prompt.
            prompt_name: stored prompt to use instead, e.g. "passage".
            prompt: literal text to use instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            long_text: what becomes of prompts beyond the limit. "error" and "truncate" are truncate_prompt_tokens None
                and -1. "mean" embeds windows of max_seq_len tokens, each with its own special tokens and stored prompt,
                or the chat template around it, and averages their embeddings weighted by the tokens of text in each;
                cut and normalisation come after the average. vLLM's HTTP server has another rule for long texts.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One EmbeddingRequestOutput per prompt; `.numpy()` is float32 (num_prompts, dim).

        Raises:
            TaskNotSupportedError: the bundle does not embed, or is the tower of a model that embeds documents apart.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; its `.index` is the prompt's position. Nothing is returned.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            pooling_params=pooling_params,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            long_text=long_text,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.embed_side(prompts, options, "query")

    def embed_document(
        self,
        prompts: Prompts,
        *,
        pooling_params: Params = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        long_text: LongText | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[EmbeddingRequestOutput]:
        """Embed documents, to be found by queries.

        Where neither prompt_name nor prompt is given, the stored prompt named "document" goes before each text, or
        none where there is none, not even the default one: as with sentence-transformers' encode_document.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator.
            pooling_params: None, one for all prompts, or one per prompt.
            prompt_name: stored prompt to use instead, e.g. "passage".
            prompt: literal text to use instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            long_text: what becomes of prompts beyond the limit. "error" and "truncate" are truncate_prompt_tokens None
                and -1. "mean" embeds windows of max_seq_len tokens, each with its own special tokens and stored prompt,
                or the chat template around it, and averages their embeddings weighted by the tokens of text in each;
                cut and normalisation come after the average. vLLM's HTTP server has another rule for long texts.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One EmbeddingRequestOutput per prompt; `.numpy()` is float32 (num_prompts, dim).

        Raises:
            TaskNotSupportedError: the bundle does not embed, or is the tower of a model that embeds queries apart.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; its `.index` is the prompt's position. Nothing is returned.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            pooling_params=pooling_params,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            long_text=long_text,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.embed_side(prompts, options, "document")

    def embed_sparse(
        self,
        prompts: Prompts,
        *,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> RaggedOutputs[SparseEmbeddingRequestOutput]:
        """Embed prompts with a SPLADE bundle as terms and weights; `embed` gives the dense rows.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator.
            tower: of a model that embeds queries and documents apart, "query" or "document", as encode_query,
                encode_document and the task= of sentence-transformers; with it comes the stored prompt of that name,
                where the call names none. None takes the tower that the checkpoint takes.
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One SparseEmbeddingRequestOutput per prompt; `.numpy()` is a list of weights.

        Raises:
            TaskNotSupportedError: the bundle's embeddings are dense.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; its `.index` is the prompt's position. Nothing is returned.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            tower=tower,
            prompt_name=prompt_name,
            prompt=prompt,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.of(tower).embed_sparse(prompts, options)

    def classify(
        self,
        prompts: Prompts,
        *,
        pooling_params: Params = None,
        truncate_prompt_tokens: int | None = None,
        truncation_side: Side | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[ClassificationRequestOutput]:
        """Classify prompts.

        Args:
            prompts: text, {"prompt": text}, {"prompt_token_ids": ids}, a list of token ids, or an iterable of these: a
                list, a column of a table by position, a generator. A prompt may also be a pair {"text": premise,
                "text_pair": hypothesis}.
            pooling_params: None, one for all prompts, or one per prompt.
            truncate_prompt_tokens: None: a prompt beyond the limit is an error; -1: cut to the limit; k: keep the last
                k tokens, special tokens included and kept. For prompts whose pooling_params leave it open.
            truncation_side: "left" or "right": the side that is dropped; None drops the left for k, and for -1 the
                tokenizer's own.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One ClassificationRequestOutput per prompt; `.numpy()` is float32 (num_prompts, num_labels).

        Raises:
            TaskNotSupportedError: the bundle is no classifier.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            PromptError: a prompt cannot be used; its `.index` is the prompt's position. Nothing is returned.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = CallOptions(
            pooling_params=pooling_params,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncation_side=truncation_side,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.classify(prompts, options)

    def score(
        self,
        data_1: Any = None,
        data_2: Any = None,
        *,
        prompts: Prompts | None = None,
        pooling_params: Params = None,
        truncate_prompt_tokens: int | None = None,
        truncate: PairTruncation = "longest_first",
        instruction: str | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> ArrayOutputs[ScoringRequestOutput]:
        """Score pairs of query and document.

        Args:
            data_1: one query, or one per document.
            data_2: one document or several.
            prompts: instead of both: texts such as "query [SEP] document", tokenised as they stand (cross-encoders).
            pooling_params: None, one for all pairs, or one per pair.
            truncate_prompt_tokens: None: a pair beyond the limit is an error; -1: cut to max_seq_len; k: cut to k
                tokens; both sides, specials included.
            truncate: "longest_first" or "document": which side of a cross-encoder's pair is cut.
            instruction: task description for an LLM reranker's template; None takes the stored one.
            query_prompt_name: stored prompt that a bi-encoder or a cross-encoder puts before queries, and an LLM
                reranker takes for its instruction; None applies the checkpoint's default, if it has one.
            document_prompt_name: stored prompt that a bi-encoder puts before documents.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            One ScoringRequestOutput per pair; `.numpy()` is float32 (num_pairs,). Cross-encoders and LLM rerankers:
            the activated logit; bi-encoders: cosine; late interaction: MaxSim.

        Raises:
            PromptError: a ValueError; lengths that do not fit, an empty side, a pair that is too long.
            TaskNotSupportedError: the bundle can neither score nor embed.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
        """
        options = PairOptions(
            pooling_params=pooling_params,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncate=truncate,
            instruction=instruction,
            query_prompt_name=query_prompt_name,
            document_prompt_name=document_prompt_name,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.score(data_1, data_2, prompts, options)

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        top_n: int | None = None,
        *,
        pooling_params: PoolingParams | None = None,
        truncate_prompt_tokens: int | None = None,
        truncate: PairTruncation = "longest_first",
        instruction: str | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        use_tqdm: UseTqdm = False,
        progress: Progress | None = None,
        deadline_s: float | None = None,
        cancel: Cancel = None,
    ) -> list[RerankResult]:
        """Rank documents for a query.

        Args:
            query: the text to rank for.
            documents: the texts to rank.
            top_n: how many to return; None returns all.
            pooling_params: one for all pairs, or None.
            truncate_prompt_tokens: None: a pair beyond the limit is an error; -1: cut to max_seq_len; k: cut to k
                tokens; both sides, specials included.
            truncate: "longest_first" or "document": which side of a cross-encoder's pair is cut.
            instruction: task description for an LLM reranker's template; None takes the stored one.
            query_prompt_name: stored prompt that a bi-encoder or a cross-encoder puts before queries, and an LLM
                reranker takes for its instruction; None applies the checkpoint's default, if it has one.
            document_prompt_name: stored prompt that a bi-encoder puts before documents.
            use_tqdm: show progress on stderr; or a callable used like `tqdm.tqdm`.
            progress: called after each batch with the number of prompts that are done and the number of all, in the
                thread that computes; what it raises ends the call.
            deadline_s: seconds after which the call ends with DeadlineError; None sets none.
            cancel: a threading.Event, or a function that returns whether to end: then the call ends with
                CallCancelledError. It is asked now and then, also from other threads.

        Returns:
            Results with the best first, ordered by logit where there is one; equal ones keep their order.

        Raises:
            PromptError: a ValueError; an empty query or document, a pair that is too long.
            TaskNotSupportedError: the bundle can neither score nor embed.
            ParamsError: a parameter is wrong, or not valid for the task or this bundle.
            SessionError: onnxruntime failed.
            DeadlineError, CallCancelledError: see deadline_s and cancel; the model goes on working.
        """
        options = PairOptions(
            pooling_params=pooling_params,
            truncate_prompt_tokens=truncate_prompt_tokens,
            truncate=truncate,
            instruction=instruction,
            query_prompt_name=query_prompt_name,
            document_prompt_name=document_prompt_name,
            use_tqdm=use_tqdm,
            progress=progress,
            deadline_s=deadline_s,
            cancel=cancel,
        )
        with self._calling(options) as verbs:
            return verbs.rerank(query, documents, top_n, options)

    def similarity(self, embeddings_1: Any, embeddings_2: Any) -> FloatArray:
        """Compare each of the first embeddings with each of the second, as the checkpoint does.

        By its similarity_fn_name, `manifest.similarity`: "cosine", "dot", "euclidean" or "manhattan", of the last two
        the negative. Whatever it is, a larger number is nearer.

        Args:
            embeddings_1: what `embed` returned, or arrays of (num_1, dim), or (dim,) for one.
            embeddings_2: (num_2, dim), likewise.

        Returns:
            float32 (num_1, num_2).

        Raises:
            ShapeError: no such arrays, or of different sizes.
            TaskNotSupportedError: the bundle has no embeddings of one row per text.
        """
        from embedge._calls.sides import similarity

        return similarity(self.manifest, embeddings_1, embeddings_2)

    def tokenize(
        self,
        prompts: Prompts,
        *,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> list[PromptTokens]:
        """Tokens of each prompt as the model is given them, but that none is cut.

        Args:
            prompts: text, {"prompt": text}, a list of token ids, or an iterable of these.
            tower: of a model that embeds queries and documents apart, "query" or "document".
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.

        Returns:
            One PromptTokens per prompt: ids, pieces of text, and where these stand in it.

        Raises:
            ParamsError: no such stored prompt.
            PromptError: a prompt cannot be used.
        """
        from embedge._calls.tokens import tokenize

        options = CallOptions(tower=tower, prompt_name=prompt_name, prompt=prompt)
        with self._calling(options) as verbs:
            return tokenize(verbs.engine, prompts, options)

    def count_tokens(
        self,
        prompts: Prompts,
        *,
        tower: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> list[int]:
        """How many tokens each prompt has, special tokens and stored prompt included; `info.max_seq_len` is the limit.

        Args:
            prompts: text, {"prompt": text}, a list of token ids, or an iterable of these.
            tower: of a model that embeds queries and documents apart, "query" or "document".
            prompt_name: stored prompt to put before each text; None applies the checkpoint's default, if it has one.
            prompt: literal text to put before each text instead; "" for none.

        Returns:
            One number per prompt.

        Raises:
            ParamsError: no such stored prompt.
            PromptError: a prompt cannot be used.
        """
        from embedge._calls.tokens import count_tokens

        options = CallOptions(tower=tower, prompt_name=prompt_name, prompt=prompt)
        with self._calling(options) as verbs:
            return count_tokens(verbs.engine, prompts, options)

    aencode = in_threads(encode)
    aembed = in_threads(embed)
    aembed_query = in_threads(embed_query)
    aembed_document = in_threads(embed_document)
    aembed_sparse = in_threads(embed_sparse)
    aclassify = in_threads(classify)
    ascore = in_threads(score)
    arerank = in_threads(rerank)

    def close(self, timeout_s: float | None = None) -> None:
        """Free the graph's memory; later calls raise SessionError.

        Calls that other threads are at are waited for.

        Args:
            timeout_s: seconds after which they end with CallCancelledError, at their next batch; 0 ends them at once,
                None never does.
        """
        self._in_flight.close(timeout_s)
        self._verbs = None
        give_back()

    def __enter__(self) -> EdgeModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # who presses Ctrl-C waits for nothing
        self.close(timeout_s=None if error is None or isinstance(error, Exception) else 0)

    def __repr__(self) -> str:
        return f"EdgeModel({self.info.name!r}, variant={self.info.variant!r}, device={self.info.device!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process loads the same bundle from the same folder; another bundle there is refused."""
        from embedge._calls.loading import load_again

        return _load_again, (type(self), *load_again(self._open().engine))

    def __copy__(self) -> EdgeModel:
        """The same loaded graph, which is freed when both are closed."""
        verbs = self._open()
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _verbs=verbs, _in_flight=CallsInFlight(self.info.name))
        return made

    def __deepcopy__(self, _: dict[int, Any]) -> EdgeModel:
        return self.__copy__()

    def _open(self) -> Verbs:
        self._in_flight.check_open()
        assert self._verbs is not None
        return self._verbs

    def _calling(self, options: EndOptions) -> InFlight[Verbs]:
        """Around a call of a verb, or a part of one."""
        return self._in_flight.call(options, self._open)


def _load_again(kind: type[EdgeModel], folder: str, options: dict[str, Any]) -> EdgeModel:
    return kind(folder, **options)


LLM = EdgeModel
"""vLLM's name for it, so that ported programs read naturally."""
