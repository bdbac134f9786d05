"""A bundle made without torch and transformers is the one that is made with them, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.checkpoints import make as make_checkpoint
from tests.export.architectures import make, model_class
from tests.export.verify.test_reference import KINDS
from tests.families.groups import BUILT, LOCAL

from embedge.errors import EmbedgeError, ExportError, MissingExtraError
from embedge.manifest import TOKENIZER_FILE, fingerprint
from embedge_export.graph.outputs import attach_heads
from embedge_export.graph.route import build_from_weights, check_values, choose_route
from embedge_export.graph.static import build_graph
from embedge_export.source.read import open_checkpoint
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec
from embedge_export.variants.cpu import write_cpu_variants
from embedge_export.write.companions import write_companions
from embedge_export.write.manifest import make_manifest, save_modules

TASKS = ("embed", "classify", "token_classify")
# the tiny Qwen2 has a WordPiece under the class of Qwen's tokenizers, which light exports refuse
NAMES = [name for name in BUILT if name in LOCAL and name != "qwen2"]
FAMILIES = [(name, task) for name in NAMES for task in TASKS if model_class(name, task)]


def made(checkpoint: Path, folder: Path, reference: str, **stated) -> str:
    """Everything of an export that its fingerprint is of."""
    folder.mkdir()
    spec = ExportSpec(model=str(checkpoint), reference=reference, **stated)
    source = open_checkpoint(spec)
    facts, tokenization = source.checkpoint, source.tokenization
    light = reference == "numpy"
    weights = load_weights(facts, with_model=not light)
    chosen = choose_route(facts, spec)
    if weights.table is not None:
        graph, loads = build_graph(weights.table, 18, tokenization.ignored_id), {}
    else:
        assert chosen.described is not None
        graph, loads = build_from_weights(chosen.described)
    outputs = attach_heads(graph, facts, weights)
    (folder / TOKENIZER_FILE).write_bytes(tokenization.file)
    write_companions(facts, tokenization, folder)
    variants = write_cpu_variants(graph, loads, chosen, facts, tokenization, ("fp32",), folder)
    dense = save_modules(facts, weights, folder)
    return fingerprint(make_manifest(facts, tokenization, outputs, dense, variants, folder))


@pytest.mark.parametrize(("name", "task"), FAMILIES)
def test_every_family_is_built_alike(name, task, tmp_path):
    checkpoint = make(tmp_path / "m", name, task)
    assert made(checkpoint, tmp_path / "a", "numpy") == made(checkpoint, tmp_path / "b", "torch")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_built_alike(name, tmp_path):
    checkpoint = make_checkpoint(name, tmp_path / "m")
    stated = KINDS[name]
    assert made(checkpoint, tmp_path / "a", "numpy", **stated) == made(
        checkpoint, tmp_path / "b", "torch", **stated
    )


def test_neither_torch_nor_transformers_is_imported(tiny_bert, tmp_path):
    code = (
        "import sys; from pathlib import Path; from embedge_export.spec import ExportSpec; "
        "from embedge_export.pipeline import export; "
        "export(ExportSpec(model=sys.argv[1], output=Path(sys.argv[2]), reference='numpy')); "
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tiny_bert), str(tmp_path / "out")]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["reference"]["name"] == "numpy"


def damaged(checkpoint: Path, reference: str) -> str:
    with pytest.raises(EmbedgeError) as caught:
        _load(checkpoint, reference)
    return str(caught.value)


def _load(checkpoint: Path, reference: str) -> None:
    spec = ExportSpec(model=str(checkpoint), reference=reference)
    facts = open_checkpoint(spec).checkpoint
    load_weights(facts, with_model=reference == "torch")
    chosen = choose_route(facts, spec)
    assert chosen.described is not None
    check_values(chosen.described)


@pytest.mark.parametrize("damage", ["missing", "superfluous", "shape", "nan"])
def test_weights_that_do_not_fit_are_refused_in_the_same_words(damage, tmp_path):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    checkpoint = make(tmp_path / "m", "bert", "embed")
    file, config = checkpoint / "model.safetensors", checkpoint / "config.json"
    tensors, stated = load_file(file), json.loads(config.read_text("utf-8"))
    key = "encoder.layer.1.output.dense.weight"
    if damage == "missing":
        del tensors[key]
    elif damage == "superfluous":
        stated["num_hidden_layers"] = 1
    elif damage == "shape":
        tensors[key] = np.zeros((3, 5), np.float32)
    else:
        tensors[key] = np.full_like(tensors[key], np.nan)
    save_file(tensors, file, {"format": "pt"})
    config.write_text(json.dumps(stated), "utf-8")
    assert damaged(checkpoint, "numpy") == damaged(checkpoint, "torch")


@pytest.mark.parametrize("asked", [{"route": "trace"}, {"opset": 18}])
def test_a_trace_names_the_extra(asked, tiny_bert):
    spec = ExportSpec(model=str(tiny_bert), reference="numpy", **asked)
    with pytest.raises(MissingExtraError, match="traced with torch and transformers"):
        choose_route(open_checkpoint(spec).checkpoint, spec)


def test_a_head_of_its_own_is_not_taken_for_the_table_of_words(tmp_path):
    checkpoint = make_checkpoint("splade", tmp_path / "m")
    config = next(path for path in checkpoint.rglob("config.json") if "vocab_size" in path.read_text("utf-8"))
    config.write_text(
        json.dumps(json.loads(config.read_text("utf-8")) | {"tie_word_embeddings": False}), "utf-8"
    )
    spec = ExportSpec(model=str(checkpoint), reference="numpy")
    with pytest.raises((ExportError, MissingExtraError), match="tie_word_embeddings=False"):
        choose_route(open_checkpoint(spec).checkpoint, spec)
