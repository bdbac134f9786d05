"""Replay a bundle's probes on the machine at hand."""

from __future__ import annotations

import msgspec
import numpy as np

from embedge._types import PathLike
from embedge.bundle import check_files, open_bundle
from embedge.manifest import Probe, load_probes
from embedge.model import EdgeModel
from embedge.params import PoolingParams


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
        variants: which to run; empty means all.

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
    for variant in variants or tuple(opened.manifest.variants):
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


def _difference(model: EdgeModel, probe: Probe) -> float:
    params = PoolingParams(truncate_prompt_tokens=-1)
    if probe.task in ("embed", "token_embed"):
        params.normalize = False
    else:
        params.use_activation = False
    output = model.encode(
        probe.prompt,
        params,
        pooling_task=probe.task,
        prompt_name=probe.prompt_name,
        prompt="" if probe.prompt_name is None else None,
    )[0]
    actual = output.outputs.data.ravel()
    expected = np.asarray(probe.expected, dtype=np.float32)
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max())
