"""LlamaIndex: an index, a pipeline and a reranker, with the numbers of the SDK."""

from __future__ import annotations

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import NodeWithScore, TextNode

from embedge.errors import ParamsError, PromptError
from embedge.integrations.llama_index import EmbedgeEmbedding, EmbedgeRerank

TEXTS = ["the river", "good food in the city", "old house"]


def test_its_vectors_are_the_sdk_s(embedder, model) -> None:
    embedding = EmbedgeEmbedding(embedder)
    wanted = model.embed_document(TEXTS).numpy()
    assert np.array_equal(embedding.get_text_embedding_batch(TEXTS), wanted)
    assert embedding.get_text_embedding(TEXTS[0]) == wanted[0].tolist()
    query = model.embed_query(TEXTS[0]).numpy()[0].tolist()
    assert embedding.get_query_embedding(TEXTS[0]) == query != wanted[0].tolist()
    named = EmbedgeEmbedding(embedder, document_prompt_name="query", embed_batch_size=2)
    assert np.allclose(
        named.get_text_embedding_batch(TEXTS), model.embed_query(TEXTS).numpy(), rtol=0, atol=1e-6
    )


async def test_in_asyncio(embedder, model) -> None:
    embedding = EmbedgeEmbedding(embedder)
    wanted = model.embed_document(TEXTS).numpy()
    assert np.array_equal(await embedding.aget_text_embedding_batch(TEXTS), wanted)
    assert await embedding.aget_text_embedding(TEXTS[0]) == wanted[0].tolist()
    assert await embedding.aget_query_embedding("city") == model.embed_query("city").numpy()[0].tolist()


def test_an_index_answers(embedder, model) -> None:
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=EmbedgeEmbedding(embedder))
    found = index.as_retriever(similarity_top_k=1).retrieve("old river")
    scores = model.similarity(model.embed_query("old river"), model.embed_document(TEXTS))[0]
    assert found[0].text == TEXTS[scores.argmax()]
    assert found[0].score == pytest.approx(scores.max(), abs=1e-6)


def test_a_pipeline_goes_on_from_what_is_saved(embedder) -> None:
    embedding = EmbedgeEmbedding(embedder, model_kwargs={"threads": 1}, long_text="truncate")
    saved = EmbedgeEmbedding.from_json(embedding.to_json())
    assert (saved.model_name, saved.model_kwargs, saved.long_text) == (
        str(embedder),
        {"threads": 1},
        "truncate",
    )
    assert saved.get_text_embedding("water " * 99) == embedding.get_text_embedding("water " * 99)
    nodes = IngestionPipeline(transformations=[embedding]).run(nodes=[TextNode(text=text) for text in TEXTS])
    assert nodes[0].embedding == embedding.get_text_embedding(TEXTS[0])
    with pytest.raises(PromptError):
        EmbedgeEmbedding(embedder).get_text_embedding("water " * 99)
    with pytest.raises(ParamsError, match="'truncate'"):
        EmbedgeEmbedding(embedder, long_text="cut").get_text_embedding("water")


async def test_nodes_are_ranked(reranker, ranking_model) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    ranker = EmbedgeRerank.from_dict(EmbedgeRerank(reranker, top_n=2).to_dict())
    found = ranker.postprocess_nodes(nodes, query_str="old river")
    wanted = ranking_model.rerank("old river", TEXTS, 2)
    assert [(each.text, each.score) for each in found] == [(each.document, each.score) for each in wanted]
    assert {each.score for each in nodes} == {0.5}
    assert await ranker.apostprocess_nodes(nodes, query_str="old river") == found
    assert ranker.postprocess_nodes([], query_str="river") == []
    with pytest.raises(ValueError, match="query_str"):
        ranker.postprocess_nodes(nodes)
    with pytest.raises(ParamsError, match="'mean'"):
        EmbedgeRerank(reranker, long_text="mean")
