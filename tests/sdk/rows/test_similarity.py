"""Ways to compare embeddings, against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from embedge import ShapeError
from embedge._rows.similarity import similarities

RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(size=(count, 6)).astype(np.float32) for count in (3, 4))
EXPECTED = {
    "cosine": lambda a, b: torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1),
    "dot": lambda a, b: a @ b.T,
    "euclidean": lambda a, b: -torch.cdist(a, b, p=2),
    "manhattan": lambda a, b: -torch.cdist(a, b, p=1),
}


@pytest.mark.parametrize("how", EXPECTED)
def test_larger_is_nearer_and_the_numbers_are_those_of_torch(how) -> None:
    found = similarities(FIRST, SECOND, how)
    expected = EXPECTED[how](torch.from_numpy(FIRST), torch.from_numpy(SECOND)).numpy()
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert similarities(FIRST, FIRST, how).argmax(axis=1).tolist() == [0, 1, 2] or how == "dot"
    assert_allclose(similarities(FIRST[0], SECOND, how), found[:1], rtol=1e-6)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ShapeError, match=r"have 6 components and embeddings_2 have 5; expected as many"):
        similarities(FIRST, SECOND[:, :5], "dot")
    assert similarities(FIRST, SECOND[:0], "dot").shape == (3, 0)
