"""A chosen graph and its tokenizer are opened once, compared with the manifest, and loaded, both at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from embedge._cancelling import LOOK_S, check_call
from embedge._contents.graph_policy import check_graph
from embedge._contents.graphs import PinnedGraph, copied_bytes
from embedge._engine.choosing import Choice
from embedge._engine.options import LoadOptions
from embedge._sessions.devices import Device
from embedge._sessions.in_helper import HelperSession
from embedge._sessions.on_cpu import CpuSessions
from embedge._sessions.on_devices import DeviceSessions
from embedge._sessions.onnxruntime import import_onnxruntime
from embedge._sessions.session import Lane, Session
from embedge._sessions.shared_tables import SharedTables
from embedge._sessions.tuning import Tuning
from embedge._text.ahead import PIECE
from embedge._text.tokenizer import TEXTS_PER_CALL, PromptTokenizer
from embedge._workers import Begun, start
from embedge.bundle import Bundle
from embedge.errors import BundleError, SessionError
from embedge.manifest import PROBES_FILE, TOKENIZER_FILE, Probes, decode_probes
from embedge.types import Profile, Replay, Trust

if TYPE_CHECKING:
    from embedge._sessions.loading import Shared


class Pinned(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that a model will ever need of its bundle, whatever becomes of the folder.

    Attributes:
        tokenizer: content of tokenizer.json.
        graphs: by their files.
        foreign: graphs that no export wrote, which run in a helper process.
        probes: to be replayed, if they are to be.
        opens: set when onnxruntime opens the first graph.
    """

    tokenizer: bytes
    graphs: dict[str, PinnedGraph]
    opens: threading.Event
    foreign: frozenset[str] = frozenset()
    probes: Probes | None = None


def open_model(
    choice: Choice, options: LoadOptions
) -> tuple[Pinned, PromptTokenizer, CpuSessions | DeviceSessions]:
    """Open a bundle's files, each of them once, and load the tokenizer and the graph from what was opened.

    Raises:
        BundleError: a file is damaged, holds what no exporter writes, or cannot be read by tokenizers.
        SessionError: onnxruntime refuses the graph.
        ProviderUnavailableError: it would not run on the device.
    """
    import_onnxruntime()  # before there are threads: an import holds up every other that needs the interpreter
    pinned = _pin(choice, check=options.verify_hashes, trust=options.trust, replay=options.probes)
    # onnxruntime lets other threads run while it opens a graph, and files are hashed meanwhile; tokenizers let nobody
    # run while they load, so that these begin first
    opened = start(partial(_open_sessions, choice, options, pinned))
    try:
        while isinstance(opened, Begun) and not pinned.opens.wait(LOOK_S):
            check_call()
        tokenizer = _open_tokenizer(choice, pinned.tokenizer, options.trust)
    except (BundleError, SessionError):
        with contextlib.suppress(SessionError, BundleError):
            opened()
        raise
    except BaseException:
        opened.stop_soon()
        raise
    return pinned, tokenizer, opened()


def open_cpu_sessions(
    choice: Choice, options: LoadOptions, pinned: Pinned, tuning: Tuning, profile: Profile
) -> CpuSessions:
    """The chosen graph's sessions on the CPU, its workers as the tuning says."""
    file = choice.variant.spec.file
    graph = pinned.graphs[file]
    # no functions inside of this one: an error's traceback would hold it, and all that it refers to
    open_session: Callable[[int], Lane] = partial(
        _open_session, choice, options, graph, choice.device, tables=SharedTables()
    )
    if file in pinned.foreign:
        # one process, whose runs come one after another
        tuning = Tuning(workers=1, threads_per_worker=choice.threads, batch_tokens=tuning.batch_tokens)
        open_session = partial(_open_helper, choice, options, graph)
    return CpuSessions(
        open_session,
        threads=choice.threads,
        profile=profile,
        tuning=tuning,
        copied_bytes=copied_bytes(graph.facts),
    )


def _pin(choice: Choice, *, check: bool, trust: Trust, replay: Replay) -> Pinned:
    """Open the files of the chosen variant; nothing has parsed any when a wrong one is refused."""
    bundle, spec = choice.bundle, choice.variant.spec
    files = {name: bundle.pinned(name, check=check) for name in (TOKENIZER_FILE, *spec.files)}
    graph_files = [spec.file] if spec.query_file is None else [spec.file, spec.query_file]
    opens = threading.Event()
    data = {name: files[name] for name in spec.data_files}
    graphs = {name: PinnedGraph(files[name], data, opens) for name in graph_files}
    tokenizer = files[TOKENIZER_FILE].read()
    foreign = _foreign(choice, graphs, trust)
    probes = None if replay == "never" else _probes(bundle, replay)
    return Pinned(tokenizer=tokenizer, graphs=graphs, foreign=foreign, probes=probes, opens=opens)


def _foreign(choice: Choice, graphs: dict[str, PinnedGraph], trust: Trust) -> frozenset[str]:
    """Graphs that no export wrote; refused, unless they are to run all the same.

    Raises:
        BundleError: they are not to, or could only run on a device that no helper process may use.
    """
    outputs = msgspec.structs.asdict(choice.manifest.graph)
    inputs = outputs.pop("inputs")

    def is_foreign(name: str) -> bool:
        try:
            check_graph(graphs[name].facts, name, inputs=inputs, outputs=outputs)
        except BundleError as error:
            if trust != "any":
                raise
            if not choice.on_cpu:
                raise BundleError(
                    f"{error} On {choice.device.name} it is not run: a helper process computes on the CPU. Use "
                    "device='cpu'."
                ) from error
            return True
        return False

    return frozenset(filter(is_foreign, graphs))


def _probes(bundle: Bundle, replay: Replay) -> Probes:
    probes = decode_probes(bundle.read(PROBES_FILE), str(bundle.file(PROBES_FILE)))
    if not probes.probes:
        raise BundleError(
            f"{bundle.folder} holds no probes, so probes={replay!r} has nothing to replay; expected some, as every "
            "export writes them. Export the model again, or use probes='never'."
        )
    return probes


def _open_tokenizer(choice: Choice, content: bytes, trust: Trust) -> PromptTokenizer:
    manifest = choice.manifest
    from embedge._contents.tokenizer_policy import checked_tokenizer  # its grammar takes time to compile

    foreign = False
    try:
        content = checked_tokenizer(content, TOKENIZER_FILE, vocab_size=manifest.vocab_size)
    except BundleError:
        if trust != "any":
            raise
        foreign = True
    return PromptTokenizer(
        content,
        manifest.tokenizer,
        vocab_size=manifest.vocab_size,
        max_seq_len=choice.max_seq_len,
        message=manifest.message,
        parallel=choice.threads > 1,
        texts_per_call=TEXTS_PER_CALL if choice.on_cpu else PIECE,
        foreign=foreign,
    )


def _open_sessions(choice: Choice, options: LoadOptions, pinned: Pinned) -> CpuSessions | DeviceSessions:
    try:
        return _open_all(choice, options, pinned)
    finally:
        pinned.opens.set()  # nobody waits for what has failed


def _open_all(choice: Choice, options: LoadOptions, pinned: Pinned) -> CpuSessions | DeviceSessions:
    if choice.on_cpu:
        # a limit leaves no room for the weights a second time
        profile = options.profile if options.max_memory_mb is None else "throughput"
        return open_cpu_sessions(choice, options, pinned, choice.tuning, profile)
    graph = pinned.graphs[choice.variant.spec.file]
    query_lane = shared = None
    if options.cuda_graphs and (file := choice.variant.spec.query_file) is not None:
        from embedge._sessions.captured import CapturedQueries, QueryLane
        from embedge._sessions.shared_weights import share_weights

        # what is shared lies outside of the memory that a limit is for
        shared = share_weights(choice.device) if options.device_memory_bytes is None else None
        captured = CapturedQueries(
            _open_session(
                choice,
                options,
                pinned.graphs[file],
                choice.device,
                choice.threads,
                capture=True,
                shared=shared,
            ),
            inputs=choice.manifest.graph.inputs,
            pad_token_id=choice.manifest.tokenizer.pad_token_id,
            max_seq_len=choice.max_seq_len,
        )
        query_lane = partial(QueryLane, captured=captured)
    return DeviceSessions(
        partial(_open_session, choice, options, graph, threads=choice.threads, shared=shared),
        devices=choice.devices,
        retry_smaller_batches=options.retry_smaller_batches,
        query_lane=query_lane,
    )


def _open_helper(choice: Choice, options: LoadOptions, graph: PinnedGraph, threads: int) -> HelperSession:
    return HelperSession(
        graph,
        device=choice.device,
        threads=threads,
        disabled_optimizers=choice.variant.spec.disabled_optimizers,
        plan_memory=options.profile == "latency",
    )


def _open_session(
    choice: Choice,
    options: LoadOptions,
    graph: PinnedGraph,
    device: Device,
    threads: int,
    *,
    capture: bool = False,
    shared: Shared | None = None,
    tables: SharedTables | None = None,
) -> Session:
    return Session(
        graph,
        device=device,
        threads=threads,
        disabled_optimizers=choice.variant.spec.disabled_optimizers,
        device_memory_bytes=options.device_memory_bytes,
        plan_memory=device.kind != "cpu" or (options.profile == "latency" and options.max_memory_mb is None),
        keep_memory=options.max_memory_mb is None,
        capture=capture,
        shared=shared if shared is not None and shared.device == device else None,
        tables=tables,
    )
