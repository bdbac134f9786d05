"""The checkpoint's own library is asked for everything that a bundle offers, and is believed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata

import msgspec
import pytest
from tests.checkpoints import make
from tests.export.tiny import edit_json, make_bert
from tests.generated.trial import quick

from embedge.errors import VerificationError
from embedge.manifest import fingerprint, load_manifest
from embedge_export.pipeline import export
from embedge_export.report.words import witnessed
from embedge_export.reverify import reverify
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec
from embedge_export.verify.witness.call import call_witness
from embedge_export.write.manifest import write_manifest

pytestmark = [pytest.mark.filterwarnings("ignore")]
ST_6 = int(metadata.version("sentence-transformers").partition(".")[0]) >= 6
ON_TEXTS = {
    "embed",
    "embed without prompt",
    "embed with prompt 'query'",
    "embed_query",
    "embed_document",
    "similarity (cosine)",
    "score",
    "token_embed",
}


@pytest.fixture(autouse=True)
def few_documents():
    with quick():
        yield


def exported(name, tmp_path, listener=None, **options):
    checkpoint = make(name, tmp_path / "checkpoint")
    spec = ExportSpec(model=str(checkpoint), output=tmp_path / "bundle", **options)
    return spec, export(spec, listener)


@pytest.mark.parametrize(
    ("name", "options", "door", "asked"),
    [
        ("default-prompt", {}, "SentenceTransformer", ON_TEXTS),
        ("static-embedding", {}, "SentenceTransformer", {"embed", "similarity (cosine)", "score"}),
        ("splade", {}, "SparseEncoder", {"embed", "embed_sparse"}),
        pytest.param(
            "colbert", {}, "MultiVectorEncoder", {"score", "rerank"},
            marks=pytest.mark.skipif(not ST_6, reason="sentence-transformers has no MultiVectorEncoder before 6"),
        ),
        ("cross-encoder-bert-1", {}, "CrossEncoder", {"score", "score without activation", "rerank", "classify"}),
        ("qwen3-reranker-st", {}, "CrossEncoder", {"score", "score without activation", "rerank"}),
        ("regression", {}, "AutoModelForSequenceClassification", {"classify", "score without activation"}),
        (
            "classifier-multilabel", {}, "AutoModelForSequenceClassification",
            {"classify", "classify without activation", "classify pairs without activation"},
        ),
        ("token-classifier", {}, "AutoModelForTokenClassification", {"token_classify without activation"}),
        ("process-reward", {"step_tag": "<extra_0>"}, "AutoModelForTokenClassification", set()),
        ("bert", {}, "AutoModel", {"token_embed"}),
        ("t5-encoder", {"pooling": ("MEAN",)}, "T5EncoderModel", {"token_embed"}),
        ("splade-published", {"kind": "sparse"}, "SparseEncoder", {"embed", "embed_sparse", "similarity (dot)"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_library_is_asked_for_all_that_a_bundle_offers(tmp_path, name, options, door, asked):
    steps = []
    _, bundle = exported(name, tmp_path, steps.append, **options)
    witness = load_manifest(bundle).witness
    assert (witness.door, witness.reason) == (door, None)
    assert asked <= set(witness.asked)
    assert witness.max_abs_diff < 1e-3
    (line,) = (step.detail for step in steps if step.stage == "witness" and step.finished)
    package = "transformers" if door.endswith(("Model", "Classification")) else "sentence-transformers"
    assert line.startswith(f"{package} {metadata.version(package)}")
    assert f"{len(witness.asked)} question" in line


def test_model2vec_is_asked_where_it_is_installed(tmp_path):
    pytest.importorskip("model2vec")
    checkpoint = make("model2vec-quantized", tmp_path / "checkpoint")
    # beside a modules.json sentence-transformers is the library
    (checkpoint / "modules.json").unlink()
    bundle = export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))
    witness = load_manifest(bundle).witness
    assert (witness.door, witness.asked, witness.reason) == ("StaticModel", ("embed",), None)
    assert witness.versions == {"model2vec": metadata.version("model2vec")}


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": ("CLS",)},
        {"normalize": False},
        {"max_seq_len": 20},
        {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
        {"matryoshka": (8, 32)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_the_caller_states_is_no_difference(tiny_bert, tmp_path, options):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out", **options))
    assert load_manifest(bundle).witness.reason is None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("default-prompt", {"similarity": "dot"}, "similarity (dot), answer 0"),
        ("default-prompt", {"prompts": {"query": "", "document": "", "passage": ""}}, "embed, answer 0"),
        ("default-prompt", {"max_seq_len": 9}, "embed, answer"),
        ("pool-mean-old", {"normalize": False}, "embed, answer 0"),
        ("classifier-single-label", {"labels": (1, 0, 2)}, "classify, answer 0"),
        ("classifier-multilabel", {"activation": "softmax"}, "classify, answer 0"),
    ],
)
def test_a_fact_that_was_misread_is_found(tmp_path, name, changes, words):
    spec, bundle = exported(name, tmp_path, witness=False)
    manifest = load_manifest(bundle)
    assert manifest.witness.reason == "left out by --no-witness"
    checkpoint = open_checkpoint(spec).checkpoint
    if head := manifest.head:
        order = changes.get("labels", range(len(head.labels)))
        head = msgspec.structs.replace(
            head,
            labels=tuple(head.labels[i] for i in order),
            activation=changes.get("activation", head.activation),
        )
        # the names by which the answers are told apart are the bundle's
        checkpoint = msgspec.structs.replace(
            checkpoint, what=msgspec.structs.replace(checkpoint.what, head=head)
        )
        changes = {"head": head}
    changed = msgspec.structs.replace(manifest, **changes)
    write_manifest(msgspec.structs.replace(changed, fingerprint=fingerprint(changed)), bundle)
    spec = msgspec.structs.replace(spec, witness=True)
    with pytest.raises(VerificationError) as caught:
        call_witness(bundle, checkpoint, spec)
    assert words in str(caught.value)
    assert "Nothing was written" in str(caught.value)


def test_an_export_goes_on_without_the_library_and_says_so(tiny_bert, tmp_path, monkeypatch):
    version = metadata.version

    def without(package):
        if package == "sentence-transformers":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without)
    steps = []
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"), steps.append)
    said = "not compared with the checkpoint's own library: sentence-transformers is not installed"
    assert load_manifest(bundle).witness.words == said
    assert said in [step.detail for step in steps if step.stage == "witness"]
    for file in ("README.md", "report.html"):
        text = (bundle / file).read_text("utf-8").replace("&#x27;", "'")
        assert (
            "Not compared with the checkpoint's own library: sentence-transformers is not installed." in text
        )


def test_a_library_that_cannot_load_the_checkpoint_is_named_with_its_reason(tiny_bert, tmp_path, monkeypatch):
    import sentence_transformers

    def fail(*args, **kwargs):
        raise ImportError("this model needs einops.\nInstall it.")

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", fail)
    witness = load_manifest(export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))).witness
    version = metadata.version("sentence-transformers")
    assert witness.reason == f"sentence-transformers {version} cannot load it: this model needs einops"
    assert witness.versions["transformers"] == metadata.version("transformers")


def test_what_has_no_public_door_is_said_to_have_none(tmp_path):
    _, bundle = exported("qwen3-reranker", tmp_path, task="score", yes_token="yes", no_token="no")
    assert load_manifest(bundle).witness.reason == "no library has a public door to this causal reranker"


def test_the_fingerprint_is_that_of_the_bundle_alone(tiny_bert, tmp_path):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "with"))
    without = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "without", witness=False))
    assert load_manifest(bundle).fingerprint == load_manifest(without).fingerprint


def test_the_witness_is_quiet_and_leaves_torchs_threads_alone(tiny_bert, tmp_path, capfd):
    import torch

    spec = ExportSpec(model=str(tiny_bert), output=tmp_path / "out", witness=False)
    bundle = export(spec)
    threads = torch.get_num_threads()
    capfd.readouterr()
    record = call_witness(
        bundle, open_checkpoint(spec).checkpoint, msgspec.structs.replace(spec, witness=True)
    )
    assert record.reason is None
    assert capfd.readouterr() == ("", "")
    assert torch.get_num_threads() == threads


def test_only_verify_asks_the_library_again(tiny_bert, tmp_path):
    spec = ExportSpec(model=str(tiny_bert), output=tmp_path / "out", witness=False)
    bundle = export(spec)
    steps = []
    reverify(msgspec.structs.replace(spec, witness=True), steps.append)
    (line,) = (step.detail for step in steps if step.stage == "witness" and step.finished)
    assert line.startswith(f"sentence-transformers {metadata.version('sentence-transformers')}")
    assert load_manifest(bundle).witness.door == "SentenceTransformer"


def test_a_wrapped_file_is_witnessed_where_the_weights_are(tiny_bert, tmp_path):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "first"))
    onnx = bundle / "onnx" / "model.onnx"
    wrapped = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "second", from_onnx=onnx))
    assert load_manifest(wrapped).witness.door == "SentenceTransformer"
    alone = shutil.copytree(tiny_bert, tmp_path / "alone")
    (alone / "model.safetensors").unlink()
    spec = ExportSpec(
        model=str(alone), output=tmp_path / "third", from_onnx=onnx, probes=bundle / "probes.json"
    )
    assert load_manifest(export(spec)).witness.reason.startswith("the checkpoint has no weights here")


def test_the_report_names_the_witness_and_its_version(tiny_bert, tmp_path):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    manifest = load_manifest(bundle)
    words = witnessed(manifest)
    assert words.startswith(
        f"Compared with SentenceTransformer of sentence-transformers {metadata.version('sentence-transformers')} on "
        f"transformers {metadata.version('transformers')}, which loaded the checkpoint by itself"
    )
    assert "sentence-transformers" in (bundle / "README.md").read_text("utf-8")
    assert words in (bundle / "report.html").read_text("utf-8")
    many = msgspec.structs.replace(manifest.witness, asked=tuple(f"question {index}" for index in range(20)))
    assert "question 7 and 12 more" in witnessed(msgspec.structs.replace(manifest, witness=many))


def test_a_limit_too_large_to_compute_at_is_compared_by_tokens(tmp_path):
    spec, bundle = exported("qwen3-embedding", tmp_path)
    manifest = load_manifest(bundle)
    assert "tokens of a long text" in manifest.witness.asked
    changed = msgspec.structs.replace(manifest, max_seq_len=1024)
    write_manifest(msgspec.structs.replace(changed, fingerprint=fingerprint(changed)), bundle)
    with pytest.raises(VerificationError, match="tokens of a long text, answer 0 differs"):
        call_witness(bundle, open_checkpoint(spec).checkpoint, spec)


def test_stored_prompts_are_asked_one_by_one(tmp_path):
    make_bert(tmp_path / "m")
    edit = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    (tmp_path / "m" / "config_sentence_transformers.json").write_text("{}")
    edit_json(tmp_path / "m" / "config_sentence_transformers.json", **edit)
    bundle = export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    asked = load_manifest(bundle).witness.asked
    assert asked[:4] == (
        "embed", "embed without prompt", "embed with prompt 'query'", "embed with prompt 'document'",
    )  # fmt: skip


_EXPORT = """
import sys
from pathlib import Path
from embedge.manifest import load_manifest
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
folder = export(ExportSpec(model=sys.argv[1], output=Path(sys.argv[2]), reference="numpy"))
witness = load_manifest(folder).witness
print(witness.door, witness.reason, witness.asked, [name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_model2vec_is_asked_where_the_export_goes_without_torch(tmp_path):
    folder = make("model2vec", tmp_path / "m")
    (folder / "modules.json").unlink()  # with which sentence-transformers reads it, otherwise than model2vec
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _EXPORT, str(folder), str(tmp_path / "out")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout.splitlines()[-1] == "StaticModel None ('embed',) []"
