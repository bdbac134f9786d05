"""`--from-onnx` of files that onnxruntime's own quantizer wrote, and of files that miss their gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from embedge import EdgeModel
from embedge.cli.main import main
from embedge.errors import ExportError, VerificationError
from embedge.manifest import load_manifest, load_probes
from embedge.runtime import EXACT_INT8
from embedge.verify import verify
from embedge_export.dry_run import plan_export
from embedge_export.graph.given_form import needs, precision
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.write import graph_files

TEXTS = ["a man is eating food", "berlin", "the capital of germany is berlin", "water and light for plants"]


@pytest.fixture(scope="module")
def plain(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint beside an ONNX file of its hidden states, as another exporter would write it."""
    folder = tmp_path_factory.mktemp("plain") / "tiny"
    shutil.copytree(tiny_bert, folder)
    bundle = export(ExportSpec(model=str(tiny_bert), output=folder.parent / "bundle", opset=18))
    model = onnx.load(str(bundle / "onnx" / "model.onnx"))
    kept = [value for value in model.graph.output if value.name == "last_hidden_state"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def wrapped(plain: Path, tmp_path: Path, model: onnx.ModelProto, **options: object) -> Path:
    onnx.save(model, str(tmp_path / "given.onnx"))
    spec = ExportSpec(
        model=str(plain), output=tmp_path / "out", from_onnx=tmp_path / "given.onnx", witness=False, **options
    )
    return export(spec)


def embedded(folder: Path) -> np.ndarray:
    with EdgeModel(folder, device="cpu") as model:
        return model.embed(TEXTS).numpy()


def as_lists(model: onnx.ModelProto) -> onnx.ModelProto:
    """Its weights in float_data and int32_data, as helper.make_tensor and onnxruntime's quantizer write them."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.ravel().tolist())
        )
        assert not tensor.raw_data
    return model


def dynamic(plain: Path, target: Path) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(plain / "model.onnx", target, weight_type=QuantType.QInt8)
    return onnx.load(str(target))


def static(plain: Path, target: Path) -> onnx.ModelProto:
    """Quantised as pairs of QuantizeLinear and DequantizeLinear around the same float operators."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            random = np.random.default_rng(0)
            names = [value.name for value in onnx.load(str(plain / "model.onnx")).graph.input]
            ids = [random.integers(5, 60, (1, 12)) for _ in range(8)]
            known = [
                {"input_ids": i, "attention_mask": np.ones_like(i), "token_type_ids": 0 * i} for i in ids
            ]
            self.feeds = iter([{name: each[name] for name in names} for each in known])

        def get_next(self):
            return next(self.feeds, None)

    quantize_static(
        plain / "model.onnx",
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather"],
    )
    return onnx.load(str(target))


def cast_and_multiplied(plain: Path, _: Path) -> onnx.ModelProto:
    """Weights alone in 8 bits, widened by Cast and Mul where they are used."""
    model = onnx.load(str(plain / "model.onnx"))
    nodes, stored = [], []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim != 2:
            continue
        scale = np.abs(values).max() / np.float32(127)
        rounded = np.rint(values / scale).astype(np.int8)
        stored += [
            numpy_helper.from_array(rounded, f"{tensor.name}_8"),
            numpy_helper.from_array(scale, f"{tensor.name}_s"),
        ]
        nodes += [
            helper.make_node("Cast", [f"{tensor.name}_8"], [f"{tensor.name}_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{tensor.name}_f", f"{tensor.name}_s"], [tensor.name]),
        ]
        model.graph.initializer.remove(tensor)
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])
    model.graph.initializer.extend(stored)
    return model


@pytest.mark.parametrize("quantised", [dynamic, static, cast_and_multiplied])
@pytest.mark.parametrize("lists", [False, True])
def test_every_way_to_store_8_bits_is_one(quantised, lists, plain, tmp_path, monkeypatch) -> None:
    model = quantised(plain, tmp_path / "quantised.onnx")
    if lists:
        model = as_lists(model)
    # weights beside the graph even here, where values in lists were lost
    monkeypatch.setattr(graph_files, "EXTERNAL_DATA_BYTES", 1000)
    monkeypatch.setattr(graph_files, "_SMALL_TENSOR_BYTES", 100)
    folder = wrapped(plain, tmp_path, model, accept_worse=True)
    (name,) = load_manifest(folder).variants
    assert name == "int8"
    assert load_manifest(folder).variants["int8"].data_files
    # weights that are widened first are multiplied as floats, on any processor
    assert load_manifest(folder).variants["int8"].needs == (
        () if quantised is cast_and_multiplied else (EXACT_INT8,)
    )
    import onnxruntime

    # what the file computes, asked by itself
    session = onnxruntime.InferenceSession(str(tmp_path / "given.onnx"), providers=["CPUExecutionProvider"])
    ids = np.array([[2, 7, 9, 11, 3]], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
    feeds = {value.name: feeds[value.name] for value in session.get_inputs()}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    ours = onnxruntime.InferenceSession(
        str(folder / load_manifest(folder).variants["int8"].file), providers=["CPUExecutionProvider"]
    )
    (again,) = ours.run(["last_hidden_state"], feeds)
    np.testing.assert_allclose(again, hidden, atol=1e-5)
    assert all(report.passed for report in verify(folder, device="cpu"))


@pytest.mark.parametrize(
    ("kind", "reduced", "needed"), [("QInt8", False, True), ("QInt8", True, False), ("QUInt8", False, False)]
)
def test_int8_of_7_bits_and_uint8_need_nothing(kind, reduced, needed, plain, tmp_path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = tmp_path / "quantised.onnx"
    kind = getattr(QuantType, kind)
    quantize_dynamic(plain / "model.onnx", target, weight_type=kind, reduce_range=reduced)
    assert needs(onnx.load(str(target))) == ((EXACT_INT8,) if needed else ())


def test_numbers_in_lists_are_kept_in_float32(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(graph_files, "EXTERNAL_DATA_BYTES", 1000)
    monkeypatch.setattr(graph_files, "_SMALL_TENSOR_BYTES", 100)
    folder = wrapped(plain, tmp_path, as_lists(onnx.load(str(plain / "model.onnx"))))
    assert load_manifest(folder).variants["fp32"].fidelity.max_abs_diff < 1e-5
    assert load_manifest(folder).variants["fp32"].data_files


def worse(plain: Path, factor: float = 1.02) -> onnx.ModelProto:
    model = onnx.load(str(plain / "model.onnx"))
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return model


def test_a_worse_file_is_accepted_knowingly(plain, tmp_path, capsys) -> None:
    with pytest.raises(VerificationError, match=r"is not the checkpoint: .*--accept-worse wraps the file"):
        wrapped(plain, tmp_path, worse(plain))
    folder = wrapped(plain, tmp_path, worse(plain), accept_worse=True)
    manifest = load_manifest(folder)
    fidelity = manifest.variants["fp32"].fidelity
    assert fidelity.accepted.startswith("variant fp32 is not the checkpoint: task embed, built-in text 0")
    assert fidelity.max_abs_diff > 1e-4
    assert fidelity.end_to_end.cosine_min < 1
    assert load_probes(folder).tolerances["fp32"] > 1e-4
    assert all(report.passed for report in verify(folder, device="cpu"))
    assert main(["inspect", str(folder)]) == 0
    assert "fp32 was accepted though: variant fp32 is not the checkpoint" in capsys.readouterr().out


def test_a_worse_file_is_accepted_against_probes(plain, tmp_path) -> None:
    hub = tmp_path / "hub"
    shutil.copytree(plain, hub, ignore=shutil.ignore_patterns("*.safetensors"))
    rows = embedded(plain.parent / "bundle")
    probes = tmp_path / "probes.json"
    probes.write_text(
        json.dumps([{"text": t, "embedding": r.tolist()} for t, r in zip(TEXTS, rows, strict=True)])
    )
    with pytest.raises(VerificationError, match="does not agree with the probes"):
        wrapped(hub, tmp_path, worse(plain, 1.5), probes=probes)
    folder = wrapped(hub, tmp_path, worse(plain, 1.5), probes=probes, accept_worse=True)
    assert "does not agree with the probes" in load_manifest(folder).variants["fp32"].fidelity.accepted


def test_what_is_no_number_is_never_accepted(plain, tmp_path) -> None:
    with pytest.raises(VerificationError):
        wrapped(plain, tmp_path, worse(plain, float("nan")), accept_worse=True)
    assert not (tmp_path / "out").exists()


def test_a_good_file_is_not_called_worse(plain, tmp_path) -> None:
    folder = wrapped(plain, tmp_path, onnx.load(str(plain / "model.onnx")), accept_worse=True)
    assert load_manifest(folder).variants["fp32"].fidelity.accepted is None


def renamed(plain: Path, name: str) -> onnx.ModelProto:
    model = onnx.load(str(plain / "model.onnx"))
    (value,) = model.graph.output
    model.graph.node.append(helper.make_node("Identity", [value.name], [name]))
    value.name = name
    return model


def test_an_output_is_named_by_the_caller(plain, tmp_path) -> None:
    model = renamed(plain, "1812")
    with pytest.raises(ExportError, match=r"gives the outputs 1812 .*Name one with --output-name"):
        wrapped(plain, tmp_path, model)
    with pytest.raises(ExportError, match=r"gives the outputs 1812 .*expected 1813 with"):
        wrapped(plain, tmp_path, model, output_name="1813")
    folder = wrapped(plain, tmp_path, model, output_name="1812")
    np.testing.assert_allclose(embedded(folder), embedded(plain.parent / "bundle"), atol=1e-6)


def test_a_dry_run_looks_at_the_file(plain, tmp_path, capsys) -> None:
    path = tmp_path / "given.onnx"
    onnx.save(cast_and_multiplied(plain, path), str(path))
    command = ["export", str(plain), "-o", str(tmp_path / "out"), "--from-onnx", str(path), "--dry-run"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "int8; given as a file" in printed
    assert "onnx/model_int8.onnx" in printed
    assert "report.html" not in printed
    assert not (tmp_path / "out").exists()
    onnx.save(renamed(plain, "x"), str(path))
    assert main(command) == 1
    assert "--output-name" in capsys.readouterr().err
    assert main([*command, "--output-name", "x"]) == 0


def test_a_dry_run_names_the_files_that_wrapping_writes(plain, tmp_path) -> None:
    spec = ExportSpec(
        model=str(plain), output=tmp_path / "out", from_onnx=plain / "model.onnx", witness=False
    )
    planned = plan_export(spec)
    export(spec)
    graphs = {name for name in planned.files if name.startswith("onnx/")}
    assert graphs == {f"onnx/{path.name}" for path in (tmp_path / "out" / "onnx").iterdir()}
    assert not {"report.html", "README.md"} & {
        *planned.files,
        *(path.name for path in (tmp_path / "out").iterdir()),
    }


@pytest.mark.parametrize("options", [{"output_name": "x"}, {"accept_worse": True}])
def test_what_is_about_a_file_needs_one(options) -> None:
    with pytest.raises(ExportError, match="is given without from_onnx"):
        ExportSpec(model="x", **options)


def test_a_float_file_is_none_of_8_bits(plain) -> None:
    assert precision(onnx.load(str(plain / "model.onnx"))) == ("fp32", "float32")
