"""Properties that hold for every input."""

from __future__ import annotations

from contextlib import ExitStack

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from embedge import EdgeModel, ModelConfig, PoolerConfig, PoolingParams
from embedge._batches.planning import plan_batches
from embedge._rows.heads import cut_and_normalize, sigmoid
from embedge._rows.pooling import POOLERS, pool
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.tokens import Encoded, EncodedRows
from embedge.manifest import Manifest, dump_manifest, fingerprint, load_manifest
from embedge.testing import tiny_bundle

settings.register_profile("embedge", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("embedge")

LENGTHS = st.lists(st.integers(1, 300), max_size=80)
TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def model(tiny_embedder):
    with EdgeModel(tiny_embedder, truncate_prompt_tokens=-1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def matryoshka(tmp_path_factory):
    folder = tiny_bundle(tmp_path_factory.mktemp("matryoshka"), changes={"matryoshka": True})
    with EdgeModel(folder, device="cpu", threads=1, truncate_prompt_tokens=-1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tiny_reranker(tmp_path_factory):
    """Its logits are lifted by 40, so that every score rounds to 1."""
    folder = tiny_bundle(tmp_path_factory.mktemp("reranker"), "cross_encoder")
    lifted = PoolerConfig(logit_bias=-40.0)
    with EdgeModel(
        folder, device="cpu", threads=1, truncate_prompt_tokens=-1, pooler_config=lifted
    ) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def token_models(tmp_path_factory):
    with ExitStack() as stack:
        yield {
            side: stack.enter_context(
                EdgeModel(
                    tiny_bundle(tmp_path_factory.mktemp(side), padding_side=side),
                    device="cpu",
                    threads=1,
                    truncate_prompt_tokens=-1,
                )
            )
            for side in ("left", "right")
        }


@given(LENGTHS, st.integers(1, 2000))
def test_batches_are_a_partition_within_the_limit(lengths, limit) -> None:
    batches = plan_batches(lengths, limit)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= limit


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    st.sampled_from(["left", "right"]),
)
def test_padding_keeps_every_row(rows, side) -> None:
    encoded = EncodedRows.of([Encoded(token_ids=row) for row in rows])
    padded = encoded.batch(np.arange(len(rows)), -1, side).input_ids
    for row, out in zip(rows, padded, strict=True):
        assert [x for x in out.tolist() if x != -1] == row
        edge = out[: len(row)] if side == "right" else out[len(out) - len(row) :]
        assert edge.tolist() == row


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 6),
    st.sampled_from(["left", "right"]),
    st.sampled_from(sorted(POOLERS)),
)
def test_padding_never_changes_a_pooled_row(seed, lengths, extra, side, mode) -> None:
    rng = np.random.default_rng(seed)
    width = max(lengths) + extra
    hidden = rng.normal(size=(len(lengths), width, 4)).astype(np.float32)
    places = np.arange(width)[:: 1 if side == "right" else -1]
    mask = (places < np.array(lengths)[:, None]).astype(np.int64)
    together = pool(hidden, mask, [mode])
    for i, kept in enumerate(mask.astype(bool)):
        alone = pool(hidden[i][kept][None], np.ones((1, kept.sum())), [mode])
        assert_allclose(together[i], alone[0], atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 16))
def test_slice_then_normalise_gives_unit_rows(seed, dimensions) -> None:
    rows = np.random.default_rng(seed).normal(size=(4, 16)).astype(np.float32)
    cut = cut_and_normalize(rows, dimensions, normalize=True)
    assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-5)
    assert_allclose(
        cut * np.linalg.norm(rows[:, :dimensions], axis=1, keepdims=True), rows[:, :dimensions], atol=1e-4
    )


@given(st.floats(-700, 700), st.floats(-700, 700))
def test_sigmoid_is_monotone(a, b) -> None:
    low, high = sorted((a, b))
    assert 0 <= sigmoid(low) <= sigmoid(high) <= 1


def params() -> st.SearchStrategy[PoolingParams]:
    return st.builds(
        PoolingParams,
        truncate_prompt_tokens=st.none() | st.integers(-1, 512),
        dimensions=st.none() | st.integers(-3, 512),
        normalize=st.none() | st.booleans(),
        use_activation=st.none() | st.booleans(),
        step_tag_id=st.none() | st.integers(0, 9),
        returned_token_ids=st.none() | st.lists(st.integers(0, 9), max_size=3),
        task=st.none()
        | st.sampled_from(["embed", "classify", "score", "token_embed", "token_classify", "plugin"]),
        requires_token_ids=st.booleans(),
        skip_reading_prefix_cache=st.none() | st.booleans(),
        extra_kwargs=st.none()
        | st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5), max_size=3),
    )


@given(params())
def test_parameters_round_trip_exactly(params) -> None:
    assert msgspec.json.decode(msgspec.json.encode(params), type=PoolingParams) == params
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=PoolingParams) == params
    assert params.clone() == params


@given(
    params(),
    st.sampled_from(["embed", "classify", "score", "token_embed", "token_classify", "plugin"]),
    st.booleans(),
)
def test_verify_is_idempotent(params, task, is_step) -> None:
    config = ModelConfig(
        pooler_config=PoolerConfig(
            pooling_type="STEP" if is_step else "MEAN", step_tag_id=3 if is_step else None
        ),
        is_matryoshka=True,
        embedding_size=256,
    )
    try:
        params.verify(task, config)
    except ValueError:
        return
    once = params.clone()
    params.verify(task, config)
    assert params == once


@given(TEXTS)
def test_a_row_of_a_batch_is_the_row_alone_in_any_order(model, texts) -> None:
    together = model.embed(texts).numpy()
    backwards = model.embed(texts[::-1]).numpy()[::-1]
    assert_allclose(together, backwards, atol=1e-6)
    assert_allclose(together, np.concatenate([model.embed(t).numpy() for t in texts]), atol=1e-6)


@given(
    st.lists(st.text("abc .,river cold", min_size=1, max_size=40).filter(str.strip), min_size=1, max_size=9)
)
def test_rerank_orders_by_logit_even_where_every_score_is_one(tiny_reranker, documents) -> None:
    raw = PoolingParams(use_activation=False)
    logits = tiny_reranker.score("the river", documents, pooling_params=raw).numpy()
    ranked = tiny_reranker.rerank("the river", documents)
    assert {result.score for result in ranked} == {1.0}
    assert [result.index for result in ranked] == list(np.argsort(-logits, kind="stable"))


@given(st.floats(20, 30))
def test_scores_of_large_logits_do_not_tie(logit) -> None:
    assert sigmoid(logit) < sigmoid(logit + 1) < 1.0


@given(TEXTS, st.data())
def test_parameters_of_a_prompt_never_touch_another_and_stay_as_they_are(matryoshka, texts, data) -> None:
    some = st.builds(
        PoolingParams,
        dimensions=st.none() | st.integers(1, matryoshka.info.embedding_size),
        normalize=st.none() | st.booleans(),
        truncate_prompt_tokens=st.sampled_from([-1, 2, 5]),
    )
    params = data.draw(st.lists(some, min_size=len(texts), max_size=len(texts)))
    before = msgspec.json.encode(params)
    outputs = matryoshka.embed(texts, pooling_params=params)
    assert msgspec.json.encode(params) == before
    for text, p, output in zip(texts, params, outputs, strict=True):
        (alone,) = matryoshka.embed(text, pooling_params=p)
        assert_allclose(output.outputs.data, alone.outputs.data, atol=1e-6)
        assert output.prompt_token_ids == alone.prompt_token_ids


@given(st.lists(st.text("abc .,river cold", max_size=60), min_size=1, max_size=6), st.permutations(range(6)))
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_tokens_do_not_depend_on_the_batch(token_models, side, texts, order) -> None:
    model = token_models[side]
    order = [i for i in order if i < len(texts)]
    together = model.encode([texts[i] for i in order], pooling_task="token_embed").numpy()
    for i, rows in zip(order, together, strict=True):
        (alone,) = model.encode(texts[i], pooling_task="token_embed").numpy()
        assert_allclose(rows, alone, atol=1e-6)


@given(st.text(max_size=200), st.integers(2, 48), st.sampled_from(["left", "right", None]))
def test_truncation_keeps_the_limit_and_the_specials(model, text, limit, side) -> None:
    tokenizer: PromptTokenizer = model._open().engine.tokenizer
    whole = tokenizer.texts._tokenizer.encode(text).ids
    (cut,) = tokenizer.encode([text], [limit], truncation_side=side)
    assert len(cut.token_ids) == min(len(whole), limit)
    assert len(cut.token_ids) + cut.num_truncated == len(whole)
    assert (cut.token_ids[0], cut.token_ids[-1]) == (whole[0], whole[-1])


@given(
    st.text(min_size=1, max_size=9),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.booleans() | st.lists(st.integers(1, 32), min_size=1, max_size=3).map(tuple),
)
def test_manifests_round_trip(tiny_embedder, tmp_path_factory, name, prompts, matryoshka) -> None:
    stored = load_manifest(tiny_embedder)
    changed: Manifest = msgspec.structs.replace(stored, name=name, prompts=prompts, matryoshka=matryoshka)
    changed = msgspec.structs.replace(changed, fingerprint=fingerprint(changed))
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "manifest.json").write_bytes(dump_manifest(changed))
    assert load_manifest(folder) == changed
