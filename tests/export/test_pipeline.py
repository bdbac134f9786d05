"""What an export writes, and that it leaves nothing behind when it fails."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.export.tiny import edit_json, make_bert

from embedge import EdgeModel
from embedge.errors import ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import TEXTS


@pytest.fixture(scope="module")
def bundle(tiny_bert, tmp_path_factory):
    return export(ExportSpec(model=str(tiny_bert), output=tmp_path_factory.mktemp("bundles") / "tiny"))


def test_the_manifest_states_the_checkpoints_facts(bundle):
    manifest = load_manifest(bundle)
    assert manifest.name == "tiny-bert"
    assert manifest.tasks == ("embed", "token_embed")
    assert manifest.max_seq_len == 48
    assert manifest.normalize
    assert manifest.pooling.modes == ("MEAN",)
    assert manifest.embedding_size == 32
    assert manifest.tokenizer.prefix_ids == (2,)
    assert manifest.tokenizer.suffix_ids == (3,)
    fidelity = manifest.variants["fp32"].fidelity
    assert fidelity.num_texts == len(TEXTS) >= 60
    assert fidelity.max_abs_diff <= 1e-5
    assert fidelity.max_batch_diff <= 1e-5


def test_the_bundle_names_no_folder_of_this_machine(bundle, tiny_bert):
    for path in bundle.rglob("*"):
        if path.is_file():
            assert str(tiny_bert.parent).encode() not in path.read_bytes()


def test_weights_beside_the_graph_are_named_to_transformers_js(tiny_bert, bundle, tmp_path, monkeypatch):
    from embedge_export.write import graph_files as write

    assert "transformers.js_config" not in json.loads((bundle / "config.json").read_bytes())
    monkeypatch.setattr(write, "EXTERNAL_DATA_BYTES", 1000)
    monkeypatch.setattr(write, "_SMALL_TENSOR_BYTES", 1000)
    written = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    assert load_manifest(written).variants["fp32"].data_files == ("onnx/model.onnx_data",)
    config = json.loads((written / "config.json").read_bytes())
    assert config["transformers.js_config"] == {"use_external_data_format": {"model.onnx": True}}
    with EdgeModel(written, device="cpu") as outside, EdgeModel(bundle, device="cpu") as inside:
        texts = ["food", "city water"]
        assert np.abs(outside.embed(texts).numpy() - inside.embed(texts).numpy()).max() < 1e-6


def test_the_tokenizer_neither_cuts_nor_pads(tiny_bert, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_bert, checkpoint)
    edit_json(
        checkpoint / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 5}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
    )  # fmt: skip
    written = export(ExportSpec(model=str(checkpoint), output=tmp_path / "out"))
    stored = json.loads((written / "tokenizer.json").read_bytes())
    assert stored["truncation"] is None
    assert stored["padding"] is None


def test_exporting_twice_gives_the_same_bytes(bundle, tiny_bert, tmp_path):
    again = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "again"))
    names = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        if name.name not in ("manifest.json", "report.html"):  # figures of time and of the last digits
            assert (bundle / name).read_bytes() == (again / name).read_bytes(), name
    assert load_manifest(bundle).fingerprint == load_manifest(again).fingerprint


def test_the_first_output_is_the_hidden_states(bundle):
    graph = onnx.load(bundle / "onnx" / "model.onnx").graph
    assert [value.name for value in graph.output] == ["last_hidden_state", "sentence_embedding"]


def test_probes_cover_both_tasks(bundle):
    probes = load_probes(bundle)
    assert {probe.task for probe in probes.probes} == {"embed", "token_embed"}
    largest = max(abs(value) for probe in probes.probes for value in probe.expected)
    assert probes.tolerances == {"fp32": pytest.approx(1280 * 2**-23 * max(1, largest), rel=0.01)}


@pytest.mark.parametrize("modes", ["cls", "lasttoken", "max", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_mode_is_verified(modes, tmp_path):
    make_bert(tmp_path / "m", word_embedding_dimension=32, pooling_mode=modes)
    manifest = load_manifest(export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out")))
    assert manifest.variants["fp32"].fidelity.max_abs_diff <= 1e-5


def test_dense_modules_are_in_the_graph_and_beside_it(tmp_path):
    dense = ((64, 24, "torch.nn.modules.activation.Tanh"), (24, 8, "torch.nn.modules.linear.Identity"))
    make_bert(tmp_path / "m", dense=dense, word_embedding_dimension=32, pooling_mode=["cls", "mean"])
    bundle = export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out", matryoshka=(4, 8)))
    manifest = load_manifest(bundle)
    assert manifest.pooling.modes == ("CLS", "MEAN")
    assert manifest.embedding_size == 8
    assert manifest.matryoshka == (4, 8)
    assert manifest.graph.token == "last_hidden_state"
    assert [module.activation for module in manifest.modules] == ["Tanh", "Identity"]
    assert np.load(bundle / manifest.modules[0].file)["weight"].shape == (24, 64)


def test_a_dense_module_of_the_embedding_leaves_token_embeddings_alone(tmp_path):
    make_bert(tmp_path / "m", dense=((32, 8, "torch.nn.modules.activation.Tanh"),))
    bundle = export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    assert load_manifest(bundle).graph.token == "last_hidden_state"
    with EdgeModel(bundle, device="cpu") as model:
        assert model.encode("a man", pooling_task="token_embed")[0].outputs.data.shape == (4, 32)


def test_sentence_transformers_lower_casing_is_kept(tmp_path):
    make_bert(tmp_path / "m")
    edit_json(tmp_path / "m" / "sentence_bert_config.json", do_lower_case=True)
    edit_json(tmp_path / "m" / "tokenizer.json", normalizer=None)
    bundle = export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    with EdgeModel(bundle, device="cpu") as model:
        upper, lower = model.embed(["THE MAN", "the man"]).numpy()
    np.testing.assert_array_equal(upper, lower)


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


def test_altered_weights_fail_and_leave_nothing(tiny_bert, tmp_path, monkeypatch):
    read = StoredWeights.read

    def altered(self, tensor):
        values = read(self, tensor).copy()
        if tensor.name.endswith("LayerNorm.weight"):
            values[0] += 0.01
        return values

    monkeypatch.setattr(StoredWeights, "read", altered)
    with pytest.raises(
        VerificationError, match=r"built-in text \d+ .*differs .* by .*expected at most [1-5](\.\d)?e-05"
    ):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "stage", ["source", "graph", "heads", "write", "verify", "witness", "judge", "report"]
)
def test_ctrl_c_leaves_nothing(tiny_bert, tmp_path, stage):
    def interrupt(step):
        if step.stage == stage and step.finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"), interrupt)
    assert nothing_left(tmp_path)


def test_a_disk_that_runs_full_leaves_nothing(tiny_bert, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(self, data):
        if self.suffix == ".onnx":
            write(self, data[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        ExportError, match=r"out cannot be written: the disk has .* MB free, .* needs about .* MB"
    ):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    assert nothing_left(tmp_path)


def test_a_disk_that_is_full_is_refused_before_tracing(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    stages = []
    with pytest.raises(ExportError, match=r"the disk has 0\.0 MB free"):
        export(
            ExportSpec(model=str(tiny_bert), output=tmp_path / "out"), lambda step: stages.append(step.stage)
        )
    assert set(stages) == {"source"}
    assert nothing_left(tmp_path)


def test_weights_that_change_during_the_export_are_refused(tmp_path):
    make_bert(tmp_path / "m")

    def change(step):
        if step.stage == "write" and step.finished:
            with (tmp_path / "m" / "model.safetensors").open("ab") as stream:
                stream.write(b" ")

    with pytest.raises(ExportError, match="changed during the export"):
        export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out" / "b"), change)
    assert nothing_left(tmp_path / "out")


def test_force_replaces_a_bundle_and_nothing_else(bundle, tiny_bert, tmp_path):
    target = tmp_path / "out"
    shutil.copytree(bundle, target)
    with pytest.raises(ExportError, match=r"already holds a bundle; .*--force"):
        export(ExportSpec(model=str(tiny_bert), output=target))
    (target / "probes.json").unlink()
    export(ExportSpec(model=str(tiny_bert), output=target, force=True))
    assert (target / "probes.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (target / "manifest.json").unlink()
    with pytest.raises(ExportError, match="not empty and no bundle"):
        export(ExportSpec(model=str(tiny_bert), output=target, force=True))


def test_a_failed_replacement_keeps_the_old_bundle(bundle, tmp_path, tiny_bert):
    target = tmp_path / "out"
    shutil.copytree(bundle, target)

    def interrupt(step):
        if step.stage == "verify" and step.finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(ExportSpec(model=str(tiny_bert), output=target, force=True), interrupt)
    assert load_manifest(target).name == "tiny-bert"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_output_the_bundle_goes_to_the_store(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    assert export(ExportSpec(model=str(tiny_bert), name="org/mine")) == tmp_path / "org" / "mine"
    with EdgeModel("mine", device="cpu") as model:
        assert model.embed("a man").numpy().shape == (1, 32)
