"""What raw answers are asked with, and how two of them are held against each other."""

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge_export.verify import numbers
from embedge_export.verify.numbers import Case, _alone, largest_difference, raw_params

ROW = np.zeros(2, np.float32)


def test_arrays_of_another_shape_differ_without_end():
    assert largest_difference(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)) == float("inf")


def test_the_largest_number_counts_and_nothing_is_no_difference():
    a, b = np.array([1.0, -2.0], np.float32), np.array([1.5, 2.0], np.float32)
    assert largest_difference(a, b) == 4.0
    assert largest_difference(a[:0], b[:0]) == 0.0
    assert np.isnan(largest_difference(a, np.array([np.nan, 2.0], np.float32)))


@pytest.mark.parametrize(("dimensions", "asked"), [(None, None), (4, 8)])
def test_raw_vectors_are_neither_cut_nor_normalised(dimensions, asked, tmp_path):
    changes = {"dimensions": dimensions, "matryoshka": True, "normalize": True}
    folder = tiny_bundle(tmp_path, changes=changes)
    manifest = load_manifest(folder)
    params = raw_params("embed", manifest)
    assert (params.normalize, params.dimensions, params.truncate_prompt_tokens) == (False, asked, -1)
    with EdgeModel(folder, device="cpu") as model:
        (row,) = model.embed(["the river"], pooling_params=params).numpy()
    assert row.shape == (manifest.embedding_size,)
    assert abs(np.linalg.norm(row) - 1) > 1e-3


@pytest.mark.parametrize(
    ("tiny", "task", "activated"),
    [("classify", "classify", False), ("cross_encoder", "score", False), ("late_interaction", "score", None)],
)
def test_raw_logits_are_not_activated(tiny, task, activated, tmp_path):
    assert raw_params(task, load_manifest(tiny_bundle(tmp_path, tiny))).use_activation is activated


def test_vectors_of_nothing_are_alike_and_unlike_all_others():
    nothing, something = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert numbers._cosine(nothing, nothing) == 1.0
    assert numbers._cosine(nothing, something) == 0.0


def test_every_text_is_asked_alone_for_one_task_and_some_for_the_next():
    cases = [Case(prompt=str(i), expected={"embed": ROW, "token_embed": ROW}) for i in range(20)]
    pairs = [Case(prompt="q", document=str(i), expected={"score": ROW}) for i in range(3)]
    assert _alone(cases, "embed") == list(range(20))
    assert _alone(cases, "token_embed") == [0, 8, 16]
    assert _alone(pairs, "score") == [0, 1, 2]


def test_a_gate_grows_with_the_answer_or_with_a_typical_one():
    answers = [np.array([0.1, -6.0]), np.array([0.2]), np.array([8.0])]
    typical = numbers.typical_magnitude(answers)
    assert typical == 6.0
    assert [numbers.magnitude(answer, typical) for answer in answers] == [6.0, 6.0, 8.0]
    assert numbers.magnitude(np.array([0.2]), 0.3) == 1.0
    assert numbers.typical_magnitude([]) == 0.0
