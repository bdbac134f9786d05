"""Replay a bundle's probes on the machine at hand."""

from __future__ import annotations

from embedge._calls.replaying import ProbeReport, raw_params, replay
from embedge._engine.choosing import check_signed
from embedge._engine.engine import load
from embedge._engine.options import LoadOptions
from embedge._engine.variant import suiting
from embedge._sessions.devices import find_devices
from embedge.bundle import check_files, open_bundle
from embedge.errors import ParamsError
from embedge.types import PathLike

__all__ = ["ProbeReport", "raw_params", "verify"]


def verify(
    bundle: PathLike,
    *,
    device: str = "auto",
    variants: tuple[str, ...] = (),
    signature: PathLike | None = None,
    public_key: PathLike | None = None,
) -> list[ProbeReport]:
    """Check the signature, if one is given, and every file's hash, then run the probes through each variant.

    Args:
        bundle: a bundle's folder, or its name in the store.
        device: as for EdgeModel.
        variants: which to run; empty means all that the device has the operators for.
        signature: as for EdgeModel.
        public_key: as for EdgeModel.

    Returns:
        One report per variant and tower; a difference beyond the tolerance is reported, not raised.

    Raises:
        BundleError: a file is missing or altered, the folder is no bundle, or it is not signed by the key's owner.
        MissingExtraError: a signature is to be checked, and cryptography is not installed.
        ParamsError: a variant that the bundle does not have, or that this processor cannot compute.
        ProviderUnavailableError: the device cannot be used.
    """
    signed = LoadOptions(signature=signature, public_key=public_key)
    opened = open_bundle(bundle)
    check_signed(opened.manifest, signed)
    check_files(opened)
    kind = find_devices(device)[0].kind
    reports = []
    for variant in variants or suiting(opened.manifest, kind):
        engine = load(opened.folder, LoadOptions(device=device, variant=variant, verify_hashes=False))
        if variant not in ("auto", engine.info.variant):
            raise ParamsError(
                f"variant {variant!r} of bundle {opened.manifest.name!r} cannot be replayed on this processor: "
                f"{engine.info.variant_reason}. Expected {engine.info.variant!r}, or a processor that has it."
            )
        reports += replay(engine)
    return reports
