"""Haystack: pipelines that are saved and read, with the numbers of the SDK."""

from __future__ import annotations

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

from embedge.errors import BundleError
from embedge.integrations.haystack import EmbedgeDocumentEmbedder, EmbedgeRanker, EmbedgeTextEmbedder

ALLOWED = ["embedge.integrations.haystack"]
TEXTS = ["the river", "good food in the city", "old house"]


@pytest.fixture
def documents():
    return [
        Document(content=text, meta={"about": word})
        for text, word in zip(TEXTS, ["water", "city", "house"], strict=True)
    ]


def test_its_vectors_are_the_sdk_s(embedder, model, documents) -> None:
    found = EmbedgeDocumentEmbedder(embedder).run(documents)
    assert [each.embedding for each in found["documents"]] == model.embed_document(TEXTS).numpy().tolist()
    assert documents[0].embedding is None
    assert found["meta"] == {"model": model.info.name}
    query = EmbedgeTextEmbedder(embedder).run("the river")["embedding"]
    assert query == model.embed_query("the river").numpy()[0].tolist() != found["documents"][0].embedding
    assert EmbedgeDocumentEmbedder(embedder).run([])["documents"] == []


def test_fields_of_meta_are_embedded(embedder, model, documents) -> None:
    with_meta = EmbedgeDocumentEmbedder(
        embedder, meta_fields_to_embed=["about", "missing"], embedding_separator=" "
    )
    [first, *_] = with_meta.run(documents)["documents"]
    assert first.embedding == model.embed_document("water the river").numpy()[0].tolist()


def test_documents_are_ranked(reranker, ranking_model, documents) -> None:
    ranker = EmbedgeRanker(reranker, top_k=2)
    ranker.warm_up()
    wanted = ranking_model.rerank("old river", TEXTS)
    found = ranker.run("old river", documents)["documents"]
    assert [(each.content, each.score) for each in found] == [
        (each.document, each.score) for each in wanted[:2]
    ]
    assert len(ranker.run("old river", documents, top_k=3)["documents"]) == 3
    assert ranker.run("old river", [])["documents"] == []


def test_a_pipeline_is_saved_and_read(embedder, reranker, model, ranking_model, documents) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("embedder", EmbedgeDocumentEmbedder(embedder))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    assert Pipeline.loads(indexing.dumps(), allowed_modules=ALLOWED).to_dict() == indexing.to_dict()
    indexing.run({"embedder": {"documents": documents}})

    asking = Pipeline()
    asking.add_component("embedder", EmbedgeTextEmbedder(embedder, model_kwargs={"threads": 1}))
    asking.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2))
    asking.add_component("ranker", EmbedgeRanker(reranker, top_k=1))
    asking.connect("embedder.embedding", "retriever.query_embedding")
    asking.connect("retriever.documents", "ranker.documents")
    read = Pipeline.loads(asking.dumps(), allowed_modules=ALLOWED)
    read.get_component("retriever").document_store = store
    found = read.run({"embedder": {"text": "old river"}, "ranker": {"query": "old river"}})
    near = model.similarity(model.embed_query("old river"), model.embed_document(TEXTS))[0].argsort()[::-1][
        :2
    ]
    best = ranking_model.rerank("old river", [TEXTS[i] for i in near], 1)[0]
    assert [each.content for each in found["ranker"]["documents"]] == [best.document]


def test_what_is_no_text_or_document(embedder, reranker, documents, tmp_path) -> None:
    with pytest.raises(TypeError, match="EmbedgeDocumentEmbedder"):
        EmbedgeTextEmbedder(embedder).run(documents)
    with pytest.raises(TypeError, match="EmbedgeTextEmbedder"):
        EmbedgeDocumentEmbedder(embedder).run("river")
    with pytest.raises(TypeError, match="list of Documents"):
        EmbedgeRanker(reranker).run("river", TEXTS)
    missing = EmbedgeTextEmbedder(tmp_path / "missing")
    with pytest.raises(BundleError):
        missing.warm_up()
