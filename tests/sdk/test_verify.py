"""What probes hold: answers before cut, normalisation and activation."""

from __future__ import annotations

import pytest

from embedge import PoolingParams
from embedge.manifest import load_manifest
from embedge.verify import raw_params


@pytest.mark.parametrize(
    ("kind", "task", "expected"),
    [
        ("embed", "embed", PoolingParams(normalize=False)),
        ("embed", "token_embed", PoolingParams(normalize=False)),
        ("classify", "classify", PoolingParams(use_activation=False)),
        ("cross_encoder", "score", PoolingParams(use_activation=False)),
        ("token_classify", "token_classify", PoolingParams(use_activation=False)),
        ("late_interaction", "score", PoolingParams()),
        ("late_interaction", "token_embed", PoolingParams(normalize=False)),
    ],
)
def test_raw_answers_leave_out_what_comes_last(tiny, kind, task, expected) -> None:
    expected.truncate_prompt_tokens = -1
    assert raw_params(task, load_manifest(tiny(kind))) == expected


def test_raw_embeddings_are_whole_where_the_bundle_cuts_them(tiny) -> None:
    cut = tiny(changes={"matryoshka": (4, 8), "dimensions": 4})
    assert raw_params("embed", load_manifest(cut)).dimensions == 8
