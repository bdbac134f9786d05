"""Open a bundle folder: its manifest, the integrity of its files, the choice of a variant."""

from __future__ import annotations

from pathlib import Path

import msgspec

from embedge._machine.cpu import graph_features
from embedge.errors import BundleError, IntegrityError, ParamsError
from embedge.manifest import Manifest, Variant, load_manifest
from embedge.store import find
from embedge.types import PathLike

_CHUNK_BYTES = 1 << 20
_PREFERENCE = {
    "cpu": ("fp32", "fp16", "int8", "uint8", "int4"),
    "cuda": ("fp16_cuda", "bf16_cuda", "fp16", "fp32"),
}


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle folder and its manifest.

    Attributes:
        folder: where the files lie.
        manifest: what they are.
    """

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            IntegrityError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise IntegrityError(
                f"{name} is not among the files that the manifest of {self.folder} lists. Export the model again.",
                file=name,
                expected_sha256="",
            )
        return self.folder / name

    def variant_files(self, variant: str) -> list[str]:
        """Names of the files that running a variant reads."""
        spec = self.manifest.variants[variant]
        modules = [module.file for module in self.manifest.modules]
        return ["tokenizer.json", *spec.files, *modules]


class VariantChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The variant to run, and why this one."""

    name: str
    spec: Variant
    reason: str


def open_bundle(model: PathLike) -> Bundle:
    """Find a bundle by path or stored name and read its manifest.

    Raises:
        BundleError: nothing there, or a folder that is no bundle.
        ManifestError: its manifest cannot be used.
    """
    folder = find(model)
    return Bundle(folder=folder, manifest=load_manifest(folder))


def check_files(bundle: Bundle, names: list[str] | None = None) -> None:
    """Compare files with the sizes and hashes in the manifest.

    Args:
        bundle: the bundle.
        names: which files; None for all that the manifest lists.

    Raises:
        IntegrityError: the first file that is missing, of another size, or of another hash.
    """
    for name in bundle.manifest.files if names is None else names:
        path = bundle.file(name)
        record = bundle.manifest.files[name]
        advice = "Copy the bundle again, or export the model again."
        if not path.is_file():
            raise IntegrityError(
                f"{path} is missing; the manifest expects {record.size_bytes} bytes "
                f"with sha256 {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
            )
        size_bytes = path.stat().st_size
        if size_bytes != record.size_bytes:
            raise IntegrityError(
                f"{path} has {size_bytes} bytes; the manifest expects {record.size_bytes} "
                f"with sha256 {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
            )
        actual = sha256_file(path)
        if actual != record.sha256:
            raise IntegrityError(
                f"{path} was altered: its sha256 is {actual}; the manifest expects {record.sha256}. {advice}",
                file=name,
                expected_sha256=record.sha256,
                actual_sha256=actual,
            )


def sha256_file(path: Path) -> str:
    """Hash a file in pieces; other threads run meanwhile."""
    import hashlib  # costs more at import than the rest of this module

    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def choose_variant(
    manifest: Manifest, variant: str, device_kind: str, features: frozenset[str] | None = None
) -> VariantChoice:
    """Pick the graph to run.

    Args:
        manifest: the bundle's.
        variant: a variant's name, or "auto".
        device_kind: "cpu", "cuda", or another accelerator, which gets what the CPU gets.
        features: of the processor, as in Variant.needs; None asks this one.

    Raises:
        ParamsError: the bundle has no such variant, or it is written for another kind of device or processor.
        BundleError: "auto" finds none for this kind of device.
    """
    names = ", ".join(manifest.variants)
    if variant != "auto":
        if variant not in manifest.variants:
            raise ParamsError(
                f"variant={variant!r} is not in bundle {manifest.name!r}; expected one of {names}, or 'auto'"
            )
        spec = manifest.variants[variant]
        if not _has_operators(spec, device_kind):
            others = ", ".join(
                name for name, each in manifest.variants.items() if suits(each, device_kind, features)
            )
            raise ParamsError(
                f"variant={variant!r} is written with operators that only {spec.target} has, and the device is "
                f"{device_kind}; expected one of {others or 'no variant of this bundle'}, or device={spec.target!r}"
            )
        if not suits(spec, device_kind, features):
            return _instead(manifest, variant)
        return VariantChoice(name=variant, spec=spec, reason=f"asked for{_costs(spec, device_kind)}")
    for name in (*_PREFERENCE.get(device_kind, _PREFERENCE["cpu"]), *manifest.variants):
        found = manifest.variants.get(name)
        if found is not None and suits(found, device_kind, features):
            costs = _costs(found, device_kind)
            return VariantChoice(
                name=name, spec=found, reason=f"auto: first of {names} that suits {device_kind}{costs}"
            )
    raise BundleError(f"bundle {manifest.name!r} has no variant for {device_kind}; it has {names}")


def _instead(manifest: Manifest, variant: str) -> VariantChoice:
    """The variant with the same numbers for processors that lack what this one needs."""
    other = f"u{variant}"
    if other in manifest.variants:
        return VariantChoice(
            name=other,
            spec=manifest.variants[other],
            reason=f"{variant} asked for, which needs VNNI; {other} has the same numbers without it",
        )
    raise ParamsError(
        f"variant={variant!r} needs a processor with VNNI: this one adds its 8-bit products up in 16 bits, which "
        f"overflow; expected such a processor, or a bundle with {other!r}. Export with --variants {other}, or use "
        "variant='fp32'."
    )


def suits(spec: Variant, device_kind: str, features: frozenset[str] | None = None) -> bool:
    """Whether that kind of device has what a variant needs; arguments are those of `choose_variant`."""
    if device_kind != "cpu":
        return _has_operators(spec, device_kind)
    there = graph_features() if features is None else features
    return _has_operators(spec, device_kind) and there.issuperset(spec.needs)


def _has_operators(spec: Variant, device_kind: str) -> bool:
    return spec.target == "cpu" or device_kind == spec.target


def _costs(spec: Variant, device_kind: str) -> str:
    if spec.target == "cuda" and spec.fidelity.num_texts == 0:
        return "; it was exported where no GPU could measure it: run `embedge verify --device cuda`"
    if device_kind != "cpu" or spec.dtype not in ("float16", "bfloat16"):
        return ""
    return (
        f"; the CPU computes in float32, so its {spec.dtype} weights are widened while it loads: half the file, but "
        "no less memory or time than fp32"
    )
