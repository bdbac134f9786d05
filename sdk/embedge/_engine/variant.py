"""Which of a bundle's graphs runs on a kind of device, and why."""

from __future__ import annotations

import msgspec

from embedge._sessions.openvino import has_bfloat16
from embedge._sessions.products import graph_features
from embedge.errors import BundleError, ParamsError, did_you_mean
from embedge.manifest import Manifest, Variant

_PREFERENCE = {
    "cpu": ("fp32", "fp16", "int8", "uint8", "int4"),
    "cuda": ("fp16_cuda", "bf16_cuda", "fp16", "fp32"),
    "openvino": ("fp32_openvino", "bf16_openvino"),
}
_WRITTEN_BY = {
    "fp16_cuda": "--optimize-for cuda",
    "fp32_openvino": "--optimize-for openvino",
    "bf16_openvino": "--optimize-for openvino",
}
"""Flag of the export for variants that --variants alone does not give."""


class VariantChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The variant to run, and why this one."""

    name: str
    spec: Variant
    reason: str


def choose_variant(
    manifest: Manifest, variant: str, device_kind: str, features: frozenset[str] | None = None
) -> VariantChoice:
    """Pick the graph to run.

    Args:
        manifest: the bundle's.
        variant: a variant's name, or "auto".
        device_kind: "cpu", "cuda", "openvino", or another accelerator, which gets what the CPU gets.
        features: of the processor, as in Variant.needs; None asks this one.

    Raises:
        ParamsError: the bundle has no such variant, or it is written for another kind of device or processor.
        BundleError: "auto" finds none for this kind of device.
    """
    names = ", ".join(manifest.variants)
    if variant != "auto":
        if variant not in manifest.variants:
            raise ParamsError(
                f"variant={variant!r} is not in bundle {manifest.name!r}; expected one of {names}, or 'auto'."
                + (_how_to_add(variant) or did_you_mean(variant, manifest.variants))
            )
        spec = manifest.variants[variant]
        if not _has_operators(spec, device_kind):
            others = [name for name, each in manifest.variants.items() if suits(each, device_kind, features)]
            instead = (
                f"expected one of {', '.join(others)}, or device={spec.target!r}"
                if others
                else f"no variant of this bundle runs there. Pass device={spec.target!r}, or export the checkpoint "
                "with --variants fp32"
            )
            raise ParamsError(
                f"variant={variant!r} is written with operators that only {spec.target} has, and the device is "
                f"{device_kind}; {instead}"
            )
        if device_kind == "openvino":
            _check_bfloat16(variant, spec)
        elif not suits(spec, device_kind, features):
            return _instead(manifest, variant)
        return VariantChoice(name=variant, spec=spec, reason=f"asked for{_costs(spec, device_kind)}")
    for name in (*_PREFERENCE.get(device_kind, _PREFERENCE["cpu"]), *manifest.variants):
        found = manifest.variants.get(name)
        if found is not None and suits(found, device_kind, features):
            costs = _costs(found, device_kind)
            return VariantChoice(
                name=name, spec=found, reason=f"auto: first of {names} that suits {device_kind}{costs}"
            )
    if device_kind == "openvino":
        raise BundleError(
            f"bundle {manifest.name!r} has no variant for openvino; it has {names}. Export the checkpoint with "
            "--optimize-for openvino."
        )
    lacking = [name for name, each in manifest.variants.items() if _has_operators(each, device_kind)]
    if lacking:
        raise BundleError(_needs_vnni(manifest, lacking[0]))
    raise BundleError(
        f"bundle {manifest.name!r} has no variant for {device_kind}; it has {names}. Export the checkpoint with "
        "--variants fp32, or pass the device that these are made for"
    )


def _check_bfloat16(variant: str, spec: Variant) -> None:
    if spec.target == "openvino" and spec.dtype == "bfloat16" and not has_bfloat16():
        raise ParamsError(
            f"variant={variant!r} needs a processor that multiplies in bfloat16 (avx512_bf16, amx_bf16), which this "
            "one does not; expected 'fp32_openvino'"
        )


def _how_to_add(variant: str) -> str:
    """What to do for a variant that an export writes and this bundle lacks."""
    if variant not in {name for names in _PREFERENCE.values() for name in names}:
        return ""
    flag = _WRITTEN_BY.get(variant, f"--variants {','.join(dict.fromkeys(('fp32', variant)))}")
    return f" Export the checkpoint with {flag} to have it."


def _instead(manifest: Manifest, variant: str) -> VariantChoice:
    """The variant with the same numbers for processors that lack what this one needs."""
    other = f"u{variant}"
    if other in manifest.variants:
        return VariantChoice(
            name=other,
            spec=manifest.variants[other],
            reason=f"{variant} asked for, which needs VNNI; {other} has the same numbers without it",
        )
    raise ParamsError(_needs_vnni(manifest, variant))


def _needs_vnni(manifest: Manifest, variant: str) -> str:
    plain = ", or pass variant='fp32'" if "fp32" in manifest.variants else ""
    return (
        f"variant {variant!r} of bundle {manifest.name!r} needs a processor with VNNI: this one adds its 8-bit "
        f"products up in 16 bits, which overflow; expected such a processor, or a bundle with 'u{variant}'. Export "
        f"the checkpoint with --variants u{variant}{plain}."
    )


def suiting(manifest: Manifest, device_kind: str) -> tuple[str, ...]:
    """Variants that the device has what they need for; those that "auto" would take first come first."""
    order = dict.fromkeys((*_PREFERENCE.get(device_kind, _PREFERENCE["cpu"]), *manifest.variants))
    there = (name for name in order if name in manifest.variants)
    return tuple(name for name in there if suits(manifest.variants[name], device_kind))


def suits(spec: Variant, device_kind: str, features: frozenset[str] | None = None) -> bool:
    """Whether that kind of device has what a variant needs; arguments are those of `choose_variant`."""
    if device_kind == "openvino":
        return spec.target == "openvino" and (spec.dtype != "bfloat16" or has_bfloat16())
    if device_kind != "cpu":
        return _has_operators(spec, device_kind)
    there = graph_features() if features is None else features
    return _has_operators(spec, device_kind) and there.issuperset(spec.needs)


def why_unsuited(spec: Variant, device_kind: str) -> str:
    """Why `suits` does not hold, in words."""
    if spec.target == "cpu" and device_kind == "openvino":
        return "it is made for the CPU; use --device cpu"
    if spec.target == "openvino" and device_kind == "openvino":
        return "it needs a processor that multiplies in bfloat16"
    if spec.needs:
        return "it needs a processor with VNNI, and this one's 8-bit products overflow"
    return f"only {spec.target} has its operators; use --device {spec.target}"


def _has_operators(spec: Variant, device_kind: str) -> bool:
    return spec.target == "cpu" or device_kind == spec.target


def _costs(spec: Variant, device_kind: str) -> str:
    if spec.target == "cuda" and spec.fidelity.num_texts == 0:
        return "; it was exported where no GPU could measure it: run `embedge verify --device cuda`"
    if spec.target == "openvino" and spec.fidelity.num_texts == 0:
        return "; it was exported where no OpenVINO could measure it: run `embedge verify --device openvino`"
    if device_kind != "cpu" or spec.dtype not in ("float16", "bfloat16"):
        return ""
    return (
        f"; the CPU computes in float32, so its {spec.dtype} weights are widened while it loads: half the file, but "
        "no less memory or time than fp32"
    )
