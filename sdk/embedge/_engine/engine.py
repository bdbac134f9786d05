"""A loaded model: bundle, tokenizer, sessions and the code that answers with them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from embedge._batches.attention import AttentionMemory
from embedge._batches.forward import Forward
from embedge._batches.memory import BatchMemory
from embedge._batches.planning import PaddedLength
from embedge._batches.prefixes import Prefixes
from embedge._engine.batch_memory import batch_memory, prefixes_of, score_heads
from embedge._engine.choosing import Choice, choose
from embedge._engine.opening import Pinned, open_cpu_sessions, open_model
from embedge._engine.options import LoadOptions
from embedge._machine.gpu import gpu_memory_bytes
from embedge._rows.answer import Answerer
from embedge._sessions.devices import Device
from embedge._sessions.on_cpu import CpuSessions
from embedge._sessions.on_devices import DeviceSessions, cuda_limits
from embedge._sessions.tuning import Tuning
from embedge._text.tokenizer import PromptTokenizer
from embedge.errors import BundleError, IntegrityError, ParamsError
from embedge.manifest import Manifest
from embedge.outputs import ModelInfo
from embedge.params import ModelConfig
from embedge.types import PathLike

_TRIES = 3
_UNTESTED_BATCH_TOKENS = 4096
"""For accelerators that nobody measured."""
_OPENVINO_BATCH_TOKENS = 2048
"""Texts/s of MiniLM in bfloat16 on two cores (AMD EPYC): 223 with 1,024, 226 with 2,048, 127 with 4,096."""


class Engine(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that EdgeModel needs once it is loaded.

    Attributes:
        options: with which it was loaded.
        choice: what runs, and where.
        tokenizer: of prompts.
        pinned: its files.
        sessions: the loaded graph.
        forward: feeds it.
        answerer: computes rows.
        info: what the user sees of it.
        towers: of a model that embeds queries and documents apart, its other towers, by name.
    """

    options: LoadOptions
    choice: Choice
    tokenizer: PromptTokenizer
    pinned: Pinned
    sessions: CpuSessions | DeviceSessions
    forward: Forward
    answerer: Answerer
    info: ModelInfo
    towers: dict[str, Engine] = msgspec.field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.choice.manifest

    def of(self, tower: str | None) -> Engine:
        """What computes a tower; None stands for the one that the bundle names.

        Raises:
            ParamsError: there is no such tower.
        """
        manifest = self.manifest
        if tower is None or tower == manifest.tower:
            return self
        if tower in self.towers:
            return self.towers[tower]
        raise ParamsError(
            f"tower={tower!r} is not one of bundle {manifest.name!r}, which "
            + (
                "embeds queries and documents alike; leave tower out"
                if manifest.tower is None
                else f"has {', '.join((manifest.tower, *self.towers))}; expected one of these"
            )
        )

    @property
    def lost_devices(self) -> tuple[str, ...]:
        """Devices that failed since they were loaded, while others went on."""
        lost = [*self.sessions.lost_devices]
        for tower in self.towers.values():
            lost += tower.lost_devices
        return tuple(dict.fromkeys(lost))

    @property
    def model_config(self) -> ModelConfig:
        """The bundle's pooling defaults, with the caller's in their place."""
        return self.choice.model_config


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch may be.

    Attributes:
        tokens: padded tokens.
        square: rows times the square of the longest; None sets none.
    """

    tokens: int
    square: int | None = None


def load(model: PathLike, options: LoadOptions) -> Engine:
    """Load a bundle.

    Args:
        model: a bundle's folder, or its name in the store.
        options: the caller's wishes.

    Raises:
        BundleError, ParamsError, PluginError, ProviderUnavailableError, SessionError: as EdgeModel.
    """
    for _ in range(_TRIES):
        choice = choose(model, options)
        try:
            return _load(choice, options)
        except IntegrityError:
            # a bundle that is replaced while it is read is read again, the new one whole
            if not choice.bundle.replaced():
                raise
    raise BundleError(
        f"{choice.bundle.folder} was replaced {_TRIES} times while it was read. Load it when its exports have ended."
    )


def _load(choice: Choice, options: LoadOptions) -> Engine:
    pinned, tokenizer, sessions = open_model(choice, options)
    limits = batch_limits(choice, options)
    spec = choice.variant.spec
    prefixes, memory = None, _batch_memory(choice, options, pinned)
    # what runs in a helper process has not been looked at, and would be sent the prefix with every batch
    if options.enable_prefix_caching and choice.on_cpu and spec.file not in pinned.foreign:
        prefixes, memory = prefixes_of(spec, memory)
    forward = _forward(choice, sessions, limits, memory, prefixes)
    return Engine(
        options=options,
        choice=choice,
        tokenizer=tokenizer,
        pinned=pinned,
        sessions=sessions,
        forward=forward,
        answerer=Answerer(choice.bundle, forward, options.pooler_config, choice.plugin),
        info=model_info(choice, sessions, limits, prefixes),
        towers={name: _load(tower, options) for name, tower in choice.towers.items()},
    )


def tuned(engine: Engine, tuning: Tuning) -> Forward:
    """The same graph on the CPU with other workers, for measuring them."""
    sessions = open_cpu_sessions(engine.choice, engine.options, engine.pinned, tuning, "throughput")
    return _forward(engine.choice, sessions, BatchLimits(tokens=tuning.batch_tokens))


def batch_limits(choice: Choice, options: LoadOptions) -> BatchLimits:
    """How large batches are: as tuned on the CPU, as measured and as memory allows on a GPU.

    Raises:
        ParamsError: the caller asks for more than a GPU's kernels can index.
    """
    asked = options.max_batch_tokens
    if choice.on_cpu:
        return BatchLimits(tokens=choice.tuning.batch_tokens)
    if choice.device.kind == "openvino":
        return BatchLimits(tokens=asked or _OPENVINO_BATCH_TOKENS)
    if choice.device.kind != "cuda":
        return BatchLimits(tokens=asked or _UNTESTED_BATCH_TOKENS)
    memory_bytes = options.device_memory_bytes or _smallest_memory(choice.devices)
    limits = cuda_limits(choice.manifest.hidden_size, choice.variant.spec.score_heads, memory_bytes)
    if asked is not None and asked > limits.most_tokens:
        raise ParamsError(
            f"max_batch_tokens={asked} is more than CUDA's kernels index safely; "
            f"expected at most {limits.most_tokens} for this model"
        )
    return BatchLimits(tokens=asked or limits.tokens, square=limits.square)


def model_info(
    choice: Choice,
    sessions: CpuSessions | DeviceSessions,
    limits: BatchLimits,
    prefixes: Prefixes | None = None,
) -> ModelInfo:
    """What the user sees of a loaded model."""
    manifest = choice.manifest
    return ModelInfo(
        name=manifest.name,
        tasks=manifest.tasks,
        variant=choice.variant.name,
        variant_reason=choice.variant.reason,
        device=",".join(device.name for device in choice.devices),
        device_reason=choice.device.reason,
        execution_provider=choice.device.execution_provider,
        placement=sessions.placement,
        threads=choice.threads,
        workers=choice.tuning.workers if choice.on_cpu else len(sessions.lanes(None)),
        max_batch_tokens=limits.tokens,
        tuning_reason=choice.tuning_reason,
        max_seq_len=choice.max_seq_len,
        embedding_size=manifest.embedding_size,
        fingerprint=manifest.fingerprint,
        prefix_cache_bytes=0 if prefixes is None else prefixes.limit_bytes,
    )


def _batch_memory(choice: Choice, options: LoadOptions, pinned: Pinned) -> BatchMemory | None:
    if options.max_memory_mb is None:
        return None
    spec = choice.variant.spec
    return batch_memory(spec, pinned.graphs[spec.file].facts, options.max_memory_mb << 20)


def _forward(
    choice: Choice,
    sessions: CpuSessions | DeviceSessions,
    limits: BatchLimits,
    memory: BatchMemory | None = None,
    prefixes: Prefixes | None = None,
) -> Forward:
    manifest, spec = choice.manifest, choice.variant.spec
    heads = score_heads(spec) if choice.on_cpu or choice.device.kind == "openvino" else None
    return Forward(
        sessions,
        manifest.tokenizer,
        manifest.graph.inputs,
        limits.tokens,
        AttentionMemory(num_heads=heads) if heads else None,
        limits.square,
        PaddedLength(
            max_seq_len=manifest.max_seq_len,
            block=spec.attention_block if choice.on_cpu else None,
            multiple_of=spec.pad_to_multiple_of,
        ),
        memory,
        spec.switch_lengths if choice.on_cpu else (),
        prefixes,
    )


def _smallest_memory(devices: Sequence[Device]) -> int | None:
    sizes = [gpu_memory_bytes(device.index) for device in devices]
    return min((size for size in sizes if size is not None), default=None)
