"""What an editor infers for EdgeModel; read by mypy, never run."""

import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import assert_type

import numpy as np
import numpy.typing as npt

import embedge
from embedge.manifest import Manifest

FloatArray = npt.NDArray[np.float32]
Pooled = embedge.PoolingRequestOutput[embedge.PoolingOutput]


def a_model(model: embedge.EdgeModel) -> None:
    assert_type(embedge.LLM("folder"), embedge.EdgeModel)
    with embedge.EdgeModel("folder") as opened:
        assert_type(opened, embedge.EdgeModel)
    assert_type(model.info, embedge.ModelInfo)
    assert_type(model.manifest, Manifest)
    assert_type(model.model_config, embedge.ModelConfig)
    assert_type(model.lost_devices, tuple[str, ...])


def encode(model: embedge.EdgeModel) -> None:
    outputs = model.encode(["text"], pooling_task="embed")
    assert_type(outputs, embedge.ArrayOutputs[Pooled] | embedge.RaggedOutputs[Pooled])
    assert_type(outputs.numpy(), FloatArray | list[FloatArray])
    assert_type(outputs[0], Pooled)
    assert_type(outputs[0].outputs.data, FloatArray)
    assert_type(outputs[0].outputs.offsets, list[tuple[int, int]] | None)
    assert_type(outputs[0].outputs.row_labels, list[str])


def stream(model: embedge.EdgeModel) -> None:
    assert_type(model.stream(["text"], deadline_s=1.5), Iterator[Pooled])


def ends(model: embedge.EdgeModel) -> None:
    model.embed("text", deadline_s=2, cancel=threading.Event())
    model.rerank("query", ["document"], cancel=lambda: False)


def embed(model: embedge.EdgeModel) -> None:
    outputs = model.embed("text", long_text="mean")
    assert_type(outputs, embedge.ArrayOutputs[embedge.EmbeddingRequestOutput])
    assert_type(outputs.numpy(), FloatArray)
    assert_type(outputs[0], embedge.EmbeddingRequestOutput)
    assert_type(outputs[:1], list[embedge.EmbeddingRequestOutput])
    assert_type(outputs[0].outputs, embedge.EmbeddingOutput)
    assert_type(outputs[0].outputs.embedding, list[float])
    assert_type(outputs[0].prompt_token_ids, list[int])
    for output in outputs:
        assert_type(output, embedge.EmbeddingRequestOutput)


def sides(model: embedge.EdgeModel) -> None:
    assert_type(model.embed_query("text"), embedge.ArrayOutputs[embedge.EmbeddingRequestOutput])
    documents = model.embed_document(text for text in ("a", "b"))
    assert_type(documents, embedge.ArrayOutputs[embedge.EmbeddingRequestOutput])
    assert_type(model.similarity(documents, documents.numpy()[0]), FloatArray)


def tokens(model: embedge.EdgeModel) -> None:
    assert_type(model.count_tokens(["text"]), list[int])
    assert_type(model.tokenize("text")[0].tokens, list[str])


def embed_sparse(model: embedge.EdgeModel) -> None:
    outputs = model.embed_sparse("text")
    assert_type(outputs, embedge.RaggedOutputs[embedge.SparseEmbeddingRequestOutput])
    assert_type(outputs.numpy(), list[FloatArray])
    assert_type(outputs[0].outputs.token_ids, npt.NDArray[np.int64])
    assert_type(outputs[0].outputs.weights, FloatArray)


def classify(model: embedge.EdgeModel) -> None:
    outputs = model.classify({"text": "premise", "text_pair": "hypothesis"})
    assert_type(outputs, embedge.ArrayOutputs[embedge.ClassificationRequestOutput])
    assert_type(outputs[0].outputs.probs, list[float])
    assert_type(outputs[0].outputs.label, str)


def score(model: embedge.EdgeModel) -> None:
    outputs = model.score("query", ["document"])
    assert_type(outputs, embedge.ArrayOutputs[embedge.ScoringRequestOutput])
    assert_type(outputs[0].outputs.score, float)
    assert_type(outputs[0].num_truncated_query_tokens, int)


def rerank(model: embedge.EdgeModel) -> None:
    results = model.rerank("query", ["document"], 3)
    assert_type(results, list[embedge.RerankResult])
    assert_type(results[0].score, float)


async def in_asyncio(model: embedge.EdgeModel, prompts: AsyncIterable[str]) -> None:
    assert_type(
        await model.aencode(["text"], pooling_task="embed"),
        embedge.ArrayOutputs[Pooled] | embedge.RaggedOutputs[Pooled],
    )
    assert_type(
        await model.aembed("text", truncate_prompt_tokens=-1),
        embedge.ArrayOutputs[embedge.EmbeddingRequestOutput],
    )
    for side in (model.aembed_query, model.aembed_document):
        assert_type(await side("text"), embedge.ArrayOutputs[embedge.EmbeddingRequestOutput])
    assert_type(
        await model.aembed_sparse("text"), embedge.RaggedOutputs[embedge.SparseEmbeddingRequestOutput]
    )
    async for output in model.astream(prompts):
        assert_type(output, Pooled)
    assert_type(model.astream(["text"]), AsyncIterator[Pooled])
    assert_type(await model.aclassify("text"), embedge.ArrayOutputs[embedge.ClassificationRequestOutput])
    assert_type(await model.ascore("query", ["document"]), embedge.ArrayOutputs[embedge.ScoringRequestOutput])
    assert_type(await model.arerank("query", ["document"], top_n=3), list[embedge.RerankResult])


def wrong_arguments(model: embedge.EdgeModel) -> None:
    """What an editor underlines; an ignore that is not needed is an error of its own."""
    embedge.EdgeModel("folder", profile="fast")  # type: ignore[arg-type]
    model.embed(3)  # type: ignore[arg-type]
    model.embed("text", long_text="cut")  # type: ignore[arg-type]
    model.embed("text", surprise=1)  # type: ignore[call-arg]
    model.encode("text", pooling_task="chat")  # type: ignore[arg-type]
    model.score("query", "document", truncate="query")  # type: ignore[arg-type]
    embedge.PoolingParams(surprise=1)  # type: ignore[call-arg]
