"""The examples of vLLM's documentation on PoolingParams, with only the import changed."""

from __future__ import annotations

import sys
from types import ModuleType

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

import embedge

LIMIT = 128  # tokens that the embedding checkpoint takes


@pytest.fixture(scope="module")
def models(exported) -> dict[str, str]:
    """Bundles, where the documentation has names on a hub."""
    names = {
        "embedding": "matryoshka-list",
        "binary": "classifier-binary",
        "emotions": "classifier-single-label",
        "reranker": "cross-encoder-bert-1",
    }
    return {name: str(exported(checkpoint)[1]) for name, checkpoint in names.items()}


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


@pytest.mark.parametrize(("name", "num_classes"), [("binary", 2), ("emotions", 3)])
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
    short, long = "city light " * 20, "city light " * 400
    (whole,) = llm.encode([short], pooling_params=PoolingParams(truncate_prompt_tokens=None))
    assert whole.num_truncated_tokens == 0
    with pytest.raises(ValueError, match=rf"tokens; the model's limit is {LIMIT}"):
        llm.encode([long], pooling_params=PoolingParams(truncate_prompt_tokens=None))
    to_limit = llm.encode([long], pooling_params=PoolingParams(truncate_prompt_tokens=-1))
    assert len(to_limit[0].prompt_token_ids) == LIMIT
    (to_ten,) = llm.encode([short], pooling_params=PoolingParams(truncate_prompt_tokens=10))
    first, *content = whole.prompt_token_ids
    assert to_ten.prompt_token_ids == [first, *content[-9:]]
    for out_of_range in (0, LIMIT + 1):
        with pytest.raises(ValueError, match=f"truncate_prompt_tokens={out_of_range} .* to {LIMIT}"):
            llm.encode([short], pooling_params=PoolingParams(truncate_prompt_tokens=out_of_range))


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
