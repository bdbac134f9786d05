"""Probes replayed at loading: by need, once or always; a variant that misses them gives way to the next."""

from __future__ import annotations

import logging
import shutil

import msgspec
import numpy as np
import pytest
from tests import bundles

from embedge import BundleError, EdgeModel, ParamsError, PoolerConfig, SessionError
from embedge.manifest import load_manifest, load_probes
from embedge.testing import assert_embeddings_close, tiny_bundle

TEXT = "the river is cold"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def with_variants(folder, **seeds):
    """A tiny bundle with a variant per name, each with the weights of a seed; the probes are those of seed 0."""
    bundle = tiny_bundle(folder / "bundle")
    first = load_manifest(bundle).variants["fp32"]
    variants = {}
    for name, seed in seeds.items():
        file = f"onnx/{name}.onnx"
        shutil.copy(tiny_bundle(folder / f"seed-{seed}", seed=seed) / first.file, bundle / file)
        variants[name] = msgspec.structs.replace(first, file=file)
    probes = load_probes(bundle)
    probes = msgspec.structs.replace(probes, tolerances=dict.fromkeys(seeds, 1e-4))
    (bundle / "probes.json").write_bytes(msgspec.json.encode(probes))
    record = load_manifest(bundle).files[first.file]
    files = dict.fromkeys((spec.file for spec in variants.values()), record)
    bundles.rewrite(
        bundle,
        lambda m: msgspec.structs.replace(m, variants=variants, files=m.files | files),
    )
    return bundle


def loaded(bundle, **options):
    with EdgeModel(bundle, device="cpu", threads=1, **options) as model:
        return model.info, model.embed(TEXT).numpy()


@pytest.fixture
def replayed(monkeypatch):
    """Variants whose probes were computed, one after another."""
    from embedge._calls import replaying

    seen, replay = [], replaying.replay
    monkeypatch.setattr(
        replaying, "replay", lambda engine: seen.append(engine.info.variant) or replay(engine)
    )
    return seen


def test_a_variant_that_misses_its_probes_gives_way_to_the_next(tmp_path, caplog) -> None:
    bundle = with_variants(tmp_path, uint8=3, fp32=0)
    right = loaded(tiny_bundle(tmp_path / "right"))[1]
    wrong = loaded(bundle, variant="uint8")[1]
    assert np.abs(right - wrong).max() > 0.1
    with caplog.at_level(logging.WARNING, logger="embedge"):
        info, row = loaded(bundle, variant="uint8", probes="once")
    assert info.variant == "fp32"
    assert "uint8 refused on this machine" in info.variant_reason
    assert "variant uint8 is refused on this machine: " in caplog.text
    assert_embeddings_close(row, right)


def test_the_outcome_is_kept_by_bundle_processor_and_onnxruntime(tmp_path, replayed, monkeypatch) -> None:
    bundle = with_variants(tmp_path, uint8=3, fp32=0)
    for _ in range(2):
        assert loaded(bundle, variant="uint8", probes="once")[0].variant == "fp32"
    assert replayed == ["uint8", "fp32"]
    assert loaded(bundle, probes="never")[0].variant_reason.startswith("auto")
    assert loaded(bundle, probes="once")[0].variant_reason.startswith("auto")
    assert replayed == ["uint8", "fp32"]
    assert loaded(bundle, probes="always")[0].variant_reason.startswith("auto")
    assert replayed.pop() == "fp32"
    loaded(bundle, probes="always")
    assert replayed == ["uint8", "fp32", "fp32"]
    other = tiny_bundle(tmp_path / "other", seed=5)
    loaded(other, probes="once")
    assert replayed[3:] == ["fp32"]
    from embedge._engine import replayed as records

    monkeypatch.setattr(records, "cpu_name", lambda: "another processor")
    loaded(bundle, probes="once")
    assert replayed[4:] == ["fp32"]
    monkeypatch.setattr(records, "import_onnxruntime", lambda: type("", (), {"__version__": "9.9"}))
    loaded(bundle, probes="once")
    assert replayed[5:] == ["fp32"]


def test_a_record_that_cannot_be_read_or_written_only_costs_a_replay(
    tmp_path, home, replayed, monkeypatch
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    loaded(bundle, probes="once")
    (kept,) = (home / ".probes").iterdir()
    kept.write_text("{")
    loaded(bundle, probes="once")
    loaded(bundle, probes="once")
    assert len(replayed) == 2
    shutil.rmtree(home)
    home.write_text("no folder")
    loaded(bundle, probes="once")
    loaded(bundle, probes="once")
    assert len(replayed) == 4
    monkeypatch.setenv("EMBEDGE_HOME", "~nobody-of-this-name/store")
    loaded(bundle, probes="once")
    loaded(bundle, probes="once")
    assert len(replayed) == 6


def test_no_variant_that_gives_its_numbers_is_a_sentence(tmp_path) -> None:
    bundle = with_variants(tmp_path, uint8=3, fp32=4)
    for _ in range(2):
        with pytest.raises(
            SessionError, match=r"no variant that computes on this machine.*fp32: .*uint8: .*allowed"
        ):
            loaded(bundle, probes="once")


def test_an_answer_that_is_no_number_is_a_miss(tmp_path, caplog) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    probes = load_probes(bundle)
    asked = tuple(msgspec.structs.replace(probe, prompt="nan") for probe in probes.probes)
    (bundle / "probes.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(probes, probes=asked)))
    bundles.rewrite(bundle)
    with pytest.raises(SessionError, match="no variant"):
        loaded(bundle, probes="always")


def test_probes_are_asked_without_the_callers_own_pooling_and_limits(tmp_path, replayed) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    options = {
        "pooler_config": PoolerConfig(pooling_type="CLS"),
        "max_model_len": 3,
        "truncate_prompt_tokens": -1,
    }
    info, row = loaded(bundle, probes="always", **options)
    assert replayed == ["fp32"]
    assert info.max_seq_len == 3
    assert_embeddings_close(row, loaded(bundle, **options)[1], atol=0)


@pytest.mark.parametrize("name", ["tiny_embedder", "tiny_cross_encoder", "tiny_token_classifier"])
def test_probes_of_exported_bundles(name, request, replayed) -> None:
    with EdgeModel(request.getfixturevalue(name), device="cpu", probes="once") as model:
        assert model.info.variant == "fp32"
    assert replayed == ["fp32"]


def test_a_bundle_without_probes_is_refused_where_they_are_asked_for(tmp_path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "token_classify")
    with pytest.raises(BundleError, match="holds no probes, so probes='once' has nothing to replay"):
        EdgeModel(bundle, device="cpu", probes="once")


def test_doctor_names_what_was_refused(tmp_path, capsys) -> None:
    from embedge.cli.main import main

    loaded(with_variants(tmp_path, uint8=3, fp32=0), variant="uint8", probes="once")
    assert main(["doctor"]) == 0
    assert "tiny-embed uint8 (" in capsys.readouterr().out


def test_an_unknown_wish_is_named(tmp_path) -> None:
    with pytest.raises(ParamsError, match="probes='often' is not known; expected one of never, once, always"):
        loaded(tiny_bundle(tmp_path), probes="often")
