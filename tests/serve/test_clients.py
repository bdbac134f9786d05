"""What the clients of OpenAI, Cohere and TEI get is what the SDK gives, to the last bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cohere
import httpx
import numpy as np
import openai
import pytest
from tests.serve.conftest import KEY

from embedge import EdgeModel, PoolingParams

TEXTS = ["the river", "a small house in the city", "music"]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.address, headers={"authorization": f"Bearer {KEY}"}) as made:
        yield made


@pytest.fixture(scope="module")
def model(bundles):
    with EdgeModel(bundles["embed"]) as opened:
        yield opened


def rows(response) -> np.ndarray:
    return np.array([each.embedding for each in response.data], np.float64)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_openai_texts(client, model, encoding) -> None:
    """Without a format the client asks for base64 and decodes it."""
    expected = model.embed(TEXTS)
    response = client.embeddings.create(model="tiny-embed", input=TEXTS, **encoding)
    assert (rows(response) == expected.numpy()).all()
    assert [each.index for each in response.data] == [0, 1, 2]
    assert response.model == "tiny-embed"
    assert response.usage.prompt_tokens == sum(len(each.prompt_token_ids) for each in expected)
    one = client.embeddings.create(model="tiny-embed", input=TEXTS[0], **encoding)
    assert (rows(one) == model.embed(TEXTS[0]).numpy()).all()


def test_openai_base64_is_the_same_bytes(client, model) -> None:
    import base64

    response = client.embeddings.create(model="tiny-embed", input=TEXTS, encoding_format="base64")
    assert [base64.b64decode(each.embedding) for each in response.data] == [
        row.astype("<f4").tobytes() for row in model.embed(TEXTS).numpy()
    ]


def test_openai_token_ids(client, model) -> None:
    ids = [each.prompt_token_ids for each in model.embed(TEXTS)]
    expected = model.embed([{"prompt_token_ids": each} for each in ids]).numpy()
    assert (rows(client.embeddings.create(model="tiny-embed", input=ids)) == expected).all()
    alone = model.embed({"prompt_token_ids": ids[1]}).numpy()
    assert (rows(client.embeddings.create(model="tiny-embed", input=ids[1])) == alone).all()


def test_openai_dimensions_and_what_the_sdk_adds(client, model) -> None:
    given = client.embeddings.create(
        model="tiny-embed", input=TEXTS, dimensions=4, extra_body={"normalize": False, "prompt_name": "query"}
    )
    params = PoolingParams(dimensions=4, normalize=False)
    assert (rows(given) == model.embed(TEXTS, pooling_params=params, prompt_name="query").numpy()).all()
    with pytest.raises(openai.BadRequestError, match=r"only supports \[2, 4, 8\]"):
        client.embeddings.create(model="tiny-embed", input=TEXTS, dimensions=300)


def test_two_bundles_answer_by_name(client, bundles) -> None:
    assert [each.id for each in client.models.list()][:2] == ["tiny-embed", "other"]
    assert client.models.retrieve("other").id == "other"
    with EdgeModel(bundles["other"]) as other:
        expected = other.embed(TEXTS).numpy()
    assert (rows(client.embeddings.create(model="other", input=TEXTS)) == expected).all()
    with pytest.raises(
        openai.NotFoundError, match=r"'gpt' is not served here; expected one of 'tiny-embed', 'other'"
    ):
        client.embeddings.create(model="gpt", input="a")


@pytest.mark.parametrize("kind", [cohere.Client, cohere.ClientV2])
def test_cohere(server, bundles, kind) -> None:
    with EdgeModel(bundles["cross_encoder"]) as reranker:
        expected = reranker.rerank("river", TEXTS)
    with httpx.Client() as connection:
        client = kind(api_key=KEY, base_url=server.address, httpx_client=connection)
        given = client.rerank(model="tiny-cross_encoder", query="river", documents=TEXTS)
        assert [(r.index, r.relevance_score) for r in given.results] == [(r.index, r.score) for r in expected]
        best = client.rerank(model="tiny-cross_encoder", query="river", documents=TEXTS, top_n=1)
        assert [r.index for r in best.results] == [expected[0].index]
        with pytest.raises(cohere.NotFoundError, match="'rerank-v9' is not served here"):
            client.rerank(model="rerank-v9", query="river", documents=TEXTS)


def test_tei_rerank(http, bundles) -> None:
    with EdgeModel(bundles["cross_encoder"]) as reranker:
        expected = reranker.rerank("river", TEXTS)
        raw = reranker.rerank("river", TEXTS, pooling_params=PoolingParams(use_activation=False))
    body = {"query": "river", "texts": TEXTS}
    assert http.post("/rerank", json=body).json() == [{"index": r.index, "score": r.score} for r in expected]
    given = http.post("/rerank", json=body | {"raw_scores": True, "return_text": True}).json()
    assert given == [{"index": r.index, "score": r.score, "text": r.document} for r in raw]
    of_cohere = http.post(
        "/rerank", json={"query": "river", "documents": TEXTS, "return_documents": True}
    ).json()
    assert [r["document"]["text"] for r in of_cohere["results"]] == [r.document for r in expected]


def test_tei_embed(http, model) -> None:
    given = http.post("/embed", json={"inputs": TEXTS, "normalize": False, "prompt_name": "query"}).json()
    params = PoolingParams(normalize=False)
    assert given == model.embed(TEXTS, pooling_params=params, prompt_name="query").numpy().tolist()
    assert http.post("/embed", json={"inputs": TEXTS[0]}).json() == model.embed(TEXTS[0]).numpy().tolist()
    long = {"inputs": "the river " * 40}
    refused = http.post("/embed", json=long)
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "Validation"
    cut = http.post("/embed", json=long | {"truncate": True, "truncation_direction": "Left"}).json()
    expected = model.embed(long["inputs"], truncate_prompt_tokens=-1, truncation_side="left")
    assert cut == expected.numpy().tolist()


def test_tei_sparse_and_predict(http, bundles) -> None:
    with EdgeModel(bundles["sparse"]) as sparse, EdgeModel(bundles["classify"]) as classifier:
        terms = sparse.embed_sparse(TEXTS)
        probs = classifier.classify(TEXTS)
        pair = classifier.classify({"text": TEXTS[0], "text_pair": TEXTS[1]})[0].outputs
    given = http.post("/embed_sparse", json={"inputs": TEXTS, "model": "tiny-sparse"}).json()
    assert [{t["index"]: t["value"] for t in row} for row in given] == [
        dict(zip(o.outputs.token_ids.tolist(), o.outputs.weights.tolist(), strict=True)) for o in terms
    ]
    asked = {"inputs": [[text] for text in TEXTS], "model": "tiny-classify"}
    labelled = http.post("/predict", json=asked).json()
    assert [row[0]["label"] for row in labelled] == [o.outputs.label for o in probs]
    assert [sorted(p["score"] for p in row) for row in labelled] == [sorted(o.outputs.probs) for o in probs]
    single = http.post("/predict", json={"inputs": TEXTS[0], "model": "tiny-classify"}).json()
    assert single == labelled[0]
    for inputs, unpacked in ((TEXTS[:2], lambda row: row), ([TEXTS[:2]], lambda rows: rows[0])):
        of_pair = unpacked(http.post("/predict", json=asked | {"inputs": inputs}).json())
        assert of_pair[0]["label"] == pair.label
        assert sorted(p["score"] for p in of_pair) == sorted(pair.probs)
    assert http.post("/predict", json=asked | {"inputs": TEXTS}).status_code == 422


def test_nothing_is_lost_or_swapped_among_many_clients(http, model) -> None:
    texts = [f"the river {'house ' * (n % 9)}{'music ' * (n % 7)}" for n in range(400)]
    expected = [model.embed(text).numpy().tolist() for text in texts]
    with ThreadPoolExecutor(16) as pool:
        given = list(pool.map(lambda text: http.post("/embed", json={"inputs": text}).json(), texts))
    np.testing.assert_allclose(given, expected, atol=1e-6)


def test_what_is_read(http) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    info = http.get("/info").json()
    assert (info["model_id"], info["max_client_batch_size"]) == ("tiny-embed", 1024)
    http.post("/embed", json={"inputs": TEXTS})
    http.post("/embed", json={})
    metrics = http.get("/metrics").text
    assert 'embedge_requests_total{path="/embed",status="200"}' in metrics
    assert 'embedge_requests_total{path="/embed",status="422"}' in metrics
    assert 'embedge_inputs_total{model="tiny-embed"}' in metrics
    assert "embedge_requests_in_flight 0" in metrics
