"""Models with towers for queries and documents: each is a bundle that answers as encode_query or encode_document."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import make
from tests.checkpoints.saving import read_json, write_json
from tests.installed import SENTENCE_TRANSFORMERS_6

from embedge import EdgeModel
from embedge.cli.main import main
from embedge.errors import ExportError, ParamsError
from embedge_export.pipeline import export
from embedge_export.source.module_files import read_modules
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

pytestmark = pytest.mark.skipif(not SENTENCE_TRANSFORMERS_6, reason="modules of today's library")
TEXTS = ["The quick brown fox.", "Быстрая лиса returns a list", "a"]
PROMPTS = {"query": "find the words for: ", "document": ""}


def two_encoders(folder):
    """Transformers of two families, and what follows both."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import Normalize

    towers = [_loaded(folder, name) for name in ("bert-st", "mpnet-st")]
    router = Router.for_query_document(*(list(tower.children())[:2] for tower in towers))
    return SentenceTransformer(modules=[router, Normalize()], prompts=PROMPTS, device="cpu")


def table_of_queries(folder):
    """A static embedding for queries, a transformer for documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    encoder = _loaded(folder, "bert-st")
    rows = np.random.default_rng(3).normal(size=(len(encoder.tokenizer), 32)).astype(np.float32)
    table = StaticEmbedding(encoder.tokenizer.backend_tokenizer, embedding_weights=rows)
    router = Router.for_query_document([table], list(encoder.children()), default_route="query")
    return SentenceTransformer(modules=[router], prompts={"document": "words: "}, device="cpu")


def one_encoder(folder):
    """One transformer, and a Dense module of each tower's own after it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Router

    torch.manual_seed(5)
    encoder = _loaded(folder, "bert-st")
    router = Router.for_query_document([Dense(32, 16)], [Dense(32, 16)])
    return SentenceTransformer(modules=[*list(encoder.children())[:2], router], prompts=PROMPTS, device="cpu")


@pytest.mark.parametrize("make_model", [two_encoders, table_of_queries, one_encoder])
def test_each_tower_answers_as_the_library(tmp_path, make_model):
    from sentence_transformers import SentenceTransformer

    make_model(tmp_path).save(str(tmp_path / "both"))
    model = SentenceTransformer(str(tmp_path / "both"), device="cpu")
    found = {}
    for tower, ask in (("query", model.encode_query), ("document", model.encode_document)):
        folder = export(ExportSpec(model=str(tmp_path / "both"), output=tmp_path / tower, tower=tower))
        with EdgeModel(folder) as bundle:
            assert bundle.manifest.tower == tower
            assert bundle.manifest.witness.reason is None
            found[tower] = bundle.embed(TEXTS).numpy()
            without = bundle.embed(TEXTS, prompt="").numpy()
            with pytest.raises(ParamsError, match=f"is the {tower} tower of .*; embed each side with"):
                bundle.score("a", "b")
        assert_allclose(found[tower], ask(TEXTS), atol=1e-5)
        assert_allclose(without, ask(TEXTS, prompt=""), atol=1e-5)
    assert np.abs(found["query"] - found["document"]).max() > 0.01


def test_the_tower_of_documents_of_a_sparse_model(tmp_path):
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    splade = SparseEncoder(str(make("splade", tmp_path / "splade")), device="cpu")
    router = Router.for_query_document([SparseStaticEmbedding(splade.tokenizer)], list(splade.children()))
    both = SparseEncoder(modules=[router], device="cpu")
    both.save(str(tmp_path / "both"))
    folder = export(ExportSpec(model=str(tmp_path / "both"), output=tmp_path / "out", tower="document"))
    with EdgeModel(folder) as bundle:
        rows = bundle.embed(TEXTS).numpy()
    assert_allclose(rows, both.encode_document(TEXTS, convert_to_sparse_tensor=False), atol=1e-5)
    with pytest.raises(ExportError, match="begins with SparseStaticEmbedding, .*--tower document"):
        open_checkpoint(ExportSpec(model=str(tmp_path / "both"), tower="query"))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    one_encoder(folder).save(str(folder / "both"))
    return folder / "both"


def test_without_a_word_it_says_how(both):
    with pytest.raises(
        ExportError, match=r"Router module, .* \(query, document\); .*alone, .*--tower document"
    ):
        read_modules(both)


def test_from_the_command_line(both, capsys):
    assert main(["export", str(both), "--tower", "query", "--dry-run", "--json"]) == 0
    assert "find the words for" in json.dumps(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("tower", "change", "message"),
    [
        ("passage", {}, "--tower 'passage' is not among the towers of .*; expected one of query, document"),
        ("query", {"structure": {"query": []}}, "the tower 'query' of .* has no modules; expected"),
        ("query", {"structure": {"query": ["a"]}}, "has a module 'a' whose type it does not state; expected"),
        ("query", {"structure": {"query": 3}}, "structure.query in .* is 3; expected a list of texts"),
        (
            "query",
            {"parameters": {"route_mappings": {"('query', 'text')": "query"}}},
            "states route_mappings",
        ),
        ("query", {"parameters": {"by_length": 3}}, r"states by_length \(3\), which embedge does not know"),
        ("query", {"other": 3}, r"states other \(3\), which embedge does not know"),
    ],
)
def test_odd_routers(both, tmp_path, tower, change, message):
    folder = shutil.copytree(both, tmp_path / "both")
    (file,) = folder.rglob("router_config.json")
    write_json(file, read_json(file) | change)
    with pytest.raises(ExportError, match=message):
        read_modules(folder, tower=tower)


def test_a_tower_of_what_has_none(tmp_path):
    make("bert-st", tmp_path / "one")
    with pytest.raises(ExportError, match="--tower 'query' does not apply to .*; expected a model with one"):
        read_modules(tmp_path / "one", tower="query")
    make("classifier-single-label", tmp_path / "classifier")
    with pytest.raises(
        ExportError, match="--tower 'query' does not apply to a checkpoint of the kind classifier"
    ):
        open_checkpoint(ExportSpec(model=str(tmp_path / "classifier"), tower="query"))


def _loaded(folder, name):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(make(name, folder / name)), device="cpu")
