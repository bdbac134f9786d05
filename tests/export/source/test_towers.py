"""Models with towers for queries and documents: in one bundle, or each alone, they answer as the library's do."""

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
from embedge.bundle import open_bundle, open_towers
from embedge.cli.main import main
from embedge.errors import ExportError, ParamsError
from embedge.integrations.sentence_transformers import SentenceTransformer as Ported
from embedge_export.pipeline import export
from embedge_export.reverify import reverify
from embedge_export.source.module_files import read_modules
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec
from embedge_export.write import graph_files

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


def one_encoder(folder, encoder=None, size=32):
    """One transformer, and a Dense module of each tower's own after it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Router

    torch.manual_seed(5)
    encoder = encoder or _loaded(folder, "bert-st")
    router = Router.for_query_document([Dense(size, 16)], [Dense(size, 16)])
    return SentenceTransformer(modules=[*list(encoder.children())[:2], router], prompts=PROMPTS, device="cpu")


@pytest.mark.parametrize("make_model", [two_encoders, table_of_queries, one_encoder])
def test_both_towers_answer_as_the_library(tmp_path, make_model):
    from sentence_transformers import SentenceTransformer

    make_model(tmp_path).save(str(tmp_path / "both"))
    library = SentenceTransformer(str(tmp_path / "both"), device="cpu")
    folder = export(ExportSpec(model=str(tmp_path / "both"), output=tmp_path / "out"))
    asks = {"query": library.encode_query, "document": library.encode_document, None: library.encode}
    with EdgeModel(folder) as bundle:
        for tower, ask in asks.items():
            assert_allclose(bundle.embed(TEXTS, tower=tower).numpy(), ask(TEXTS), atol=1e-5)
            without = bundle.embed(TEXTS, tower=tower, prompt="").numpy()
            assert_allclose(without, ask(TEXTS, prompt=""), atol=1e-5)
        ported = Ported(bundle)
        assert_allclose(ported.encode_query(TEXTS), library.encode_query(TEXTS), atol=1e-5)
        assert_allclose(
            ported.encode(TEXTS, task="document"), library.encode(TEXTS, task="document"), atol=1e-5
        )
        assert_allclose(ported.encode(TEXTS), library.encode(TEXTS), atol=1e-5)
        queries, documents = bundle.embed_query(TEXTS), bundle.embed_document(TEXTS)
        assert_allclose(queries.numpy(), library.encode_query(TEXTS), atol=1e-5)
        assert np.abs(queries.numpy() - documents.numpy()).max() > 0.01
        cosines = library.similarity(library.encode_query(TEXTS), library.encode_document(TEXTS)).numpy()
        assert_allclose(bundle.score(TEXTS, TEXTS).numpy(), np.diag(cosines), atol=1e-5)
        assert bundle.manifest.witness.reason is None
    for tower in open_towers(open_bundle(folder)).values():
        assert tower.manifest.witness.reason is None
    assert 'tower="query"' in (folder / "README.md").read_text("utf-8")


def test_a_tower_alone_answers_as_the_library(both, tmp_path):
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(both), device="cpu")
    folder = export(ExportSpec(model=str(both), output=tmp_path / "query", tower="query"))
    with EdgeModel(folder) as bundle:
        assert bundle.manifest.tower == "query"
        assert not bundle.manifest.towers
        assert_allclose(bundle.embed(TEXTS).numpy(), library.encode_query(TEXTS), atol=1e-5)
        assert_allclose(bundle.embed(TEXTS, tower="query").numpy(), library.encode_query(TEXTS), atol=1e-5)
        with pytest.raises(ParamsError, match="is the query tower of .*; embed each side with"):
            bundle.score("a", "b")


def test_equal_weights_are_stored_once_in_every_precision(tmp_path, monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(graph_files, "EXTERNAL_DATA_BYTES", 1000)
    monkeypatch.setattr(graph_files, "_SMALL_TENSOR_BYTES", 1000)
    one_encoder(tmp_path, _wide(tmp_path), 64).save(str(tmp_path / "both"))
    library = SentenceTransformer(str(tmp_path / "both"), device="cpu")
    variants = ("fp32", "int8")
    folder = export(ExportSpec(model=str(tmp_path / "both"), output=tmp_path / "out", variants=variants))
    manifest = open_bundle(folder).manifest
    size, alone = manifest.files["onnx/model.onnx_data"].size_bytes, manifest.towers["query"]
    assert alone.shared["onnx/document_model.onnx_data"] == "onnx/model.onnx_data"
    assert alone.shared["tokenizer.json"] == "tokenizer.json"
    own = manifest.files["towers/query/onnx/model.onnx_data"].size_bytes
    assert own == 64 * 16 * 4  # the Dense module of its own
    assert size > 30 * own
    assert "towers/query/tokenizer.json" not in manifest.files
    for variant, atol in (("fp32", 1e-5), ("int8", 0.02)):
        with EdgeModel(folder, variant=variant) as bundle:
            assert_allclose(
                bundle.embed(TEXTS, tower="query").numpy(), library.encode_query(TEXTS), atol=atol
            )
            assert_allclose(
                bundle.embed(TEXTS, tower="document").numpy(), library.encode_document(TEXTS), atol=atol
            )
    assert main(["verify", str(folder), "--device", "cpu"]) == 0


def test_what_one_bundle_cannot_hold_says_why(both, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Router

    folder = shutil.copytree(both, tmp_path / "both")
    (file,) = folder.rglob("router_config.json")
    stated = read_json(file)
    write_json(file, stated | {"parameters": {"default_route": None, "allow_empty_key": False}})
    with pytest.raises(ExportError, match=r"default_route None, so that no tower .*alone, .*--tower query"):
        export(ExportSpec(model=str(folder), output=tmp_path / "out"))
    encoder = _loaded(tmp_path, "bert-st")
    router = Router.for_query_document([Dense(32, 16)], [Dense(32, 24)])
    model = SentenceTransformer(modules=[*list(encoder.children())[:2], router], device="cpu")
    model.save(str(tmp_path / "sizes"))
    with pytest.raises(
        ExportError, match=r"cannot be compared \(document: 24 comp.*query: 16 .*--tower query"
    ):
        export(ExportSpec(model=str(tmp_path / "sizes"), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_all_towers_is_not_compared_again(both, tmp_path):
    folder = export(ExportSpec(model=str(both), output=tmp_path / "out", witness=False))
    with pytest.raises(ExportError, match=r"holds all towers of a model \(document, query\)"):
        reverify(ExportSpec(model=str(both), output=folder))


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
    """Where a tower has to be named: an ONNX file is one of them."""
    with pytest.raises(
        ExportError, match=r"Router module, .* \(query, document\); .*alone, .*--tower document"
    ):
        read_modules(both)


def test_from_the_command_line(both, capsys):
    assert main(["export", str(both), "--tower", "query", "--dry-run", "--json"]) == 0
    assert "find the words for" in json.dumps(json.loads(capsys.readouterr().out))
    assert main(["export", str(both), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["tower"], list(plan["towers"])) == ("document", ["query"])
    assert main(["export", str(both), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("tower         ") == 2
    assert shown.endswith("Nothing was written.\n")


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


def _wide(folder):
    """With products that are worth quantising."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel

    torch.manual_seed(6)
    tokenizer = _loaded(folder, "bert-st").tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "wide")
    tokenizer.save_pretrained(folder / "wide")
    return SentenceTransformer(modules=[Transformer(str(folder / "wide")), Pooling(64, "mean")], device="cpu")


def _loaded(folder, name):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(make(name, folder / name)), device="cpu")
