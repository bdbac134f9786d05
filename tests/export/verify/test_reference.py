"""Torch's answers are finished by torch's own functions, and are what the SDK's give."""

import ast
from pathlib import Path

import msgspec
import numpy as np
import pytest

import embedge_export.verify
from embedge._rows.heads import activate, cut_and_normalize
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge_export.verify.reference import finish

ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32) * 10
ROWS[0] = 0
ROWS[1] *= 1e-15
ROWS[2] *= 30


@pytest.mark.parametrize("dimensions", [None, 5])
@pytest.mark.parametrize("normalize", [False, True])
def test_vectors_are_cut_and_normalised_as_the_sdk_does(dimensions, normalize, tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path))
    manifest = msgspec.structs.replace(manifest, dimensions=dimensions, normalize=normalize)
    whole = cut_and_normalize(ROWS, None, normalize)
    expected = whole[:, :dimensions]  # as sentence-transformers' truncate_dim
    finished = finish(ROWS, manifest, "embed")
    np.testing.assert_allclose(finish(ROWS, manifest, "embed", "token_embed"), whole, atol=1e-6)
    assert finished.dtype == np.float32
    np.testing.assert_allclose(finished, expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "softmax"])
@pytest.mark.parametrize("comparison", ["score", "classify"])
def test_logits_are_activated_as_the_sdk_does(activation, comparison, tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path, "classify"))
    other = "identity" if activation != "identity" else "sigmoid"
    stated = {"score": (other, activation), "classify": (activation, other)}[comparison]
    head = msgspec.structs.replace(manifest.head, activation=stated[0], score_activation=stated[1])
    finished = finish(ROWS, msgspec.structs.replace(manifest, head=head), comparison)
    assert finished.dtype == np.float32
    np.testing.assert_allclose(finished, activate(ROWS, activation), atol=1e-6)


def test_without_a_head_rows_stay_as_they_are(tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path))
    np.testing.assert_array_equal(finish(ROWS, manifest, "score"), ROWS)


@pytest.mark.parametrize("path", sorted(Path(embedge_export.verify.__file__).parent.glob("*.py")), ids=str)
def test_nothing_private_of_the_sdk_takes_part_in_its_verification(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("embedge._"), node.module
