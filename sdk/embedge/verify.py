"""Replay a bundle's probes on the machine at hand."""

from __future__ import annotations

import msgspec
import numpy as np

from embedge._engine.variant import suits
from embedge._sessions.devices import find_devices
from embedge.bundle import Bundle, check_files, open_bundle
from embedge.manifest import Manifest, Probe, load_probes
from embedge.model import EdgeModel
from embedge.params import PoolingParams
from embedge.types import FloatArray, PathLike, Task


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of the probes for one variant.

    Attributes:
        variant: which graph.
        num_probes: how many were compared.
        max_abs_diff: largest absolute difference from what the bundle expects.
        tolerance: largest that the bundle allows.
    """

    variant: str
    num_probes: int
    max_abs_diff: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.max_abs_diff <= self.tolerance


def verify(bundle: PathLike, *, device: str = "auto", variants: tuple[str, ...] = ()) -> list[ProbeReport]:
    """Check every file's hash, then run the probes through each variant.

    Args:
        bundle: a bundle's folder, or its name in the store.
        device: as for EdgeModel.
        variants: which to run; empty means all that the device has the operators for.

    Returns:
        One report per variant; a difference beyond the tolerance is reported, not raised.

    Raises:
        BundleError: a file is missing or altered, or the folder is no bundle.
        ProviderUnavailableError: the device cannot be used.
    """
    opened = open_bundle(bundle)
    check_files(opened)
    probes = load_probes(opened.folder)
    reports = []
    kind = find_devices(device)[0].kind
    for variant in variants or _suiting(opened, kind):
        with EdgeModel(opened.folder, device=device, variant=variant, verify_hashes=False) as model:
            diffs = [_difference(model, probe) for probe in probes.probes]
        reports.append(
            ProbeReport(
                variant=variant,
                num_probes=len(diffs),
                max_abs_diff=max(diffs, default=float("nan")),
                tolerance=probes.tolerances.get(variant, 0.0),
            )
        )
    return reports


def raw_params(task: Task, manifest: Manifest) -> PoolingParams:
    """Parameters that give what probes hold: embeddings before cut and normalisation, logits before activation.

    Texts beyond the limit are cut. Scores of late interaction have nothing to leave out.
    """
    params = PoolingParams(truncate_prompt_tokens=-1)
    if task in ("embed", "token_embed"):
        params.normalize = False
        if manifest.dimensions is not None and task == "embed":
            params.dimensions = manifest.embedding_size
    elif manifest.late_interaction is None:
        params.use_activation = False
    return params


def _suiting(bundle: Bundle, device_kind: str) -> tuple[str, ...]:
    return tuple(name for name, spec in bundle.manifest.variants.items() if suits(spec, device_kind))


def _difference(model: EdgeModel, probe: Probe) -> float:
    actual = _answer(model, probe).ravel()
    expected = np.asarray(probe.expected, dtype=np.float32)
    if actual.shape != expected.shape:
        return float("inf")
    # a step model may keep no row at all
    return float(np.abs(actual - expected).max(initial=0.0))


def _answer(model: EdgeModel, probe: Probe) -> FloatArray:
    params = raw_params(probe.task, model.manifest)
    if probe.task == "score" and probe.document is not None:
        return model.score(probe.prompt, probe.document, pooling_params=params).numpy()
    pair = {"text": probe.prompt, "text_pair": probe.document}
    outputs = model.encode(
        probe.prompt if probe.document is None else pair,
        params,
        pooling_task=probe.task,
        prompt_name=probe.prompt_name,
        prompt="" if probe.prompt_name is None else None,
    )
    return outputs[0].outputs.data
