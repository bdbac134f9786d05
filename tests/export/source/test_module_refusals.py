"""Modules that are not exported: each is refused with what it does and what to do, and what to do works."""

from __future__ import annotations

import importlib
import inspect
import re

import numpy as np
import pytest
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json, read_json, write_json
from tests.export.tiny import make_bert
from tests.generated.options import MESSAGE
from tests.installed import SENTENCE_TRANSFORMERS_6

from embedge.errors import ExportError
from embedge_export.source.module_files import _CONFIGURED, _SEQUENCE
from embedge_export.source.module_refusals import REFUSED
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

RUN = {"Transformer", "MLMTransformer", "StaticEmbedding", *_SEQUENCE, *_CONFIGURED}
ABSTRACT = {"Module", "InputModule", "BaseTokenPooling"}


@pytest.mark.parametrize("at", ["first", "later"])
@pytest.mark.parametrize("kind", REFUSED)
def test_each_says_why_and_what_to_do(tmp_path, kind, at):
    make_bert(tmp_path / "m")
    modules = read_json(tmp_path / "m" / "modules.json")
    entry = {"idx": 9, "name": "99", "path": "99_Other", "type": f"sentence_transformers.models.{kind}"}
    modules = [entry, *modules] if at == "first" else [*modules, entry]
    write_json(tmp_path / "m" / "modules.json", modules)
    with pytest.raises(ExportError) as refused:
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))
    message = str(refused.value)
    assert message.startswith(
        f"modules.json begins with {kind}" if at == "first" else f"modules.json holds a {kind} module"
    )
    assert REFUSED[kind][0] in message
    assert "expected" in message
    assert "\n" not in message
    # at the end what can be done: a sentence that tells to
    assert re.search(r"\. (Train|Export|Save|Look) [^.]*(\(\)[^.]*)?\.$", message), message


def test_a_module_that_nobody_knows_says_what_to_do(tmp_path):
    make_bert(tmp_path / "m")
    modules = read_json(tmp_path / "m" / "modules.json")
    entry = {"idx": 9, "name": "white", "path": "9", "type": "sentence_transformers.models.Whitening"}
    write_json(tmp_path / "m" / "modules.json", [*modules, entry])
    with pytest.raises(
        ExportError, match=r"Whitening module, which embedge does not know; .*\. Save the model wi"
    ):
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))


def test_word_weights_are_the_librarys_to_run(tmp_path):
    """It loads them after a Transformer, and they change what it answers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import WordWeights

    make_bert(tmp_path / "m")
    model = SentenceTransformer(str(tmp_path / "m"), device="cpu")
    before = model.encode("the fox")
    words = list(model.tokenizer.get_vocab())
    weights = {word: index % 3 for index, word in enumerate(words)}
    first, *others = model.children()
    weighted = SentenceTransformer(modules=[first, WordWeights(words, weights), *others], device="cpu")
    weighted.save(str(tmp_path / "weighted"))
    loaded = SentenceTransformer(str(tmp_path / "weighted"), device="cpu")
    assert np.abs(loaded.encode("the fox") - before).max() > 0.01
    with pytest.raises(
        ExportError, match=r"WordWeights module, which weights each .* run it with sentence-transf"
    ):
        open_checkpoint(ExportSpec(model=str(tmp_path / "weighted")))


@pytest.mark.skipif(
    not SENTENCE_TRANSFORMERS_6, reason="sentence-transformers has no MultiVectorEncoder before"
)
def test_chat_templates_of_late_interaction_are_the_librarys_to_fill_in(tmp_path):
    from sentence_transformers import MultiVectorEncoder

    make("colbert", tmp_path / "colbert")
    plain = MultiVectorEncoder(str(tmp_path / "colbert"), device="cpu")
    folder = tmp_path / "chat"
    plain.save_pretrained(str(folder))
    message = {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"}
    modalities = read_json(folder / "sentence_bert_config.json")["modality_config"]
    edit_json(folder / "sentence_bert_config.json", modality_config=modalities | {"message": message})
    (folder / "chat_template.jinja").write_text(MESSAGE)
    chat = MultiVectorEncoder(str(folder), device="cpu")
    assert (
        chat.preprocess(["a fox"])["input_ids"].shape[1] > plain.preprocess(["a fox"])["input_ids"].shape[1]
    )
    with pytest.raises(
        ExportError, match=r"put into a chat template .* Remove message in a copy of sentence_bert"
    ):
        open_checkpoint(ExportSpec(model=str(folder)))


def test_every_module_of_the_library_is_run_or_refused():
    packages = ["base", "sentence_transformer", "sparse_encoder", "cross_encoder"]
    if SENTENCE_TRANSFORMERS_6:
        packages.append("multi_vector_encoder")
    module = importlib.import_module("sentence_transformers.base.modules.module").Module
    found = set()
    for package in packages:
        room = importlib.import_module(f"sentence_transformers.{package}.modules")
        found |= {
            name for name, value in vars(room).items() if inspect.isclass(value) and issubclass(value, module)
        }
    assert {"Router", "Pooling", *(["MultiVectorMask"] if SENTENCE_TRANSFORMERS_6 else [])} <= found
    assert found - ABSTRACT <= RUN | set(REFUSED)
    assert not RUN & set(REFUSED)
