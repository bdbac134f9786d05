"""EdgeModel: which bundle and arguments it opens, and what it refuses."""

from __future__ import annotations

import gc
import shutil
import weakref

import pytest
from tests import bundles

import embedge
from embedge import (
    LLM,
    BundleError,
    EdgeModel,
    IntegrityError,
    ManifestError,
    ParamsError,
    ProviderUnavailableError,
    SessionError,
    TaskNotSupportedError,
)


def test_nothing_there(tmp_path) -> None:
    with pytest.raises(
        BundleError,
        match="no bundle at .*Make one of a folder, or of a checkpoint on the hub, with: embedge export ORG/nope",
    ):
        EdgeModel("nope")
    with pytest.raises(BundleError, match="no bundle at"):
        EdgeModel(tmp_path / "nope" / "no such")
    with pytest.raises(BundleError, match=r"no manifest.json"):
        EdgeModel(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="Hugging Face checkpoint"):
        EdgeModel(tmp_path)
    with pytest.raises(BundleError, match="is a file"):
        EdgeModel(tmp_path / "config.json")


def test_stored_names_are_found(tiny_embedder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    bundles.copy(tiny_embedder, tmp_path).rename(tmp_path / "stored")
    assert EdgeModel("stored").info.name == "tiny"
    with pytest.raises(BundleError, match="no bundle at 'organisation/stored'"):
        EdgeModel("organisation/stored")


def test_a_newer_schema_is_refused(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    manifest = bundle / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"schema_version": 6', '"schema_version": 99'))
    with pytest.raises(
        ManifestError, match=r"schema_version 99; this embedge reads 6. Install the embedge version \d"
    ):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"schema_version": 6', '"schema_version": 0'))
    with pytest.raises(ManifestError, match="Export the model again"):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"hidden_size"', '"hiden_size"'))
    with pytest.raises(ManifestError, match="hiden_size"):
        EdgeModel(bundle)
    manifest.write_text(text[: len(text) // 2])
    with pytest.raises(ManifestError, match="not a valid manifest"):
        EdgeModel(bundle)
    manifest.write_text(text.replace('"max_seq_len": 48', '"max_seq_len": 47'))
    with pytest.raises(ManifestError, match="was changed after export"):
        EdgeModel(bundle)


@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx"])
def test_damaged_files_are_named(tiny_embedder, tmp_path, name) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    record = EdgeModel(bundle).manifest.files[name]
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-20] + bytes(20))
    with pytest.raises(IntegrityError, match=f"{name} was altered.*{record.sha256}") as caught:
        EdgeModel(bundle)
    assert caught.value.file == name
    assert caught.value.expected_sha256 == record.sha256 != caught.value.actual_sha256
    (bundle / name).write_bytes(data[:-20])
    with pytest.raises(IntegrityError, match=f"{len(data) - 20} bytes; the manifest expects {len(data)}"):
        EdgeModel(bundle)
    (bundle / name).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        EdgeModel(bundle)


def test_a_graph_that_onnxruntime_refuses(tiny_embedder, tmp_path) -> None:
    bundle = bundles.copy(tiny_embedder, tmp_path)
    (bundle / "onnx" / "model.onnx").write_bytes(b"no graph")
    bundles.rewrite(bundle)
    with pytest.raises(BundleError, match=r"onnx/model.onnx is no ONNX graph: .*Export the model again"):
        EdgeModel(bundle)
    shutil.copy(tiny_embedder / "onnx" / "model.onnx", bundle / "onnx" / "model.onnx")
    bundles.edit_graph(bundle, lambda model: model.graph.node[0].ClearField("input"))
    with pytest.raises(SessionError, match=r"cannot load model.onnx"):
        EdgeModel(bundle)
    (bundle / "tokenizer.json").write_bytes(b"{}")
    bundles.rewrite(bundle)
    with pytest.raises(BundleError, match="tokenizer.json is none that embedge exported: .*model"):
        EdgeModel(bundle)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "gpu"}, ParamsError, "device='gpu' is not known"),
        ({"device": "cpu:1"}, ParamsError, "device='cpu:1'"),
        ({"device": None}, ParamsError, "device=None"),
        ({"variant": "int9"}, ParamsError, "expected one of fp32, or 'auto'"),
        ({"threads": 0}, ParamsError, "threads=0"),
        ({"max_batch_tokens": 1.5}, ParamsError, "max_batch_tokens=1.5"),
        ({"max_model_len": 49}, ParamsError, "takes 1 to 48 tokens"),
        ({"profile": "fast"}, ParamsError, "latency, throughput, background"),
        ({"compat": "0.9"}, ParamsError, "compat='0.9'"),
        ({"runner": "generate"}, ParamsError, "only pools"),
        ({"pooler_config": 3}, ParamsError, "pooler_config is a int; expected PoolerConfig or None"),
        ({"task": "classify"}, TaskNotSupportedError, "its tasks are embed, token_embed"),
        ({"task": "chat"}, ParamsError, "task='chat' is not known"),
        ({"truncate_prompt_tokens": 49}, ParamsError, "truncate_prompt_tokens=49"),
        ({"truncate_prompt_tokens": "a"}, ParamsError, "truncate_prompt_tokens"),
        ({"pooling_plugin": "nope"}, embedge.PluginError, "'nope' is not registered"),
        ({"foo": 1}, TypeError, "foo"),
    ],
)
def test_wrong_arguments(tiny_embedder, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        EdgeModel(tiny_embedder, **arguments)


def test_cuda_is_refused_where_there_is_none(tiny_embedder) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ProviderUnavailableError, match="Install onnxruntime-gpu"):
        EdgeModel(tiny_embedder, device="cuda")


def test_info_says_what_runs(model) -> None:
    assert LLM is EdgeModel
    info = model.info
    assert (info.variant, info.device, info.execution_provider) == ("fp32", "cpu", "CPUExecutionProvider")
    assert info.fingerprint == model.manifest.fingerprint
    assert repr(model) == "EdgeModel('tiny', variant='fp32', device='cpu')"


def test_closing_frees_the_graph_at_once(tiny_embedder) -> None:
    model = EdgeModel(tiny_embedder, device="cpu", threads=2, max_batch_tokens=64)
    model.embed("alone")
    model.embed(["one of many texts that several workers embed"] * 100)
    assert model._verbs is not None
    sessions = weakref.ref(model._verbs.engine.sessions)
    gc.disable()  # a circle would wait for it
    try:
        model.close()
        assert sessions() is None
    finally:
        gc.enable()


def test_closed(tiny_embedder) -> None:
    with EdgeModel(tiny_embedder) as loaded:
        loaded.embed("food")
    with pytest.raises(SessionError, match="is closed"):
        loaded.embed("food")


def test_the_bundle_that_is_meant(tiny_embedder) -> None:
    with EdgeModel(tiny_embedder) as model:
        stated = model.info.fingerprint
    for known in (stated, stated[:12]):
        EdgeModel(tiny_embedder, fingerprint=known).close()
    with pytest.raises(
        BundleError, match=f"has the fingerprint {stated}; fingerprint='{'0' * 12}' was expected"
    ):
        EdgeModel(tiny_embedder, fingerprint="0" * 12)
    for wrong in (stated[:11], stated.upper(), ""):
        with pytest.raises(ParamsError, match="expected 12 to 64 of its hexadecimal digits"):
            EdgeModel(tiny_embedder, fingerprint=wrong)
    with pytest.raises(ParamsError, match="fingerprint is a int, 3; expected text"):
        EdgeModel(tiny_embedder, fingerprint=3)
