"""What a loaded model consists of: bundle, tokenizer, session and the code that answers with them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import msgspec

from embedge._batches.attention import AttentionMemory
from embedge._batches.forward import Forward
from embedge._batches.planning import PaddedLength
from embedge._machine.cpu import available_threads
from embedge._machine.gpu import gpu_memory_bytes
from embedge._rows.answer import Answerer, pooling_modes
from embedge._sessions.devices import Device, find_devices
from embedge._sessions.on_cpu import CpuSessions
from embedge._sessions.on_devices import DeviceSessions, cuda_limits
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.session import Session
from embedge._sessions.tuning import Tuning, default_tuning, find_tuning
from embedge._text.ahead import FROM_PROMPTS, PIECE, ArrivingRows
from embedge._text.tokenizer import TEXTS_PER_CALL, PromptTokenizer
from embedge._text.tokens import Encoded, EncodedRows
from embedge._workers import start
from embedge.bundle import VariantChoice, check_files, choose_variant, open_bundle
from embedge.errors import BundleError, ParamsError, PromptError, SessionError
from embedge.manifest import TOKENIZER_FILE, Manifest
from embedge.outputs import ModelInfo
from embedge.params import ModelConfig, PoolerConfig
from embedge.plugins import find_pooling
from embedge.types import ParsedPrompt, PathLike, Profile, Side

_MANY_BATCHES = 1000
_PIECES_AHEAD = 2
_UNTESTED_BATCH_TOKENS = 4096
"""For accelerators that nobody measured."""


class Engine:
    """Everything that EdgeModel needs once it is loaded; arguments are EdgeModel's."""

    def __init__(
        self,
        model: PathLike,
        *,
        device: str | Sequence[str],
        variant: str,
        pooler_config: PoolerConfig | None,
        pooling_plugin: str | None,
        threads: int | None,
        max_batch_tokens: int | None,
        device_memory_bytes: int | None,
        provider_options: Mapping[str, Any] | None,
        retry_smaller_batches: bool,
        cuda_graphs: bool,
        profile: Profile,
        max_model_len: int | None,
        verify_hashes: bool,
    ) -> None:
        for name, value in (
            ("threads", threads),
            ("max_batch_tokens", max_batch_tokens),
            ("device_memory_bytes", device_memory_bytes),
        ):
            if value is not None and (type(value) is not int or value < 1):
                raise ParamsError(f"{name}={value!r} is out of range; expected an int >= 1")
        if profile not in get_args(Profile):
            raise ParamsError(
                f"profile={profile!r} is not known; expected one of {', '.join(get_args(Profile))}"
            )
        bundle = open_bundle(model)
        self.manifest = manifest = bundle.manifest
        self.model_config = _model_config(manifest, pooler_config)
        plugin_name = pooling_plugin or manifest.plugin
        plugin = find_pooling(plugin_name) if plugin_name else None
        devices = find_devices(device, provider_options)
        found = devices[0]
        choice = choose_variant(manifest, variant, found.kind)
        if cuda_graphs:
            _check_cuda_graphs(choice, found)
        num_threads = 1 if profile == "background" else available_threads() if threads is None else threads
        max_seq_len = _max_seq_len(manifest, max_model_len)
        tuning, tuning_reason = self._choose_tuning(
            choice.name, found, num_threads, profile, max_batch_tokens
        )
        import_onnxruntime()  # before there are threads: an import holds up every other that needs the interpreter
        checked = start(
            lambda: check_files(bundle, bundle.variant_files(choice.name) if verify_hashes else [])
        )

        def open_session(
            where: Device, run_threads: int, file: str = choice.spec.file, capture: bool = False
        ) -> Session:
            return Session(
                bundle.file(file),
                device=where,
                threads=run_threads,
                disabled_optimizers=choice.spec.disabled_optimizers,
                device_memory_bytes=device_memory_bytes,
                plan_memory=where.kind != "cpu" or profile == "latency",
                capture=capture,
            )

        self._open_on_cpu = partial(open_session, found)
        self._score_heads = choice.spec.score_heads
        self._padded_length = PaddedLength(
            max_seq_len=manifest.max_seq_len,
            block=choice.spec.attention_block if found.kind == "cpu" else None,
            multiple_of=choice.spec.pad_to_multiple_of,
        )

        def open_sessions() -> CpuSessions | DeviceSessions:
            if found.kind == "cpu":
                return self._cpu_sessions(tuning, num_threads, profile)
            query_lane = None
            if cuda_graphs and (file := choice.spec.query_file) is not None:
                from embedge._sessions.captured import CapturedQueries, QueryLane

                captured = CapturedQueries(
                    open_session(found, num_threads, file, capture=True),
                    inputs=manifest.graph.inputs,
                    pad_token_id=manifest.tokenizer.pad_token_id,
                    max_seq_len=max_seq_len,
                )
                query_lane = partial(QueryLane, captured=captured)
            return DeviceSessions(
                partial(open_session, run_threads=num_threads),
                devices=devices,
                retry_smaller_batches=retry_smaller_batches,
                query_lane=query_lane,
            )

        # onnxruntime lets other threads run while it loads a graph; tokenizers do not while they load
        opened = start(open_sessions)
        try:
            try:
                self.tokenizer = PromptTokenizer(
                    bundle.file(TOKENIZER_FILE),
                    manifest.tokenizer,
                    vocab_size=manifest.vocab_size,
                    max_seq_len=max_seq_len,
                    parallel=num_threads > 1,
                    texts_per_call=TEXTS_PER_CALL if found.kind == "cpu" else PIECE,
                )
            except BundleError:
                with contextlib.suppress(SessionError):
                    opened()
                raise
            sessions = opened()
        finally:
            # a damaged file is reported as such, not as what onnxruntime or tokenizers make of it
            checked()
        batch_tokens, max_square = tuning.batch_tokens, None
        if found.kind != "cpu":
            batch_tokens = max_batch_tokens or _UNTESTED_BATCH_TOKENS
        if found.kind == "cuda":
            memory_bytes = device_memory_bytes or _smallest_memory(devices)
            limits = cuda_limits(manifest.hidden_size, self._score_heads, memory_bytes)
            batch_tokens, max_square = max_batch_tokens or limits.tokens, limits.square
            if batch_tokens > limits.most_tokens:
                raise ParamsError(
                    f"max_batch_tokens={batch_tokens} is more than CUDA's kernels index safely; "
                    f"expected at most {limits.most_tokens} for this model"
                )
        self.sessions = sessions
        forward = self._forward(sessions, batch_tokens, max_square)
        self.answerer = Answerer(bundle, forward, pooler_config, plugin)
        self.info = ModelInfo(
            name=manifest.name,
            tasks=manifest.tasks,
            variant=choice.name,
            variant_reason=choice.reason,
            device=",".join(where.name for where in devices),
            device_reason=found.reason,
            execution_provider=found.execution_provider,
            placement=sessions.placement,
            threads=num_threads,
            workers=tuning.workers if found.kind == "cpu" else len(sessions.lanes(_MANY_BATCHES)),
            max_batch_tokens=batch_tokens,
            tuning_reason=tuning_reason,
            max_seq_len=max_seq_len,
            embedding_size=manifest.embedding_size,
            fingerprint=manifest.fingerprint,
        )

    def tuned(self, tuning: Tuning) -> Forward:
        """The same graph on the CPU with other workers, for measuring them."""
        return self._forward(self._cpu_sessions(tuning, self.info.threads, "throughput"), tuning.batch_tokens)

    def _choose_tuning(
        self, variant: str, found: Device, threads: int, profile: Profile, max_batch_tokens: int | None
    ) -> tuple[Tuning, str]:
        if found.kind != "cpu":
            return default_tuning(threads), "rule: batches in flight on each device"
        if profile == "background":
            tuning, reason = default_tuning(1), "profile: one worker"
        else:
            tuning, reason = find_tuning(self.manifest.fingerprint, variant, threads)
        if max_batch_tokens is not None:
            tuning = msgspec.structs.replace(tuning, batch_tokens=max_batch_tokens)
        return tuning, reason

    def _cpu_sessions(self, tuning: Tuning, threads: int, profile: Profile) -> CpuSessions:
        return CpuSessions(self._open_on_cpu, threads=threads, profile=profile, tuning=tuning)

    def _forward(
        self, sessions: CpuSessions | DeviceSessions, batch_tokens: int, max_square: int | None = None
    ) -> Forward:
        manifest = self.manifest
        on_cpu = isinstance(sessions, CpuSessions)
        attention = AttentionMemory(num_heads=self._score_heads) if on_cpu and self._score_heads else None
        return Forward(
            sessions,
            manifest.tokenizer,
            manifest.graph.inputs,
            batch_tokens,
            attention,
            max_square,
            self._padded_length,
        )

    def encode(
        self,
        prompts: Sequence[ParsedPrompt],
        limits: Sequence[int | None],
        *,
        truncation_side: Side | None = None,
        stored_prompt: str = "",
        with_offsets: bool = False,
    ) -> Sequence[Encoded]:
        """Tokenise prompts; many for an accelerator only when they are computed, while earlier ones run.

        Arguments and errors are those of PromptTokenizer.encode; of prompts for an accelerator the errors may come
        when they are computed.
        """

        def encode(some: Sequence[ParsedPrompt], some_limits: Sequence[int | None]) -> Sequence[Encoded]:
            return self.tokenizer.encode(
                some,
                some_limits,
                truncation_side=truncation_side,
                stored_prompt=stored_prompt,
                with_offsets=with_offsets,
            )

        if not isinstance(self.sessions, DeviceSessions) or len(prompts) < FROM_PROMPTS:
            return encode(prompts, limits)
        for limit in set(limits):
            self.tokenizer.check_limit(limit)

        searched = threading.Lock()
        found: list[PromptError] = []

        def encode_at(positions: list[int]) -> EncodedRows:
            try:
                rows = encode([prompts[i] for i in positions], [limits[i] for i in positions])
            except PromptError as error:
                with searched:
                    if not found:
                        found.append(_first_error(lambda: encode(prompts, limits), error))
                raise found[0] from None
            return rows if isinstance(rows, EncodedRows) else EncodedRows.of(rows)

        return ArrivingRows(_likely_sizes(prompts), encode_at, _PIECES_AHEAD if self.info.threads > 1 else 0)


def _smallest_memory(devices: Sequence[Device]) -> int | None:
    sizes = [gpu_memory_bytes(where.index) for where in devices]
    return min((size for size in sizes if size is not None), default=None)


def _first_error(encode: Callable[[], object], error: PromptError) -> PromptError:
    """What tokenising all prompts raises, whose message names the first bad one by its position in the call."""
    try:
        encode()
    except PromptError as first:
        return first
    return error  # pragma: no cover (all prompts hold the bad one, too)


def _likely_sizes(prompts: Sequence[ParsedPrompt]) -> list[int]:
    """What goes with the numbers of tokens: characters, of which a token has about four."""
    if set(map(type, prompts)) == {str}:
        return list(map(len, prompts))
    return [
        len(prompt)
        if isinstance(prompt, str)
        else 4 * len(prompt)
        if isinstance(prompt, list)
        else sum(map(len, prompt))
        for prompt in prompts
    ]


def _check_cuda_graphs(choice: VariantChoice, device: Device) -> None:
    if device.kind != "cuda":
        raise ParamsError(f"cuda_graphs=True needs a GPU; the device is {device.name!r} ({device.reason})")
    if choice.spec.query_file is None:
        raise ParamsError(
            f"cuda_graphs=True needs a variant with a graph for single queries, and {choice.name!r} has none; "
            "expected a bundle that was exported with --optimize-for cuda"
        )


def _model_config(manifest: Manifest, override: PoolerConfig | None) -> ModelConfig:
    modes = pooling_modes(manifest, override)
    stored = manifest.pooling
    given = override or PoolerConfig()
    pooler_config = PoolerConfig(
        pooling_type=modes[0] if len(modes) == 1 else None,
        normalize=manifest.normalize if given.normalize is None else given.normalize,
        dimensions=manifest.dimensions if given.dimensions is None else given.dimensions,
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
