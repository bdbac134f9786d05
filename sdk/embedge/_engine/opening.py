"""A chosen graph and its tokenizer are loaded, both at once, while their files' hashes are compared."""

from __future__ import annotations

import contextlib
from functools import partial

from embedge._engine.choosing import Choice
from embedge._engine.options import LoadOptions
from embedge._sessions.devices import Device
from embedge._sessions.on_cpu import CpuSessions
from embedge._sessions.on_devices import DeviceSessions
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.session import Session
from embedge._sessions.tuning import Tuning
from embedge._text.ahead import PIECE
from embedge._text.tokenizer import TEXTS_PER_CALL, PromptTokenizer
from embedge._workers import start
from embedge.bundle import check_files
from embedge.errors import BundleError, SessionError
from embedge.manifest import TOKENIZER_FILE
from embedge.types import Profile


def open_model(choice: Choice, options: LoadOptions) -> tuple[PromptTokenizer, CpuSessions | DeviceSessions]:
    """Load the tokenizer and the graph.

    Raises:
        BundleError: a file is damaged, or cannot be read by tokenizers.
        SessionError: onnxruntime refuses the graph.
        ProviderUnavailableError: it would not run on the device.
    """
    import_onnxruntime()  # before there are threads: an import holds up every other that needs the interpreter
    bundle = choice.bundle
    files = bundle.variant_files(choice.variant.name) if options.verify_hashes else []
    checked = start(lambda: check_files(bundle, files))
    # onnxruntime lets other threads run while it loads a graph; tokenizers do not while they load
    opened = start(lambda: _open_sessions(choice, options))
    try:
        try:
            tokenizer = _open_tokenizer(choice)
        except BundleError:
            with contextlib.suppress(SessionError):
                opened()
            raise
        return tokenizer, opened()
    finally:
        # a damaged file is reported as such, not as what onnxruntime or tokenizers make of it
        checked()


def open_cpu_sessions(choice: Choice, options: LoadOptions, tuning: Tuning, profile: Profile) -> CpuSessions:
    """The chosen graph's sessions on the CPU, its workers as the tuning says."""

    def open_session(threads: int) -> Session:
        return _open_session(choice, options, choice.device, threads)

    return CpuSessions(open_session, threads=choice.threads, profile=profile, tuning=tuning)


def _open_tokenizer(choice: Choice) -> PromptTokenizer:
    manifest = choice.manifest
    return PromptTokenizer(
        choice.bundle.file(TOKENIZER_FILE),
        manifest.tokenizer,
        vocab_size=manifest.vocab_size,
        max_seq_len=choice.max_seq_len,
        message=manifest.message,
        parallel=choice.threads > 1,
        texts_per_call=TEXTS_PER_CALL if choice.on_cpu else PIECE,
    )


def _open_sessions(choice: Choice, options: LoadOptions) -> CpuSessions | DeviceSessions:
    if choice.on_cpu:
        return open_cpu_sessions(choice, options, choice.tuning, options.profile)
    query_lane = None
    if options.cuda_graphs and (file := choice.variant.spec.query_file) is not None:
        from embedge._sessions.captured import CapturedQueries, QueryLane

        captured = CapturedQueries(
            _open_session(choice, options, choice.device, choice.threads, file, capture=True),
            inputs=choice.manifest.graph.inputs,
            pad_token_id=choice.manifest.tokenizer.pad_token_id,
            max_seq_len=choice.max_seq_len,
        )
        query_lane = partial(QueryLane, captured=captured)

    def open_session(device: Device) -> Session:
        return _open_session(choice, options, device, choice.threads)

    return DeviceSessions(
        open_session,
        devices=choice.devices,
        retry_smaller_batches=options.retry_smaller_batches,
        query_lane=query_lane,
    )


def _open_session(
    choice: Choice,
    options: LoadOptions,
    device: Device,
    threads: int,
    file: str | None = None,
    *,
    capture: bool = False,
) -> Session:
    """Open the variant's graph, or another one of its files."""
    spec = choice.variant.spec
    return Session(
        choice.bundle.file(spec.file if file is None else file),
        device=device,
        threads=threads,
        disabled_optimizers=spec.disabled_optimizers,
        device_memory_bytes=options.device_memory_bytes,
        plan_memory=device.kind != "cpu" or options.profile == "latency",
        capture=capture,
    )
