"""Chroma, LanceDB and Qdrant: texts in, the SDK's vectors stored, and found again after the store was opened anew."""

from __future__ import annotations

import chromadb
import lancedb
import numpy as np
import pytest
from lancedb.pydantic import LanceModel, Vector
from qdrant_client import QdrantClient
from qdrant_client.models import Distance

from embedge.errors import ParamsError, PromptError
from embedge.integrations.chroma import EmbedgeEmbeddingFunction
from embedge.integrations.lancedb import EmbedgeEmbeddings
from embedge.integrations.qdrant import EmbedgeVectors
from embedge.testing import tiny_bundle

TEXTS = ["the river", "good food in the city", "old house"]
QUERY = "old river"
LONG = "water " * 99


@pytest.fixture(scope="module")
def nearest(model) -> str:
    scores = model.similarity(model.embed_query(QUERY), model.embed_document(TEXTS))[0]
    return TEXTS[scores.argmax()]


class TestChroma:
    def test_a_collection_is_opened_anew(self, embedder, model, nearest, tmp_path) -> None:
        client = chromadb.PersistentClient(tmp_path / "chroma")
        made = client.create_collection("notes", embedding_function=EmbedgeEmbeddingFunction(embedder))
        made.add(ids=["a", "b", "c"], documents=TEXTS)
        stored = made.get(include=["embeddings"])["embeddings"]
        assert np.allclose(stored, model.embed_document(TEXTS).numpy(), rtol=0, atol=1e-6)
        assert made.configuration["hnsw"]["space"] == "cosine"

        opened = client.get_collection("notes")  # without naming the function
        found = opened.query(query_texts=[QUERY], n_results=1)
        assert found["documents"] == [[nearest]]

    def test_its_configuration(self, embedder, model) -> None:
        function = EmbedgeEmbeddingFunction(embedder, model_kwargs={"threads": 1}, long_text="truncate")
        again = EmbedgeEmbeddingFunction.build_from_config(function.get_config())
        assert again.get_config() == function.get_config()
        assert not function.is_legacy()
        assert np.array_equal(again([LONG]), model.embed_document([LONG], long_text="truncate").numpy())
        with pytest.raises(PromptError):
            EmbedgeEmbeddingFunction(embedder)([LONG])

    def test_its_space_is_the_checkpoint_s(self, tmp_path) -> None:
        for similarity, space in {"dot": "ip", "euclidean": "l2", "manhattan": "cosine"}.items():
            bundle = tiny_bundle(tmp_path / similarity, changes={"similarity": similarity})
            assert EmbedgeEmbeddingFunction(bundle).default_space() == space


class TestLanceDB:
    def test_a_table_is_opened_anew(self, embedder, model, nearest, tmp_path) -> None:
        function = EmbedgeEmbeddings.create(model=str(embedder))

        class Note(LanceModel):
            text: str = function.SourceField()
            vector: Vector(function.ndims()) = function.VectorField()

        database = lancedb.connect(tmp_path)
        table = database.create_table("notes", schema=Note)
        table.add([{"text": text} for text in TEXTS])
        stored = np.stack(table.to_arrow()["vector"].to_pylist())
        assert np.array_equal(stored.astype(np.float32), model.embed_document(TEXTS).numpy())
        opened = lancedb.connect(tmp_path).open_table("notes")  # without naming the function
        assert opened.search(QUERY).limit(1).to_list()[0]["text"] == nearest

    def test_rows_without_a_text(self, embedder, model, tmp_path) -> None:
        function = EmbedgeEmbeddings.create(model=str(embedder), model_kwargs={"threads": 1})

        class Note(LanceModel):
            text: str | None = function.SourceField()
            vector: Vector(function.ndims()) | None = function.VectorField()

        table = lancedb.connect(tmp_path).create_table("notes", schema=Note)
        table.add([{"text": "the river"}, {"text": None}], on_bad_vectors="null")
        stored = {row["text"]: row["vector"] for row in table.to_arrow().to_pylist()}
        assert stored[None] is None
        assert np.allclose(
            stored["the river"], model.embed_document("the river").numpy()[0], rtol=0, atol=1e-6
        )

    def test_what_a_model_refuses_is_not_tried_again(self, embedder) -> None:
        function = EmbedgeEmbeddings.create(model=str(embedder))
        with pytest.raises(PromptError):
            function.compute_source_embeddings_with_retry([LONG])
        cut = EmbedgeEmbeddings.create(model=str(embedder), long_text="truncate")
        assert len(cut.compute_source_embeddings([LONG])) == 1


class TestQdrant:
    def test_a_collection(self, embedder, model, nearest) -> None:
        vectors = EmbedgeVectors(embedder)
        client = QdrantClient(":memory:")
        client.create_collection("notes", vectors_config=vectors.params)
        client.upsert("notes", vectors.points(TEXTS, [{"at": i} for i in range(3)], range(3)))
        [record] = client.retrieve("notes", [1], with_vectors=True)
        assert record.payload == {"at": 1, "text": TEXTS[1]}
        assert np.allclose(record.vector, model.embed_document(TEXTS[1]).numpy()[0], atol=1e-6)
        found = client.query_points("notes", query=vectors.query(QUERY), limit=1).points
        assert found[0].payload["text"] == nearest

    def test_one_of_several_vectors(self, model) -> None:
        named = EmbedgeVectors(model, vector_name="dense")
        client = QdrantClient(":memory:")
        client.create_collection("notes", vectors_config={"dense": named.params})
        client.upload_points("notes", named.points(TEXTS, text_key=None))
        found = client.query_points("notes", query=named.query(QUERY), using="dense").points
        assert len(found) == 3
        assert found[0].payload == {}

    def test_its_distance_is_the_checkpoint_s(self, tmp_path) -> None:
        for similarity, distance in {
            "cosine": Distance.COSINE,
            "dot": Distance.DOT,
            "euclidean": Distance.EUCLID,
            "manhattan": Distance.MANHATTAN,
        }.items():
            bundle = tiny_bundle(tmp_path / similarity, changes={"similarity": similarity})
            assert EmbedgeVectors(bundle).params.distance == distance

    def test_one_for_each_text(self, model) -> None:
        with pytest.raises(ParamsError, match="payloads are 1 and texts 3"):
            EmbedgeVectors(model).points(TEXTS, [{}])
        with pytest.raises(ParamsError, match="ids are 1 and texts 3"):
            EmbedgeVectors(model).points(TEXTS, ids=[7])
