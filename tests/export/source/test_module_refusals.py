"""Modules that are not exported: each is refused with what it does and what to do, and what to do works."""

from __future__ import annotations

import importlib
import inspect
import re
from importlib import metadata

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import make
from tests.checkpoints.saving import read_json, write_json
from tests.export.tiny import make_bert

from embedge import EdgeModel
from embedge.errors import ExportError
from embedge_export.pipeline import export
from embedge_export.source.module_files import _CONFIGURED, _SEQUENCE, read_modules
from embedge_export.source.module_refusals import REFUSED
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

IS_TODAY = int(metadata.version("sentence-transformers").partition(".")[0]) >= 6
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


@pytest.mark.skipif(not IS_TODAY, reason="the modules of today's library")
def test_every_module_of_the_library_is_run_or_refused():
    packages = ["base", "sentence_transformer", "sparse_encoder", "cross_encoder", "multi_vector_encoder"]
    module = importlib.import_module("sentence_transformers.base.modules.module").Module
    found = set()
    for package in packages:
        room = importlib.import_module(f"sentence_transformers.{package}.modules")
        found |= {
            name for name, value in vars(room).items() if inspect.isclass(value) and issubclass(value, module)
        }
    assert {"Router", "Pooling", "MultiVectorMask"} <= found
    assert found - ABSTRACT <= RUN | set(REFUSED)
    assert not RUN & set(REFUSED)


@pytest.mark.skipif(not IS_TODAY, reason="Router's folder is that of sentence-transformers 6")
@pytest.mark.parametrize("route", ["query", "document"])
def test_a_tower_is_saved_alone_as_the_refusal_says(tmp_path, route):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Router

    towers = [
        SentenceTransformer(str(make(name, tmp_path / name)), device="cpu")
        for name in ("bert-st", "mpnet-st")
    ]
    router = Router.for_query_document(*(list(tower.children())[:2] for tower in towers))
    prompts = {"query": "find the words for: ", "document": "words: "}
    both = SentenceTransformer(modules=[router, Normalize()], prompts=prompts, device="cpu")
    both.save(str(tmp_path / "both"))
    with pytest.raises(ExportError, match=r"begins with Router, .* \(query, document\); expected") as refused:
        read_modules(tmp_path / "both")

    (recipe,) = re.findall(r"export that: (.*)\.$", str(refused.value))
    assert 'sub_modules["document"]' in recipe
    names = {
        "SentenceTransformer": SentenceTransformer,
        "MODEL": str(tmp_path / "both"),
        "NEW": str(tmp_path / "new"),
    }
    exec(recipe.replace("document", route), names)

    export(ExportSpec(model=str(tmp_path / "new"), output=tmp_path / "out"))
    texts = ["The quick brown fox.", "", "Быстрая лиса returns a list"]
    ask = both.encode_query if route == "query" else both.encode_document
    with EdgeModel(tmp_path / "out") as model:
        rows = [output.outputs.embedding for output in model.embed(texts, prompt_name=route)]
    assert_allclose(np.array(rows), ask(texts), atol=1e-5)
