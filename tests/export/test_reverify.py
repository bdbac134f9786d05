"""`embedge export --only-verify`: a bundle is held against its checkpoint again, and states what it lacked."""

import hashlib
import shutil
import subprocess
import sys

import msgspec
import pytest
from tests.export import architectures, tiny_kinds
from tests.export.tiny import make_bert

from embedge.cli.main import main
from embedge.errors import ExportError, IntegrityError, MissingExtraError, VerificationError
from embedge.manifest import load_manifest
from embedge_export.pipeline import export
from embedge_export.reverify import reverify
from embedge_export.spec import ExportSpec
from embedge_export.verify import questions
from embedge_export.verify.in_torch import InTorch
from embedge_export.write.manifest import replace_manifest


@pytest.fixture(scope="module")
def bundle(tiny_bert, tmp_path_factory):
    """Compared with torch and with the checkpoint's own library."""
    return export(ExportSpec(model=str(tiny_bert), output=tmp_path_factory.mktemp("bundles") / "tiny"))


@pytest.fixture(scope="module")
def light_bundle(tiny_bert, tmp_path_factory):
    """Compared with numpy alone, in two precisions."""
    output = tmp_path_factory.mktemp("bundles") / "light"
    return export(
        ExportSpec(model=str(tiny_bert), output=output, reference="numpy", variants=("fp32", "fp16"))
    )


@pytest.fixture
def copy(light_bundle, tmp_path):
    return shutil.copytree(light_bundle, tmp_path / "copy")


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def command(bundle, checkpoint, *flags):
    return main(["export", "--only-verify", str(bundle), "--source", str(checkpoint), *flags])


def test_a_light_bundle_says_so(light_bundle):
    manifest = load_manifest(light_bundle)
    assert manifest.reference.name == "numpy"
    assert manifest.variants["fp32"].fidelity.end_to_end.reference == "numpy"
    assert manifest.variants["fp16"].fidelity.end_to_end.reference == "fp32"
    assert manifest.witness.reason == "left out by --reference numpy"
    card = (light_bundle / "README.md").read_text("utf-8")
    page = (light_bundle / "report.html").read_text("utf-8")
    assert "largest difference from numpy" in card
    assert "left out by --reference numpy" in card
    assert f"compared with the checkpoint in numpy {manifest.reference.version}, float32" in page
    assert "torch" not in card.replace("left out by --reference numpy", "")


def test_the_fingerprint_is_that_of_the_route_with_torch(bundle, light_bundle, tiny_bert, tmp_path):
    both = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "b", variants=("fp32", "fp16")))
    assert load_manifest(both).fingerprint == load_manifest(light_bundle).fingerprint
    assert load_manifest(bundle).reference.name == "torch"


def test_a_light_bundle_states_torch_and_library_once_they_were_asked(copy, tiny_bert, capsys):
    before, files = load_manifest(copy), hashes(copy)
    assert command(copy, tiny_bert) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{copy}\n"
    assert "SentenceTransformer of sentence-transformers now; fingerprint" in printed.err
    after = load_manifest(copy)
    assert after.reference.name == "torch"
    assert after.witness.door == "SentenceTransformer"
    assert after.witness.reason is None
    assert after.fingerprint == before.fingerprint
    exact, half = (after.variants[name].fidelity for name in ("fp32", "fp16"))
    assert exact.end_to_end.reference == "torch"
    assert 0 < exact.max_abs_diff <= 1e-5
    assert exact.max_abs_diff != before.variants["fp32"].fidelity.max_abs_diff
    assert half.end_to_end == before.variants["fp16"].fidelity.end_to_end
    changed = {name for name, digest in hashes(copy).items() if files.get(name) != digest}
    assert changed == {"manifest.json"}
    assert set(hashes(copy)) == set(files)
    assert command(copy, tiny_bert) == 0
    assert "left as it is: compared before with torch" in capsys.readouterr().err


def test_with_dry_run_nothing_is_written(copy, tiny_bert, capsys):
    before = hashes(copy)
    assert command(copy, tiny_bert, "--dry-run") == 0
    assert "left as it is, as --dry-run asks; it would state torch" in capsys.readouterr().err
    assert hashes(copy) == before


def test_what_is_sound_and_complete_is_left_as_it_is(tiny_bert, bundle, capsys):
    before = {path: path.stat().st_mtime_ns for path in [bundle, *bundle.rglob("*")]}
    assert command(bundle, tiny_bert) == 0
    assert "largest difference from torch" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in [bundle, *bundle.rglob("*")]} == before


def test_nothing_better_says_so_and_leaves_the_manifest(copy, tiny_bert, capsys):
    before = hashes(copy)
    assert command(copy, tiny_bert, "--reference", "numpy") == 0
    printed = capsys.readouterr().err
    assert "left as it is: compared before with numpy" in printed
    assert "and with nothing better now" in printed
    assert hashes(copy) == before


def test_another_checkpoint_is_refused(copy, tmp_path, tiny_bert):
    before = hashes(copy)
    make_bert(tmp_path / "m", dense=((32, 16, "torch.nn.Identity"),))
    with pytest.raises(VerificationError, match=r"not made from these weights: 2_Dense/model.safetensors"):
        reverify(ExportSpec(model=str(tmp_path / "m"), output=copy))
    with pytest.raises(VerificationError, match=r"pooling of the bundle is .*MEAN.*the checkpoint and flags"):
        reverify(ExportSpec(model=str(tiny_bert), output=copy, pooling=("CLS",)))
    assert hashes(copy) == before


def test_a_changed_file_is_refused(copy, tiny_bert):
    (copy / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"config.json"):
        reverify(ExportSpec(model=str(tiny_bert), output=copy))


def test_what_torch_denies_is_refused_and_not_stated(copy, tiny_bert, monkeypatch):
    before, hidden_states = hashes(copy), InTorch.hidden_states
    monkeypatch.setattr(InTorch, "hidden_states", lambda self, given: hidden_states(self, given) + 1e-3)
    with pytest.raises(VerificationError, match="variant fp32 is not the checkpoint"):
        reverify(ExportSpec(model=str(tiny_bert), output=copy))
    assert hashes(copy) == before


def test_a_manifest_that_cannot_be_written_is_left_whole(copy):
    before = hashes(copy)
    manifest = load_manifest(copy)
    gone = copy.parent / "gone"
    with pytest.raises(ExportError, match=r"manifest.json cannot be written: No such file"):
        replace_manifest(manifest, gone)
    replace_manifest(msgspec.structs.replace(manifest, reference=None), copy)
    assert load_manifest(copy).reference is None
    assert set(hashes(copy)) == set(before)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (tiny_kinds.qwen3_classifier, {}),
        (tiny_kinds.qwen3_reranker, {"task": "score"}),
        (tiny_kinds.reward_model, {"step_tag": "<step>"}),
        (tiny_kinds.splade, {}),
        (tiny_kinds.pylate, {}),
        (tiny_kinds.static, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_kind_is_the_same_bundle_without_torch(make, options, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "_QUICK_QUERIES", 8)
    folder = make(tmp_path / "m")
    light, whole = (
        export(
            ExportSpec(model=str(folder), output=tmp_path / name, reference=name, witness=False, **options)
        )
        for name in ("numpy", "torch")
    )
    assert load_manifest(light).fingerprint == load_manifest(whole).fingerprint
    assert load_manifest(light).reference.name == "numpy"


def test_what_is_only_traced_is_refused_without_torch(tmp_path):
    folder = architectures.make(tmp_path / "m", "t5", "embed")
    with pytest.raises(MissingExtraError, match="'t5' is exported with torch and transformers alone"):
        export(ExportSpec(model=str(folder), output=tmp_path / "out", reference="numpy"))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_wrapped_file_is_compared_in_numpy(light_bundle, tiny_bert, tmp_path):
    onnx = light_bundle / "onnx" / "model.onnx"
    spec = ExportSpec(model=str(tiny_bert), output=tmp_path / "out", from_onnx=onnx, reference="numpy")
    manifest = load_manifest(export(spec))
    assert manifest.reference.name == "numpy"
    assert 0 < manifest.variants["fp32"].fidelity.max_abs_diff <= 1e-5
    assert manifest.witness.reason == "left out by --reference numpy"


@pytest.mark.parametrize("kind", ["static", "qwen3_embedder", "bert_classifier"])
def test_a_light_export_imports_neither_torch_nor_transformers(kind, tmp_path):
    make = getattr(tiny_kinds, kind)
    folder = make(tmp_path / "m", "a", "b") if kind == "bert_classifier" else make(tmp_path / "m")
    code = (
        "import sys\nfrom embedge.cli.main import main\n"
        "status = main(['export', sys.argv[1], '-o', sys.argv[2], '--reference', 'numpy', '--quiet'])\n"
        "print(status, sorted({'torch', 'transformers', 'sentence_transformers', 'optimum'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "out"], text=True, capture_output=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr
    assert load_manifest(tmp_path / "out").reference.name == "numpy"
