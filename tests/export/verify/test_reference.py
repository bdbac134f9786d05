"""A reference's answers are finished by its own functions, and are what the SDK's give; in numpy they are torch's."""

import ast
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.checkpoints import CHECKPOINTS, make
from tests.export import tiny_kinds

import embedge_export.verify
from embedge._rows.heads import activate, cut_and_normalize
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge_export.activations import MODULE_ACTIVATIONS
from embedge_export.source.modules import Dense
from embedge_export.source.read import open_checkpoint
from embedge_export.source.tensors import LoadedModule
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec
from embedge_export.verify.in_numpy import InNumpy
from embedge_export.verify.in_torch import InTorch
from embedge_export.verify.numbers import built_in_inputs, make_cases
from embedge_export.verify.reference import finish, open_reference

ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32) * 10
ROWS[0] = 0
ROWS[1] *= 1e-15
ROWS[2] *= 30


@pytest.fixture(params=["torch", "numpy"])
def computation(request, tmp_path):
    """What comes after the network, which static embeddings have none of."""
    folder = tiny_kinds.static(tmp_path / "static")
    checkpoint = open_checkpoint(ExportSpec(model=str(folder))).checkpoint
    return InTorch(None) if request.param == "torch" else InNumpy(checkpoint)


@pytest.mark.parametrize("dimensions", [None, 5])
@pytest.mark.parametrize("normalize", [False, True])
def test_vectors_are_cut_and_normalised_as_the_sdk_does(dimensions, normalize, computation, tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path))
    manifest = msgspec.structs.replace(manifest, dimensions=dimensions, normalize=normalize)
    whole = cut_and_normalize(ROWS, None, normalize)
    expected = whole[:, :dimensions]  # as sentence-transformers' truncate_dim
    finished = finish(ROWS, manifest, "embed", computation)
    np.testing.assert_allclose(finish(ROWS, manifest, "embed", computation, "token_embed"), whole, atol=1e-6)
    assert finished.dtype == np.float32
    np.testing.assert_allclose(finished, expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "softmax"])
@pytest.mark.parametrize("comparison", ["score", "classify"])
def test_logits_are_activated_as_the_sdk_does(activation, comparison, computation, tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path, "classify"))
    other = "identity" if activation != "identity" else "sigmoid"
    stated = {"score": (other, activation), "classify": (activation, other)}[comparison]
    head = msgspec.structs.replace(manifest.head, activation=stated[0], score_activation=stated[1])
    finished = finish(ROWS, msgspec.structs.replace(manifest, head=head), comparison, computation)
    assert finished.dtype == np.float32
    np.testing.assert_allclose(finished, activate(ROWS, activation), atol=1e-6)


def test_without_a_head_rows_stay_as_they_are(computation, tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path))
    np.testing.assert_array_equal(finish(ROWS, manifest, "score", computation), ROWS)


@pytest.mark.parametrize("path", sorted(Path(embedge_export.verify.__file__).parent.rglob("*.py")), ids=str)
def test_nothing_private_of_the_sdk_takes_part_in_its_verification(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("embedge._"), node.module


KINDS = {
    "classifier-multilabel": {},
    "colbert": {},
    "colbert-attend": {},
    "colbert-residual": {},
    "cross-encoder-bert-1": {},
    "cross-encoder-dense": {},
    "dense-normalize-dense": {},
    "layer-norm": {},
    "model2vec": {},
    "pool-concat": {},
    "pool-lasttoken": {},
    "pool-mean-sqrt": {},
    "pool-weightedmean": {},
    "pooler-output": {},
    "process-reward": {"step_tag": "<extra_0>"},
    "qwen3-classifier": {},
    "qwen3-reranker": {"task": "score"},
    "qwen3-reranker-st": {},
    "splade": {},
    "splade-sum": {},
    "static-embedding": {},
    "token-classifier": {},
}
"""Checkpoints of every kind, and of every module; with what the caller has to state."""


@pytest.fixture
def both(request, tmp_path):
    """A checkpoint's references in torch and in numpy, and what they are asked."""
    stated = KINDS[request.param]
    source = open_checkpoint(ExportSpec(model=str(make(request.param, tmp_path / "m")), **stated))
    weights = load_weights(source.checkpoint)
    references = [
        open_reference(weights, source.checkpoint, source.tokenization, light=light)
        for light in (False, True)
    ]
    return *references, built_in_inputs(source.checkpoint)[0][::4]


def test_every_kind_is_among_them():
    from embedge_export.source.kinds import KINDS as ALL

    kinds = {"sparse": "splade", "static": "static-embedding", "reward": "process-reward"}
    kinds |= {
        "classifier": "qwen3-classifier",
        "causal_reranker": "qwen3-reranker",
        "embedding": "pool-concat",
    }
    kinds |= {"late_interaction": "colbert", "pooled_classifier": "cross-encoder-dense"}
    kinds |= {"token_classifier": "token-classifier"}
    assert set(kinds) == set(ALL)
    assert set(kinds.values()) <= set(KINDS) <= set(CHECKPOINTS)


@pytest.mark.parametrize("both", KINDS, indirect=True)
def test_every_kind_is_answered_in_numpy_as_in_torch(both):
    in_torch, in_numpy, texts = both
    asked = 0
    for expected, actual in zip(in_torch.answers(texts), in_numpy.answers(texts), strict=True):
        assert (expected is None) == (actual is None)
        if expected is None:
            continue
        assert actual.keys() == expected.keys()
        for task, rows in expected.items():
            assert actual[task].dtype == np.float32
            np.testing.assert_allclose(
                actual[task], rows, rtol=0, atol=1e-5 * max(1.0, float(np.abs(rows).max(initial=0)))
            )
            asked += rows.size > 0
    assert asked >= 5


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", sorted(MODULE_ACTIVATIONS))
def test_dense_modules_are_computed_in_numpy_as_in_torch(activation, residual, tmp_path):
    checkpoint = open_checkpoint(ExportSpec(model=str(tiny_kinds.static(tmp_path / "static")))).checkpoint
    module = Dense(
        folder=tmp_path,
        in_features=8,
        out_features=8,
        bias=True,
        activation=activation,
        use_residual=residual,
    )
    weight, bias = ROWS[:, :8].T @ ROWS[:, :8] / 900, ROWS[3]
    loaded = LoadedModule(
        module=module, weight=weight, bias=bias, residual=weight.T.copy() if residual else None
    )
    for rows in (ROWS / 10, ROWS[4]):
        expected = InTorch(None).dense(rows, module, loaded)
        actual = InNumpy(checkpoint).dense(rows, module, loaded)
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("both", ["pool-concat", "colbert"], indirect=True)
def test_texts_answered_together_are_answered_as_each_alone(both):
    for reference in both[:2]:
        together = reference.answers(both[2])
        for (text, document), answers in zip(both[2], together, strict=True):
            alone = reference.answer(text, document)
            assert alone is not None
            assert answers is not None
            for task, rows in alone.items():
                np.testing.assert_array_equal(answers[task], rows)


@pytest.mark.parametrize("both", ["pool-concat"], indirect=True)
def test_what_is_known_is_not_asked_again(both):
    _, reference, texts = both
    known = make_cases(reference, texts[1::2])
    cases = make_cases(reference, [*texts, *texts[:1]], known)
    assert [(case.prompt, case.document) for case in cases] == [*texts, *texts[:1]]
    assert [case for case in cases if any(case is each for each in known)] == known
