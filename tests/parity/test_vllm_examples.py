"""The examples of vLLM's documentation on PoolingParams, with only the import changed."""

from __future__ import annotations

import sys
from types import ModuleType

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.export import tiny, tiny_kinds

import embedge
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")

    def make(name: str, save, **spec) -> str:
        save(folder / name)
        return str(export(ExportSpec(model=str(folder / name), output=folder / f"{name}-bundle", **spec)))

    return {
        "embedding": make("embedding", tiny.make_bert, matryoshka=(8, 16, 32)),
        "binary": make("binary", lambda f: tiny_kinds.bert_classifier(f, "negative", "positive")),
        "topics": make("topics", lambda f: tiny_kinds.bert_classifier(f, "a", "b", "c", "d")),
        "reranker": make("reranker", lambda f: tiny_kinds.bert_classifier(f, "LABEL_0")),
    }


@pytest.fixture(autouse=True)
def vllm(monkeypatch) -> ModuleType:
    """`from vllm import …` gives embedge's names: the changed import line."""
    monkeypatch.setitem(sys.modules, "vllm", embedge)
    return embedge


def test_embedding(models) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models["embedding"], runner="pooling")
    outputs = llm.encode(
        ["food city", "water light"], pooling_params=PoolingParams(normalize=True), pooling_task="embed"
    )
    for output in outputs:
        assert output.finished
        assert_allclose(np.linalg.norm(output.outputs.data), 1, atol=1e-6)
    (output,) = llm.embed("food city")
    assert len(output.outputs.embedding) == 32
    assert_allclose(output.outputs.embedding, outputs[0].outputs.data, atol=1e-6)


def test_matryoshka(models) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models["embedding"], runner="pooling")
    outputs = llm.embed(["food city"], pooling_params=PoolingParams(dimensions=16))
    assert len(outputs[0].outputs.embedding) == 16
    assert_allclose(np.linalg.norm(outputs[0].outputs.embedding), 1, atol=1e-6)


@pytest.mark.parametrize(("name", "num_classes"), [("binary", 2), ("topics", 4)])
def test_classification(models, name, num_classes) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models[name], runner="pooling")
    outputs = llm.classify(["how do plants", "water"], pooling_params=PoolingParams(use_activation=True))
    for output in outputs:
        assert output.outputs.num_classes == num_classes == len(output.outputs.probs)
        assert sum(output.outputs.probs) == pytest.approx(1, abs=1e-6)
    raw = llm.encode(["water"], pooling_params=PoolingParams(use_activation=False), pooling_task="classify")
    logits = raw[0].outputs.data.astype(np.float64)
    assert_allclose(np.exp(logits) / np.exp(logits).sum(), outputs[1].outputs.probs, atol=1e-6)


def test_scoring(models) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models["reranker"], runner="pooling")
    outputs = llm.encode(
        ["how do [SEP] plants carry", "water [SEP] city"],
        pooling_params=PoolingParams(task="score", use_activation=True),
    )
    scores = llm.score(prompts=["how do [SEP] plants carry", "water [SEP] city"])
    for output, score in zip(outputs, scores, strict=True):
        assert 0 < score.outputs.score < 1
        assert_allclose(output.outputs.data, [score.outputs.score], atol=1e-6)
    (output,) = llm.score("how do plants carry water", "city light")
    assert isinstance(output.outputs.score, float)


def test_token_embeddings(models) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models["embedding"], runner="pooling")
    (output,) = llm.encode(
        "food city", pooling_params=PoolingParams(task="token_embed", normalize=True, dimensions=8)
    )
    assert output.outputs.data.shape == (len(output.prompt_token_ids), 8)
    assert_allclose(np.linalg.norm(output.outputs.data, axis=1), 1, atol=1e-6)


def test_truncation_strategies(models) -> None:
    from vllm import LLM, PoolingParams

    llm = LLM(model=models["embedding"], runner="pooling")
    long = "city light " * 40
    with pytest.raises(ValueError, match="82 tokens; the model's limit is 48"):
        llm.encode([long], pooling_params=PoolingParams(truncate_prompt_tokens=None))
    to_limit = llm.encode([long], pooling_params=PoolingParams(truncate_prompt_tokens=-1))
    assert len(to_limit[0].prompt_token_ids) == 48
    to_ten = llm.encode([long], pooling_params=PoolingParams(truncate_prompt_tokens=10))
    assert len(to_ten[0].prompt_token_ids) == 10


def test_plugin_with_extra_kwargs(models) -> None:
    from vllm import LLM, PoolingParams, register_pooling

    @register_pooling("first-and-last")
    def first_and_last(prompts):
        return [p.extra_kwargs["scale"] * p.hidden_states[[0, -1]] for p in prompts]

    llm = LLM(model=models["embedding"], runner="pooling", pooling_plugin="first-and-last")
    params = PoolingParams(task="plugin", extra_kwargs={"scale": 2.0})
    (output,) = llm.encode("food city", pooling_params=params)
    tokens = llm.encode("food city", PoolingParams(normalize=False), pooling_task="token_embed").numpy()[0]
    assert_allclose(output.outputs.data, 2 * tokens[[0, -1]], atol=1e-5)


def test_verify_and_clone() -> None:
    from vllm import ModelConfig, PoolingParams

    params = PoolingParams(dimensions=256)
    params.verify(
        "embed", ModelConfig(is_matryoshka=True, matryoshka_dimensions=[128, 256], embedding_size=768)
    )
    assert (params.task, params.normalize) == ("embed", True)
    clone = params.clone()
    clone.dimensions = 128
    assert params.dimensions == 256
    assert msgspec.json.decode(msgspec.json.encode(params), type=PoolingParams) == params


def test_the_two_error_examples() -> None:
    from vllm import PoolingParams

    with pytest.raises(ValueError, match="Task classify only supports"):
        PoolingParams(normalize=True).verify("classify")
    with pytest.raises(ValueError, match="You cannot overwrite"):
        PoolingParams(task="embed").verify("classify")
