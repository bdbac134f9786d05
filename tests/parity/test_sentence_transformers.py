"""all-MiniLM-L6-v2, real weights: our numbers against sentence-transformers in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from tests.corpus import texts

from embedge import EdgeModel, PoolingParams

TEXTS = texts(300)
ATOL = 1e-5  # float32 in another order of operations; measured 2e-7 normalised, 4e-6 not


@pytest.fixture(scope="module")
def reference(minilm_checkpoint: Path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(minilm_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def model(minilm_bundle: Path):
    with EdgeModel(minilm_bundle, device="cpu", truncate_prompt_tokens=-1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def our_vectors(model):
    return model.embed(TEXTS).numpy()


@pytest.fixture(scope="module")
def unit_vectors(reference):
    return reference.encode(TEXTS, batch_size=32)


@pytest.fixture(scope="module")
def raw_vectors(reference):
    """What comes before the Normalize module."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[reference[0], reference[1]], device="cpu").encode(
        TEXTS, batch_size=32
    )


def assert_parity(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    assert_allclose(actual, expected, atol=ATOL, rtol=0)
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    cosines = (a * e).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(e, axis=1)
    assert cosines.min() >= 0.999999


def test_normalised(our_vectors, unit_vectors) -> None:
    assert_parity(our_vectors, unit_vectors)


def test_not_normalised(model, raw_vectors) -> None:
    actual = model.embed(TEXTS, pooling_params=PoolingParams(normalize=False)).numpy()
    assert np.abs(np.linalg.norm(actual, axis=1) - 1).max() > 0.1
    assert_parity(actual, raw_vectors)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_dimensions(model, reference, raw_vectors, dimensions, normalize) -> None:
    from sentence_transformers.util import normalize_embeddings, truncate_embeddings

    expected = truncate_embeddings(torch.from_numpy(raw_vectors[::5]), dimensions)
    if normalize:
        expected = normalize_embeddings(expected)
        some = reference.encode(TEXTS[::10], truncate_dim=dimensions, normalize_embeddings=True)
        assert_allclose(some, expected[::2], atol=1e-6, rtol=0)
    params = PoolingParams(dimensions=dimensions, normalize=normalize)
    actual = model.embed(TEXTS[::5], pooling_params=params).numpy()
    assert_parity(actual, expected.numpy())
    lengths = np.linalg.norm(actual, axis=1)
    assert (np.abs(lengths - 1).max() < 1e-6) == normalize


def test_token_embeddings(model, reference) -> None:
    expected = reference.encode(TEXTS[:60], output_value="token_embeddings", batch_size=8)
    actual = model.encode(TEXTS[:60], PoolingParams(normalize=False), pooling_task="token_embed").numpy()
    for ours, theirs in zip(actual, expected, strict=True):
        assert_allclose(ours, theirs.numpy()[: len(ours)], atol=ATOL, rtol=0)


def test_batch_of_one_equals_batch_of_many(model, our_vectors) -> None:
    alone = np.concatenate([model.embed(text).numpy() for text in TEXTS[::3]])
    assert_allclose(our_vectors[::3], alone, atol=1e-6, rtol=0)


def test_token_ids_give_the_same_as_text(model) -> None:
    outputs = model.embed(TEXTS[:50])
    by_ids = model.embed([output.prompt_token_ids for output in outputs])
    assert_allclose(outputs.numpy(), by_ids.numpy(), atol=1e-6, rtol=0)


def test_limit_is_the_models_256_not_the_tokenizers_128(model, reference) -> None:
    assert model.info.max_seq_len == 256 == reference.max_seq_length
    long = "word " * 400
    output = model.embed(long)[0]
    assert len(output.prompt_token_ids) == 256
    assert output.num_truncated_tokens == 402 - 256
    # 200 words fit, and the last of them count
    assert np.abs(model.embed("word " * 200).numpy() - model.embed("word " * 126).numpy()).max() > 1e-3
