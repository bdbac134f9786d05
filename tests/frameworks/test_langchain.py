"""LangChain's own standard tests, and the numbers of the SDK."""

from __future__ import annotations

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from embedge.errors import ParamsError, PromptError
from embedge.integrations.langchain import EmbedgeEmbeddings, EmbedgeRerank

TEXTS = ["the river", "good food in the city", "old house"]
LONG = "water " * 100


class _Given:
    @pytest.fixture(autouse=True)
    def _bundle(self, embedder) -> None:
        self.folder = embedder

    @property
    def embeddings_class(self):
        return EmbedgeEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": self.folder}


class TestUnit(_Given, EmbeddingsUnitTests):
    """langchain-tests asks."""


class TestIntegration(_Given, EmbeddingsIntegrationTests):
    """langchain-tests asks."""


def test_its_vectors_are_the_sdk_s(embedder, model) -> None:
    embeddings = EmbedgeEmbeddings(embedder)
    assert np.array_equal(embeddings.embed_documents(TEXTS), model.embed_document(TEXTS).numpy())
    assert np.array_equal(embeddings.embed_query(TEXTS[0]), model.embed_query(TEXTS[0]).numpy()[0])
    assert embeddings.embed_query(TEXTS[0]) != embeddings.embed_documents(TEXTS)[0]  # a stored prompt
    assert embeddings.embed_documents([]) == []
    named = EmbedgeEmbeddings(model, document_prompt_name="query")
    assert named.embed_documents(TEXTS[:1])[0] == embeddings.embed_query(TEXTS[0])


def test_a_store_finds_what_is_near(embedder) -> None:
    store = InMemoryVectorStore.from_texts(TEXTS, EmbedgeEmbeddings(embedder))
    assert len(store.similarity_search_with_score("find the river", k=2)) == 2


def test_long_texts(embedder) -> None:
    with pytest.raises(PromptError, match="limit is 32"):
        EmbedgeEmbeddings(embedder).embed_documents([LONG])
    for long_text in ("truncate", "mean"):
        assert len(EmbedgeEmbeddings(embedder, long_text=long_text).embed_documents([LONG])) == 1


def test_documents_are_ranked(reranker, ranking_model) -> None:
    documents = [Document(text, id=str(i), metadata={"at": i}) for i, text in enumerate(TEXTS)]
    found = EmbedgeRerank(model=reranker, top_n=2).compress_documents(documents, "old river")
    wanted = ranking_model.rerank("old river", TEXTS, 2)
    assert [each.metadata["at"] for each in found] == [each.index for each in wanted]
    assert [each.metadata["relevance_score"] for each in found] == [each.score for each in wanted]
    assert "relevance_score" not in documents[0].metadata
    assert EmbedgeRerank(model=reranker).compress_documents([], "river") == []


async def test_documents_are_ranked_in_asyncio(reranker) -> None:
    found = await EmbedgeRerank(model=reranker, top_n=None).acompress_documents(
        [Document(text) for text in TEXTS], "old river"
    )
    assert len(found) == 3


def test_what_a_reranker_does_not_take(reranker) -> None:
    with pytest.raises(ValueError, match="long_text"):
        EmbedgeRerank(model=reranker, long_text="mean")
    with pytest.raises(ValueError, match="'batch_size'"):
        EmbedgeRerank(model=reranker, model_kwargs={"batch_size": 3})
    with pytest.raises(ParamsError, match="'batch_size'"):
        EmbedgeEmbeddings(reranker, model_kwargs={"batch_size": 3})
