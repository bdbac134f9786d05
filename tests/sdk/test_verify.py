"""What probes hold: answers before cut, normalisation and activation."""

from __future__ import annotations

import msgspec
import pytest
from tests import bundles

from embedge import ParamsError, PoolingParams
from embedge._calls import replaying
from embedge._engine import variant as choosing
from embedge._sessions.products import EXACT_INT8
from embedge.cli.main import main
from embedge.manifest import load_manifest, load_probes
from embedge.verify import raw_params, verify


@pytest.mark.parametrize(
    ("kind", "task", "expected"),
    [
        ("embed", "embed", PoolingParams(normalize=False)),
        ("embed", "token_embed", PoolingParams(normalize=False)),
        ("classify", "classify", PoolingParams(use_activation=False)),
        ("cross_encoder", "score", PoolingParams(use_activation=False)),
        ("token_classify", "token_classify", PoolingParams(use_activation=False)),
        ("late_interaction", "score", PoolingParams()),
        ("late_interaction", "token_embed", PoolingParams(normalize=False)),
    ],
)
def test_raw_answers_leave_out_what_comes_last(tiny, kind, task, expected) -> None:
    expected.truncate_prompt_tokens = -1
    assert raw_params(task, load_manifest(tiny(kind))) == expected


def test_raw_embeddings_are_whole_where_the_bundle_cuts_them(tiny) -> None:
    cut = tiny(changes={"matryoshka": (4, 8), "dimensions": 4})
    assert raw_params("embed", load_manifest(cut)).dimensions == 8


@pytest.fixture
def in_8_bits(tiny):
    """A bundle with int8, which needs exact products, and the same without that need as uint8."""
    folder = tiny()
    spec = load_manifest(folder).variants["fp32"]
    variants = {"int8": msgspec.structs.replace(spec, needs=(EXACT_INT8,)), "uint8": spec}
    probes = msgspec.structs.replace(load_probes(folder), tolerances=dict.fromkeys(variants, 1e-4))
    (folder / "probes.json").write_bytes(msgspec.json.encode(probes))
    bundles.rewrite(folder, lambda m: msgspec.structs.replace(m, variants=variants))
    return folder


def see(monkeypatch, module, *features: str) -> None:
    monkeypatch.setattr(module, "graph_features", lambda: frozenset(features))


def test_int8_that_was_forced_on_a_processor_that_overflows_fails(in_8_bits, monkeypatch, capsys) -> None:
    """Though its answers are within the tolerance: products may overflow where no probe shows it."""
    see(monkeypatch, choosing, EXACT_INT8)
    see(monkeypatch, replaying)
    forced, other = verify(in_8_bits, device="cpu")
    assert (forced.variant, forced.lacks, forced.passed) == ("int8", (EXACT_INT8,), False)
    assert forced.max_abs_diff <= forced.tolerance
    assert (other.variant, other.lacks, other.passed) == ("uint8", (), True)
    assert main(["verify", str(in_8_bits), "--device", "cpu"]) == 1
    seen = capsys.readouterr()
    assert "int8: " in seen.out
    assert "probes FAILED" in seen.out
    assert "this processor lacks exact_int8" in seen.out
    assert "variant int8 does not compute here" in seen.err


def test_a_variant_that_the_processor_cannot_compute_is_not_replaced_by_another(
    in_8_bits, monkeypatch, capsys
) -> None:
    for module in (choosing, replaying):
        see(monkeypatch, module)
    with pytest.raises(ParamsError, match=r"'int8' .* needs VNNI; .*\. Expected 'uint8', or a processor"):
        verify(in_8_bits, device="cpu", variants=("int8",))
    assert [report.variant for report in verify(in_8_bits, device="cpu", variants=("auto",))] == ["uint8"]
    assert main(["verify", str(in_8_bits), "--device", "cpu"]) == 0
    assert "int8: not replayed, as it needs a processor with VNNI" in capsys.readouterr().out
