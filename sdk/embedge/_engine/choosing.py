"""What a model is to run: which graph of which bundle, where, and how a large call is split."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge._contents.pin import compare_pin
from embedge._contents.signature import check_signature
from embedge._engine.options import LoadOptions
from embedge._engine.variant import VariantChoice, choose_variant
from embedge._machine.cpu import available_threads
from embedge._rows.answer import pooling_modes
from embedge._sessions.devices import Device, find_devices
from embedge._sessions.openvino import openvino_settings
from embedge._sessions.tuning import Tuning, default_tuning, find_tuning
from embedge.bundle import Bundle, open_bundle, open_towers
from embedge.errors import ParamsError
from embedge.manifest import Manifest
from embedge.params import ModelConfig, PoolerConfig
from embedge.plugins import PoolingPlugin, find_pooling
from embedge.types import PathLike


class Choice(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All that is decided before a graph is opened.

    Attributes:
        bundle: the bundle.
        model_config: its pooling defaults, with the caller's in their place.
        plugin: the pooling of the task "plugin", if there is one.
        devices: where to run; the first one's kind is the kind of all.
        variant: the graph, and why this one.
        threads: processors to use.
        max_seq_len: limit of a prompt in tokens.
        tuning: workers of a large call on the CPU.
        tuning_reason: why so many and so large.
        towers: of a model that embeds queries and documents apart, what is decided for the other towers, by name.
    """

    bundle: Bundle
    model_config: ModelConfig
    plugin: PoolingPlugin | None
    devices: list[Device]
    variant: VariantChoice
    threads: int
    max_seq_len: int
    tuning: Tuning
    tuning_reason: str
    towers: dict[str, Choice] = msgspec.field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The bundle's."""
        return self.bundle.manifest

    @property
    def device(self) -> Device:
        """The first device."""
        return self.devices[0]

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU."""
        return self.device.kind == "cpu"


def choose(model: PathLike, options: LoadOptions) -> Choice:
    """Decide what to run, where, and how.

    Args:
        model: a bundle's folder, or its name in the store.
        options: the caller's wishes.

    Raises:
        BundleError: no bundle there, or one that cannot be used.
        MissingExtraError: a signature is to be checked, and cryptography is not installed.
        ParamsError: the bundle or the machine cannot do what was asked.
        PluginError: the pooling that was named is not registered.
        ProviderUnavailableError: the device cannot be used.
    """
    bundle = open_bundle(model)
    manifest = bundle.manifest
    compare_pin(manifest.fingerprint, options.fingerprint, str(bundle.folder))
    check_signed(manifest, options)
    towers = {
        name: _decide(tower, _for_tower(options, tower.manifest))
        for name, tower in open_towers(bundle).items()
    }
    return msgspec.structs.replace(_decide(bundle, options), towers=towers)


def _decide(bundle: Bundle, options: LoadOptions) -> Choice:
    """What is decided for a bundle, or for a tower inside of one."""
    manifest = bundle.manifest
    model_config = _model_config(manifest, options.pooler_config)
    plugin_name = options.pooling_plugin or manifest.plugin
    plugin = find_pooling(plugin_name) if plugin_name else None
    devices = find_devices(options.device, options.provider_options)
    if options.max_memory_mb is not None and devices[0].kind != "cpu":
        raise ParamsError(
            f"max_memory_mb={options.max_memory_mb} is a limit for the CPU; the device is {devices[0].name!r} "
            f"({devices[0].reason}). Use device_memory_bytes for a GPU, or device='cpu'."
        )
    variant = choose_variant(manifest, options.variant, devices[0].kind)
    if options.cuda_graphs:
        check_cuda_graphs(variant, devices[0])
    threads = _num_threads(options)
    if devices[0].kind == "openvino":
        bfloat16 = variant.spec.dtype == "bfloat16"
        settings = openvino_settings(dict(devices[0].options), threads=threads, bfloat16=bfloat16)
        devices = [msgspec.structs.replace(devices[0], options=tuple(settings.items()))]
    max_seq_len = _max_seq_len(manifest, options.max_model_len)
    tuning, tuning_reason = _choose_tuning(manifest, variant.name, devices[0], threads, options)
    return Choice(
        bundle=bundle,
        model_config=model_config,
        plugin=plugin,
        devices=devices,
        variant=variant,
        threads=threads,
        max_seq_len=max_seq_len,
        tuning=tuning,
        tuning_reason=tuning_reason,
    )


def _for_tower(options: LoadOptions, manifest: Manifest) -> LoadOptions:
    """The caller's wishes as they go for another tower, whose limit in tokens may be lower."""
    limit = options.max_model_len
    if isinstance(limit, int) and limit > manifest.max_seq_len:
        return msgspec.structs.replace(options, max_model_len=None)
    return options


def check_cuda_graphs(variant: VariantChoice, device: Device) -> None:
    """Refuse CUDA graphs where there is nothing to capture, or nowhere.

    Raises:
        ParamsError: the device is no GPU, or the variant has no graph for single queries.
    """
    if device.kind != "cuda":
        raise ParamsError(
            f"cuda_graphs=True needs a GPU; the device is {device.name!r} ({device.reason}). Leave cuda_graphs out, or "
            "pass device='cuda', which says what is missing"
        )
    if variant.spec.query_file is None:
        raise ParamsError(
            f"cuda_graphs=True needs a variant with a graph for single queries, and {variant.name!r} has none; "
            "expected a bundle that was exported with --optimize-for cuda"
        )


def _num_threads(options: LoadOptions) -> int:
    if options.profile == "background":
        return 1
    return available_threads() if options.threads is None else options.threads


def _choose_tuning(
    manifest: Manifest, variant: str, device: Device, threads: int, options: LoadOptions
) -> tuple[Tuning, str]:
    if device.kind != "cpu":
        return default_tuning(threads), "rule: batches in flight on each device"
    if options.profile == "background":
        tuning, reason = default_tuning(1), "profile: one worker"
    else:
        tuning, reason = find_tuning(manifest.fingerprint, variant, threads)
    if options.max_batch_tokens is not None:
        tuning = msgspec.structs.replace(tuning, batch_tokens=options.max_batch_tokens)
    return tuning, reason


def check_signed(manifest: Manifest, options: LoadOptions) -> None:
    """Refuse a bundle that the signature that is given, if one is, does not sign.

    Raises:
        BundleError, ParamsError, MissingExtraError: as `check_signature`.
    """
    if options.signature is not None and options.public_key is not None:
        check_signature(manifest.fingerprint, options.signature, options.public_key)


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
        truncate_dim=manifest.dimensions,
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
