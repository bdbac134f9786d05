"""Checkpoints with one thing wrong each, through the command: one sentence that names it, and nothing written."""

import json
import struct

import pytest
from tests.checkpoints import BREAKAGES, break_checkpoint, make
from tests.export.tiny import edit_json, write_json

from embedge.cli.main import main
from embedge.errors import ExportError
from embedge_export.dry_run import plan_export
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

MESSAGES = {
    "pickle-only": "pickles only (pytorch_model.bin), which can run code when read; expected model.safetensors. "
    "Convert them where you trust the file: AutoModel.from_pretrained(MODEL).save_pretrained(NEW, safe_seria",
    "pickle-dense": r"the weights of 2_Dense are pickles only (pytorch_model.bin)",
    "nan-weights": "weight 'encoder.layer.0.attention.self.query.weight' holds NaN or infinity",
    "inf-dense": "weight '2_Dense/linear.bias' holds NaN or infinity",
    "missing-key": "the weights lack 'encoder.layer.1.output.dense.weight'",
    "wrong-shape": "'encoder.layer.0.intermediate.dense.weight' has shape (48, 32); config.json asks for (64, 32)",
    "truncated-weights": "model.safetensors in truncated-weights has ",
    "pointer-weights": "is a Git LFS pointer of ",
    "vocab-too-large": "the tokenizer has token id 1245, but the model's embedding has 1244 rows",
    "unknown-pooling-mode": "the Pooling module's mode is 'median'; expected some of cls, max, mean",
    "unknown-pooling-mode-old": "the Pooling module's mode is 'pooling_mode_median_tokens'",
    "unknown-module": "modules.json holds a Whitening module, which embedge does not know",
    "dense-chain-mismatch": "3_Dense takes rows of 64 components, but 2_Dense gives 96",
    "dense-pooling-mismatch": "2_Dense takes rows of 48 components, but the Pooling module gives 32",
    "bad-dense-activation": "activation 'custom_modules.Swirl' is not one that embedge knows",
    "call-dense-activation": "activation 'torch.hub.load' is not one that embedge knows",
    "bad-activation-fn": "activation 'custom_modules.Swirl' of the scores is not one that embedge knows",
    "symlink-outside": "tokenizer.json is a link that leads outside of the checkpoint",
    "path-outside": "/1_Pooling', which lies outside of its folder",
    "no-fast-tokenizer": "the tokenizer BertJapaneseTokenizer has no fast form",
    "no-tokenizer": "no-tokenizer holds no tokenizer; expected tokenizer.json",
    "labels-missing": "labels are missing: config.json has no id2label",
    "labels-missing-two": "labels are missing: config.json has no id2label",
    "labels-gap": "id2label in config.json has the keys 0, 1, 5; expected 0 to 2",
    "matryoshka-too-large": "Matryoshka size 64 does not fit; expected sizes from 1 to the embedding's 32",
    "remote-code": "brings its own Python code (auto_map in config.json), which exporting would run",
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_the_command_names_what_is_wrong_and_writes_nothing(kind, tmp_path, capsys):
    folder = break_checkpoint(kind, tmp_path / "in" / kind)
    capsys.readouterr()  # transformers 5 draws bars when it saves
    assert main(["export", str(folder), "-o", str(tmp_path / "out"), "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("embedge: ")
    assert printed.err.count("\n") == 1
    assert MESSAGES[kind] in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path):
    """transformers 5 makes one of tokenizer_config.json alone, which knows no word."""
    folder = make("bert-st", tmp_path / "m")
    for name in ("tokenizer.json", "vocab.txt"):  # the second of transformers 4 alone
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"m holds no tokenizer; expected tokenizer.json|cannot be loaded"):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))


def test_another_pooling_may_be_named_where_the_stated_one_is_unknown(tmp_path):
    folder = break_checkpoint("unknown-pooling-mode", tmp_path / "m")
    plan = plan_export(ExportSpec(model=str(folder), output=tmp_path / "out", pooling=("CLS", "MEAN")))
    assert plan.pooling == ("CLS", "MEAN")


def test_more_tokens_than_positions_are_refused(tmp_path):
    folder = make("bert-st", tmp_path / "m")
    with pytest.raises(ExportError, match=r"max_seq_len=513 is more than the \d+ tokens .* expected at most"):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out", max_seq_len=513))


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>not found</html>", struct.pack("<Q", 2) + b"[]"])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    folder = make("bert-st", tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ExportError, match=r"model.safetensors in m is no safetensors file of \d+ bytes"):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))


def test_an_index_left_beside_the_weights_is_passed_over(tmp_path):
    folder = make("bert-st", tmp_path / "m")
    write_json(
        folder / "model.safetensors.index.json", {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    )
    source = open_checkpoint(ExportSpec(model=str(folder), output=tmp_path / "out"))
    assert set(source.checkpoint.weights) == {"model.safetensors"}


def test_two_weights_for_one_name_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = make("bert-st", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    twice = "embeddings.word_embeddings.weight"
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "one.safetensors", metadata={"format": "pt"})
    save_file({twice: weights[twice] + 1}, folder / "two.safetensors", metadata={"format": "pt"})
    files = dict.fromkeys(weights, "one.safetensors") | {"another": "two.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": files})
    with pytest.raises(ExportError, match=rf"m holds two weights '{twice}', in one.safetensors and in two"):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))


def test_a_folder_that_is_no_checkpoint_is_called_so_whatever_lies_in_it(tmp_path):
    (tmp_path / "m").mkdir()
    outside = tmp_path / "secret.json"
    outside.write_text('{"model_type": "secret"}')
    for name in ("link", "x.json", "config_sentence_transformers.json", "README.md"):
        (tmp_path / "m" / name).symlink_to(outside)
    (tmp_path / "m" / "endless.json").symlink_to("/dev/zero")
    with pytest.raises(ExportError, match="m has no config.json; expected a Hugging Face checkpoint"):
        plan_export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    (tmp_path / "m" / "config.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(ExportError, match="is a link that leads outside of the checkpoint"):
        plan_export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))


@pytest.mark.parametrize("model_type", [None, ""])
def test_a_config_that_names_no_model_is_refused(model_type, tmp_path):
    folder = make("bert-st", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": model_type}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(
        ExportError, match="config.json of .* names no model_type; expected an architecture, as in"
    ):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))


def test_two_weights_of_one_header_are_refused(tmp_path):
    folder = make("bert-st", tmp_path / "m")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = data[8 : 8 + length].replace(b'"pooler.dense.bias"', b'"embeddings.LayerNorm.bias"', 1)
    file.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + length :])
    with pytest.raises(
        ExportError, match=r"holds two weights 'embeddings.LayerNorm.bias', in model.safetensors"
    ):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [("mapping", 10**6, "names rows up to 1000000"), ("weights", None, "the tensor weights has shape")],
)
def test_a_model2vec_whose_tensors_do_not_fit_is_refused(tmp_path, tensor, value, message):
    from safetensors.numpy import load_file, save_file

    folder = make("model2vec-quantized", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    if value is None:
        tensors[tensor] = tensors[tensor][1:].copy()
    else:
        tensors[tensor][0] = value
    save_file(tensors, folder / "model.safetensors")
    from embedge_export.pipeline import export

    with pytest.raises(ExportError, match=message):
        export(ExportSpec(model=str(folder), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model_type", [None, 3, ["bert"], "no-such"])
def test_a_config_of_no_known_architecture_is_refused(tmp_path, model_type):
    folder = make("bert-st", tmp_path / "m")
    edit_json(folder / "config.json", model_type=model_type)
    with pytest.raises(ExportError, match=r"config\.json|architecture"):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))
