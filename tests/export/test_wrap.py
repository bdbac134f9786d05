"""`--from-onnx`: files of other exporters become bundles, or are refused with what is wrong."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import TensorProto, helper
from tests.export import tiny_kinds
from tests.export.tiny import edit_json

from embedge import EdgeModel
from embedge.cli.main import main
from embedge.errors import ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge.verify import verify
from embedge_export.graph.given_form import precision
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

TEXTS = ["a man is eating food", "berlin", "the capital of germany is berlin", "water and light for plants"]


@pytest.fixture(scope="module")
def bundle(tiny_bert, tmp_path_factory):
    return export(ExportSpec(model=str(tiny_bert), output=tmp_path_factory.mktemp("bundles") / "tiny"))


@pytest.fixture
def hub(tiny_bert, bundle, tmp_path):
    """A repository of the Hub with an ONNX file and no weights."""
    folder = tmp_path / "hub" / "tiny"
    shutil.copytree(tiny_bert, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(bundle / "onnx", folder / "onnx")
    return folder


@pytest.fixture(scope="module")
def answers(bundle):
    with EdgeModel(bundle, device="cpu") as model:
        return model.embed(TEXTS).numpy()


def write_probes(path, rows):
    path.write_text(
        json.dumps([{"text": t, "embedding": r.tolist()} for t, r in zip(TEXTS, rows, strict=True)])
    )
    return path


def wrap(folder, tmp_path, **options):
    return export(
        ExportSpec(
            model=str(folder), output=tmp_path / "out", from_onnx=folder / "onnx" / "model.onnx", **options
        )
    )


def edit(folder, change):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))


def keep_outputs(*names, **renamed):
    def change(model):
        kept = [value for value in model.graph.output if value.name in (*names, *renamed)]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        for value in model.graph.output:
            if value.name in renamed:
                model.graph.node.append(helper.make_node("Identity", [value.name], [renamed[value.name]]))
                value.name = renamed[value.name]

    return change


def test_probes_are_enough(hub, answers, tmp_path):
    probes = write_probes(tmp_path / "probes.json", answers)
    written = wrap(hub, tmp_path, probes=probes)
    manifest = load_manifest(written)
    assert manifest.tasks == ("embed", "token_embed")
    assert set(manifest.source.weights_sha256) == {"model.onnx"}
    fidelity = manifest.variants["fp32"].fidelity
    assert (fidelity.num_texts, fidelity.max_abs_diff <= 1e-6) == (len(TEXTS), True)
    with EdgeModel(written, device="cpu") as model:
        assert_allclose(model.embed(TEXTS).numpy(), answers, atol=1e-6)
    assert all(report.passed and report.num_probes == len(TEXTS) for report in verify(written, device="cpu"))


@pytest.mark.parametrize(
    ("change", "tasks"),
    [
        (keep_outputs(last_hidden_state="last_hidden_state_"), None),
        (keep_outputs(last_hidden_state="token_embeddings"), ("embed", "token_embed")),
        (keep_outputs("last_hidden_state"), ("embed", "token_embed")),
        (keep_outputs("sentence_embedding"), ("embed",)),
    ],
    ids=["unknown", "sentence-transformers", "optimum", "pooled"],
)
def test_names_of_other_exporters(hub, answers, tmp_path, change, tasks):
    edit(hub, change)
    probes = write_probes(tmp_path / "probes.json", answers)
    if tasks is None:
        with pytest.raises(
            ExportError, match=r"gives the outputs last_hidden_state_ \(batch_size, .*sentence_emb"
        ):
            wrap(hub, tmp_path, probes=probes)
        return
    written = wrap(hub, tmp_path, probes=probes)
    assert load_manifest(written).tasks == tasks
    with EdgeModel(written, device="cpu") as model:
        assert_allclose(model.embed(TEXTS).numpy(), answers, atol=1e-6)


def test_the_probes_of_another_bundle_serve_too(hub, bundle, tmp_path):
    written = wrap(hub, tmp_path, probes=bundle / "probes.json")
    assert load_probes(written).probes == load_probes(bundle).probes
    assert load_manifest(written).variants["fp32"].fidelity.max_abs_diff <= 1e-6


def test_weights_and_torch_are_the_reference_where_they_are(tiny_bert, bundle, answers, tmp_path):
    folder = tmp_path / "full"
    shutil.copytree(tiny_bert, folder)
    shutil.copytree(bundle / "onnx", folder / "onnx")
    manifest = load_manifest(wrap(folder, tmp_path))
    assert manifest.variants["fp32"].fidelity.num_texts > 60
    assert set(manifest.source.weights_sha256) == {"model.onnx", "model.safetensors"}
    edit(folder, lambda model: scale_a_weight(model))
    with pytest.raises(VerificationError, match="differs from the float32 reference"):
        wrap(folder, tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []


def scale_a_weight(model):
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))


def test_it_works_without_torch(hub, answers, tmp_path):
    probes = write_probes(tmp_path / "probes.json", answers)
    arguments = [str(hub), "-o", str(tmp_path / "out"), "--from-onnx", str(hub / "onnx" / "model.onnx")]
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['optimum'] = None\n"
        "from embedge.cli.main import main\n"
        f"raise SystemExit(main(['export', *{[*arguments, '--probes', str(probes)]!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "largest difference on 4 probes" in done.stderr
    assert all(report.passed for report in verify(tmp_path / "out", device="cpu"))


def test_a_probe_that_disagrees_leaves_nothing(hub, answers, tmp_path, capsys):
    wrong = answers.copy()
    wrong[2] = answers[1]
    probes = write_probes(tmp_path / "probes.json", wrong)
    with pytest.raises(
        VerificationError, match=r"embedding of text 2 \('the capital.*differs from the bundle's"
    ):
        wrap(hub, tmp_path, probes=probes)
    write_probes(probes, answers[:, :16])
    with pytest.raises(VerificationError, match=r"has 16 components, the bundle's 32"):
        wrap(hub, tmp_path, probes=probes)
    write_probes(probes, answers)
    with pytest.raises(VerificationError, match=r"text 0.*Check --pooling"):
        wrap(hub, tmp_path, probes=probes, pooling=("CLS",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "probes.json"]


def test_a_classifier_is_wrapped(tmp_path):
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "a", "b", "c")
    bundle = export(ExportSpec(model=str(folder), output=tmp_path / "bundle"))
    shutil.copytree(bundle / "onnx", folder / "onnx")
    manifest = load_manifest(wrap(folder, tmp_path))
    assert manifest.tasks == ("classify",)
    assert manifest.graph.pooled == "logits"
    (folder / "model.safetensors").unlink()
    edit_json(folder / "config.json", id2label={"0": "a", "1": "b"})
    with pytest.raises(
        ExportError, match=r"output logits has 3 components; the checkpoint's files state 2 labels"
    ):
        wrap(folder, tmp_path / "second", probes=bundle / "probes.json")


def unknown_input(model):
    shape = ["batch_size", 2, "past", 8]
    model.graph.input.append(helper.make_tensor_value_info("past_key_values.0.key", TensorProto.FLOAT, shape))


def no_mask(model):
    kept = [value for value in model.graph.input if value.name != "attention_mask"]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def int32_ids(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def fixed_length(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128


def other_size(model):
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[-1].dim_value = 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_input, r"takes the input 'past_key_values.0.key', which embedge does not know"),
        (no_mask, r"has no input attention_mask"),
        (int32_ids, r"input input_ids is INT32; expected INT64"),
        (fixed_length, r"input input_ids has the shape \(batch_size, 128\); expected \(batch, sequence\)"),
        (other_size, r"output last_hidden_state has 48 components; the checkpoint's files state 32"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_graphs_that_do_not_fit_are_refused(hub, bundle, tmp_path, change, message):
    edit(hub, change)
    with pytest.raises(ExportError, match=message):
        wrap(hub, tmp_path, probes=bundle / "probes.json")
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def store_outside(folder, location="model.onnx_data"):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location=location, size_threshold=0)
    return folder / "onnx" / location


def test_external_data_is_read(hub, bundle, answers, tmp_path):
    store_outside(hub)
    written = wrap(hub, tmp_path, probes=bundle / "probes.json")
    assert load_manifest(written).variants["fp32"].data_files == ()
    with EdgeModel(written, device="cpu") as model:
        assert_allclose(model.embed(TEXTS).numpy(), answers, atol=1e-6)


def test_external_data_that_is_missing_or_elsewhere_is_refused(hub, bundle, tmp_path):
    data = store_outside(hub)
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"model.onnx_data has \d+ bytes; model.onnx reads up to byte \d+"):
        wrap(hub, tmp_path, probes=bundle / "probes.json")
    data.unlink()
    with pytest.raises(ExportError, match=r"keeps weights in model.onnx_data, which is missing"):
        wrap(hub, tmp_path, probes=bundle / "probes.json")
    path = hub / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"model.onnx_data", b"../../onnx_data"))
    with pytest.raises(
        ExportError, match=r"keeps weights in '../../onnx_data'; expected a plain file beside it"
    ):
        wrap(hub, tmp_path, probes=bundle / "probes.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no file of probes"),
        ('[{"text": "a"}]', "is no file of probes"),
        ("[]", "holds no probe"),
        (
            '{"tolerances": {}, "probes": [{"task": "classify", "prompt": "a", "expected": [1]}]}',
            "for the task",
        ),
    ],
)
def test_probes_that_cannot_be_used(hub, tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ExportError, match=message):
        wrap(hub, tmp_path, probes=tmp_path / "p.json")


def test_nothing_to_verify_with(hub, tmp_path):
    with pytest.raises(ExportError, match="nothing to verify model.onnx with.*Pass --probes"):
        wrap(hub, tmp_path)
    with pytest.raises(ExportError, match="probes are given without from_onnx"):
        ExportSpec(model="x", probes=tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_no_onnx_file(hub, bundle, tmp_path, content):
    (hub / "onnx" / "model.onnx").write_bytes(content)
    with pytest.raises(ExportError, match="model.onnx is no ONNX file"):
        wrap(hub, tmp_path, probes=bundle / "probes.json")


def test_the_precision_is_told_from_the_graph(bundle):
    model = onnx.load(str(bundle / "onnx" / "model.onnx"))
    assert precision(model) == ("fp32", "float32")
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    assert precision(model) == ("fp16", "float16")
    model.graph.node.append(helper.make_node("MatMulInteger", ["a", "b"], ["c"]))
    assert precision(model) == ("int8", "int8")


@pytest.mark.parametrize("flags", [["--probes", "p"], ["--output-name", "o"], ["--accept-worse"]])
def test_bad_usage_exits_with_2(flags, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tmp_path), *flags])
