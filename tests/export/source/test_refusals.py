"""Checkpoints that must not be exported, each with a message that names what is wrong."""

import json
import shutil

import pytest
from tests.export.tiny import edit_json, make_bert, write_json

from embedge import archive
from embedge.errors import ExportError
from embedge.testing import tiny_bundle
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec


@pytest.fixture
def checkpoint(tiny_bert, tmp_path):
    folder = tmp_path / "in" / "tiny-bert"
    shutil.copytree(tiny_bert, folder)
    return folder


def edit_weights(folder, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def pooling_of_another_size(folder):
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 64, "pooling_mode": "mean"})


def shard_outside(folder):
    no_weights(folder)
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "../../model.safetensors"}})


def missing_layer(folder):
    edit_json(folder / "config.json", num_hidden_layers=3)


def superfluous_layer(folder):
    edit_json(folder / "config.json", num_hidden_layers=1)


def no_config(folder):
    (folder / "config.json").unlink()


def broken_json(folder):
    (folder / "config.json").write_text("{")


def unknown_architecture(folder):
    edit_json(folder / "config.json", model_type="gpt2")


def unknown_similarity(folder):
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "jaccard"})


def unknown_default_prompt(folder):
    write_json(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "query"})


def code_of_its_own(folder):
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    write_json(folder / "modules.json", [*modules, {**modules[-1], "name": "swirl", "type": "mine.Swirl"}])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_weights, r"holds no weights; expected model.safetensors"),
        (pooling_of_another_size, r"rows of 64 components, but the transformer gives 32"),
        (shard_outside, r"names the path '../../model.safetensors', which lies outside"),
        (missing_layer, r"weights lack 'encoder.layer.2.*and 13 more"),
        (superfluous_layer, r"weights hold 'encoder.layer.1.*no place"),
        (no_config, r"has no config.json"),
        (broken_json, r"config.json is not valid JSON"),
        (unknown_architecture, r"'gpt2' is not an architecture that embedge knows"),
        (unknown_similarity, r"'jaccard' is not known"),
        (unknown_default_prompt, r"the default prompt 'query' is not stored"),
        (
            code_of_its_own,
            r"holds a Swirl module, which embedge does not know: mine.Swirl is the checkpoint's own",
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_refused(checkpoint, tmp_path, spoil, message):
    spoil(checkpoint)
    with pytest.raises(ExportError, match=f"(?s){message}"):
        export(ExportSpec(model=str(checkpoint), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        (((32, 8, "torch.nn.modules.activation.Tanhh"),), r"'torch.nn.modules.activation.Tanhh' is not one"),
        (((32, 8, "mine.Tanh"),), r"'mine.Tanh' is not one that embedge knows"),
        (
            ((32, 8, "torch.nn.Identity"), (9, 4, "torch.nn.Identity")),
            r"3_Dense takes rows of 9 components.*gives 8",
        ),
        (((33, 8, "torch.nn.Identity"),), r"2_Dense takes rows of 33 components.*gives 32"),
    ],
)
def test_dense_modules_that_do_not_fit_are_refused(tmp_path, dense, message):
    make_bert(tmp_path / "m", dense=dense)
    with pytest.raises(ExportError, match=message):
        export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))


def test_dense_weights_of_another_shape_are_refused(tmp_path):
    make_bert(tmp_path / "m", dense=((32, 8, "torch.nn.Identity"),))
    edit_json(tmp_path / "m" / "2_Dense" / "config.json", out_features=9)
    with pytest.raises(ExportError, match=r"linear.weight of shape \(8, 32\); expected \(9, 32\)"):
        export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "no/such/folder/here"}, "does not exist"),
        ({"model": ""}, "model is empty"),
        ({"max_seq_len": 0}, "max_seq_len=0 is out of range"),
        ({"opset": 9}, "opset=9 is out of range"),
        ({"matryoshka": (0, 16)}, "Matryoshka size 0"),
        ({"matryoshka": ()}, "Matryoshka size list is empty"),
        ({"task": "classify"}, "task 'classify' does not fit"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tiny_bert, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        export(ExportSpec(**{"model": str(tiny_bert), "output": tmp_path / "out", **arguments}))


def test_a_file_in_place_of_a_folder_is_refused(tiny_bert, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ExportError, match="is a file or link"):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    with pytest.raises(ExportError, match="is a file; expected the folder of a checkpoint"):
        export(ExportSpec(model=str(tmp_path / "out"), output=tmp_path / "other"))
    assert (tmp_path / "out").read_text() == "mine"


def test_what_needs_no_export_is_told_to_be_a_bundle(tmp_path, monkeypatch):
    stored = tiny_bundle(tmp_path / "stored")
    packed = archive.pack(stored, tmp_path / "packed.embedge")
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for model, message in (
        (str(stored), "stored is a bundle already, of .*; expected a checkpoint.* embedge add "),
        (
            "gone.embedge",
            "gone.embedge is named as an archive of a bundle, and not there; .* embedge add gone.embedge",
        ),
        (str(packed), "packed.embedge is an archive of a bundle; .* embedge add "),
        ("stored", "no folder.*The store has a bundle of this name, which needs no export: "),
        ("https://hub/org/name", "is a URL; expected .* such as org/name"),
    ):
        with pytest.raises(ExportError, match=message):
            export(ExportSpec(model=model, output=tmp_path / "other"))


@pytest.mark.parametrize(("given", "meant"), [("int9", "int8"), ("FP32", "fp32"), ("fp16_cude", "fp16_cuda")])
def test_a_near_variant_is_offered(given, meant):
    with pytest.raises(ExportError, match=f"Did you mean '{meant}'"):
        ExportSpec(model="m", variants=(given,))


def three_modules(folder):
    make_bert(
        folder,
        dense=((32, 8, "torch.nn.Identity"), (8, 16, "torch.nn.Identity"), (17, 4, "torch.nn.Identity")),
    )


def test_the_module_that_breaks_the_chain_is_named(tmp_path):
    three_modules(tmp_path / "m")
    with pytest.raises(ExportError, match=r"4_Dense takes rows of 17 components, but 3_Dense gives 16"):
        export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "1_Pooling/config.json", "model.safetensors"]
)
def test_a_file_that_changes_between_two_reads_is_named(checkpoint, tmp_path, monkeypatch, name):
    from embedge_export import pipeline

    real = pipeline.write_companions

    def change(*arguments):
        with (checkpoint / name).open("ab") as stream:
            stream.write(b" ")
        return real(*arguments)

    monkeypatch.setattr(pipeline, "write_companions", change)
    with pytest.raises(ExportError, match=f"{name} of tiny-bert changed during the export"):
        export(ExportSpec(model=str(checkpoint), output=tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_matryoshka_size_above_the_last_module_is_refused(tmp_path):
    make_bert(tmp_path / "m", dense=((32, 16, "torch.nn.Identity"),))
    with pytest.raises(
        ExportError, match=r"size 32 does not fit; expected sizes from 1 to the embedding's 16"
    ):
        export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out", matryoshka=(8, 32)))
