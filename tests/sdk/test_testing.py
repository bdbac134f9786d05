"""embedge.testing: its graphs are valid, compute what its numpy twin computes, and answer through the SDK."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from tokenizers import Tokenizer

from embedge import EdgeModel, ParamsError, PoolingParams
from embedge._testing import tiny_model
from embedge.testing import TinyKind, assert_embeddings_close, tiny_bundle
from embedge.verify import verify

KINDS = get_args(TinyKind)
TEXTS = ["the river is cold", "good", "", "no light in the old city , yes"]
UNPOOLED = PoolingParams(normalize=False)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_are_valid_onnx(tiny, kind) -> None:
    onnx.checker.check_model(onnx.load(tiny(kind) / "onnx" / "model.onnx"), full_check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_bundles_verify_and_answer_their_main_task(tiny, kind) -> None:
    folder = tiny(kind)
    (report,) = verify(folder)
    assert report.num_probes == (kind in ("embed", "classify"))
    assert report.passed == (report.num_probes > 0)
    with EdgeModel(folder) as model:
        rows = model.encode(["the river .", "bad ."]).numpy()
    assert len(rows) == 2
    assert all(np.isfinite(row).all() and row.size for row in rows)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("special_tokens", [True, False])
def test_hidden_states_are_those_of_the_numpy_twin(tiny, side, special_tokens) -> None:
    weights = tiny_model.make_weights(0, 0, 1)
    texts = TEXTS if special_tokens else [text for text in TEXTS if text]
    with EdgeModel(tiny(padding_side=side, special_tokens=special_tokens)) as model:
        outputs = model.encode(texts, UNPOOLED, pooling_task="token_embed")
    for output in outputs:
        ids = output.prompt_token_ids
        assert_allclose(
            output.outputs.data, tiny_model.hidden_states(weights, ids, [0] * len(ids)), atol=1e-6
        )


def test_the_tokenizer_is_what_the_manifest_states(tiny) -> None:
    tokenizer = Tokenizer.from_file(str(tiny() / "tokenizer.json"))
    tokenizer.no_truncation()
    assert tokenizer.encode("the river, zebra").tokens == ["[CLS]", "the", "river", ",", "[UNK]", "[SEP]"]
    pair = tokenizer.encode("the", "river")
    assert (pair.tokens, pair.type_ids) == (["[CLS]", "the", "[SEP]", "river", "[SEP]"], [0, 0, 0, 1, 1])
    assert tokenizer.get_vocab_size() == len(tiny_model.VOCABULARY)


def test_the_same_seed_gives_the_same_fingerprint_and_another_one_does_not(tiny) -> None:
    def fingerprint(**kwargs) -> str:
        with EdgeModel(tiny(**kwargs)) as model:
            return model.info.fingerprint

    assert fingerprint() == fingerprint()
    assert fingerprint() != fingerprint(seed=1)
    assert fingerprint() != fingerprint(changes={"max_seq_len": 31})


def test_unknown_kind(tmp_path) -> None:
    with pytest.raises(ParamsError, match=r"kind='chat' is not known; expected one of embed, classify"):
        tiny_bundle(tmp_path, "chat")
    assert list(tmp_path.iterdir()) == []


def test_close_embeddings_pass() -> None:
    rows = np.eye(3, dtype=np.float32)
    assert_embeddings_close(rows, rows + 9e-6)
    assert_embeddings_close(rows[0], rows[0])
    assert_embeddings_close(np.zeros((0, 4)), np.zeros((0, 4)))


def test_the_worst_row_is_named() -> None:
    expected = np.eye(3)
    actual = expected.copy()
    actual[1] += 0.01
    actual[2] = [1.0, 0.0, 0.0]
    with pytest.raises(
        AssertionError,
        match=r"^2 of 3 embeddings differ by more than 0.001; the worst is row 2: "
        r"largest absolute difference 1, cosine 0.000000$",
    ):
        assert_embeddings_close(actual, expected, atol=1e-3)


def test_nan_shapes_and_zeros_are_no_match() -> None:
    with pytest.raises(AssertionError, match="largest absolute difference inf"):
        assert_embeddings_close([[np.nan, 1.0]], [[1.0, 1.0]])
    with pytest.raises(AssertionError, match="cosine nan"):
        assert_embeddings_close([[0.0, 0.0]], [[1.0, 1.0]])
    with pytest.raises(AssertionError, match=r"shape \(1, 2\), expected \(1, 3\)"):
        assert_embeddings_close([[1, 2]], [[1, 2, 3]])


@pytest.mark.parametrize(
    ("pooling", "with_dense"),
    [(("MEAN",), True), (("CLS", "MAX"), False), (("CLS", "MAX"), True), (("ALL",), True)],
)
def test_shapes_of_embedders(tiny, pooling, with_dense) -> None:
    folder = tiny(pooling=pooling, with_dense=with_dense)
    (report,) = verify(folder)
    rows = pooling != ("ALL",)
    assert (report.num_probes, report.passed) == (int(rows), rows)
    with EdgeModel(folder, device="cpu", threads=1) as model:
        size = model.info.embedding_size
        assert size == (tiny_model.DENSE_SIZE if with_dense else tiny_model.HIDDEN_SIZE * len(pooling))
        if rows:
            assert model.embed(TEXTS).numpy().shape == (len(TEXTS), size)
        if len(pooling) == 1:
            assert model.encode(TEXTS, pooling_task="token_embed").numpy()[0].shape[1] == size
        assert model.info.tasks == (("embed", "token_embed") if rows else ("token_embed",))
