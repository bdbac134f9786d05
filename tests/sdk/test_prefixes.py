"""What all texts of a call begin with is computed once, and changes no number: alone, in company, over threads."""

from __future__ import annotations

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tests.sdk.summing import row, summing_bundle

from embedge import DeadlineError, EdgeModel, ParamsError, PoolingParams, PromptError
from embedge._batches.prefixes import Prefixes
from embedge._text.tokens import Encoded, EncodedRows
from embedge.manifest import PrefixSpec

RAW = PoolingParams(normalize=False)
LONG = "the river is cold and the bridge is not open in the small dark city of stone : "
OTHER = "a light house in the south is closed at night and the road of stone is long ? "
TEXTS = ["the river", "a", "bridge is open , not closed", "cold " * 40, "warm " * 300, "the river"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return summing_bundle(tmp_path_factory.mktemp("sums") / "bundle")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    return summing_bundle(tmp_path_factory.mktemp("scores") / "bundle", "llm_reranker")


def prefixes_of(model: EdgeModel) -> Prefixes | None:
    return model._open().engine.forward.prefixes


def embed(model: EdgeModel, texts=TEXTS, prompt: str = LONG) -> np.ndarray:
    outputs = model.embed(texts, pooling_params=RAW, prompt=prompt)
    assert_array_equal(outputs.numpy(), [row(output.prompt_token_ids) for output in outputs])
    return outputs.numpy()


def test_numbers_are_those_of_whole_texts_alone_and_in_company(bundle) -> None:
    with (
        EdgeModel(bundle, device="cpu") as model,
        EdgeModel(bundle, device="cpu", enable_prefix_caching=False) as whole,
    ):
        together = embed(model)
        assert_array_equal(together, embed(whole))
        for text, expected in zip(TEXTS, together, strict=True):
            assert_array_equal(embed(model, [text]), [expected])
        kept = prefixes_of(model)
        assert kept is not None
        assert kept.kept_bytes == 4 * 8 * 18
        assert model.info.prefix_cache_bytes == 256 * 2**20
        assert prefixes_of(whole) is None
        assert whole.info.prefix_cache_bytes == 0


def test_texts_that_begin_otherwise_are_computed_whole_beside_the_others(bundle) -> None:
    with EdgeModel(bundle, device="cpu", max_batch_tokens=64) as model:
        prompts = ["the river", [5, 6, 7, 8], "a", [9] * 30, *["bridge , stone"] * 9]
        embed(model, prompts)
        embed(model, [[9] * 30])
        embed(model, ["the river"], "a")  # too short to be worth a run
        assert prefixes_of(model).kept_bytes == 4 * 8 * 18


def test_a_long_prefix_and_many_texts_go_in_batches_over_lanes(bundle) -> None:
    with EdgeModel(bundle, device="cpu", max_batch_tokens=32, threads=2) as model:
        embed(model, [f"{'the ' * (i % 7)}river" for i in range(200)], LONG * 30)
    with EdgeModel(bundle, device="cpu", max_memory_mb=16) as model:
        embed(model, ["cold " * (i % 90 + 1) for i in range(40)])
        assert model.info.prefix_cache_bytes == 4 * 2**20


def test_pairs_share_the_template_and_one_query(reranker) -> None:
    query = "is the bridge in the small dark city of stone open at night"
    with EdgeModel(reranker, device="cpu") as model:
        kept = prefixes_of(model)
        for queries in (query, [query, "the river", *[query] * 4]):
            outputs = model.score(queries, TEXTS, pooling_params=PoolingParams(use_activation=False))
            expected = [row(output.prompt_token_ids)[0] for output in outputs]
            assert_array_equal(outputs.numpy(), expected)
        assert kept.kept_bytes > 0
        alone = model.score(query, TEXTS[0], pooling_params=PoolingParams(use_activation=False))
        assert alone.numpy()[0] == outputs.numpy()[0]


def test_the_last_prefixes_are_kept_in_bounded_memory() -> None:
    prefixes = Prefixes(PrefixSpec(num_layers=1, numbers_per_token=10, score_heads=1), 40 * 50)
    made = []

    def get(token: int, count: int = 20):
        compute = lambda: made.append(token) or {"x": np.zeros(1)}  # noqa: E731
        return prefixes.get([token] * count, compute, nullcontext)

    first = get(1)
    assert get(2).num_tokens == 20
    assert get(1) is first
    assert made == [1, 2]
    get(3)
    assert prefixes.kept_bytes == 40 * 40
    get(1)
    get(2)
    assert made == [1, 2, 3, 2]


def test_the_last_token_must_be_after_the_prefix(tmp_path) -> None:
    """A classifier passes over padding that stands in the text: it may be all that comes after the prefix."""
    bundle = summing_bundle(tmp_path / "b", passed_over_id=7)
    with EdgeModel(bundle, device="cpu") as model:
        lead = model.embed(["a"], prompt=LONG)[0].prompt_token_ids[:-1]
        rows = EncodedRows.of([Encoded(token_ids=[*lead, *end]) for end in ([7], [7, 8], [8, 7], [7, 7], [])])
        chosen = prefixes_of(model).chosen(rows, lead)
        assert chosen.tolist() == [False, True, True, False, False]


def test_threads_ask_at_once(bundle) -> None:
    with EdgeModel(bundle, device="cpu", threads=2) as model, ThreadPoolExecutor(8) as pool:
        prompts = [LONG, OTHER, LONG * 2, ""] * 10
        for answer in [pool.submit(embed, model, TEXTS[:3], prompt) for prompt in prompts]:
            answer.result(60)


def test_new_prefixes_take_turns_with_other_runs(bundle) -> None:
    """However many threads come with prompts of their own: each run takes memory."""
    with EdgeModel(bundle, device="cpu", threads=2) as model, ExitStack() as taken:
        embed(model, TEXTS[:1])
        turns = model._open().engine.forward._turns
        for _ in range(4):
            taken.enter_context(turns.turn())
        embed(model, TEXTS[:1])  # it is kept
        with pytest.raises(DeadlineError):
            model.embed(TEXTS[:1], prompt=OTHER, deadline_s=0.2)
        taken.close()
        embed(model, TEXTS[:1], OTHER)


def test_who_waited_for_a_turn_takes_what_was_kept_meanwhile() -> None:
    prefixes = Prefixes(PrefixSpec(num_layers=1, numbers_per_token=10, score_heads=1), 40 * 50)
    lead, meanwhile = [1] * 20, []

    def turn():
        meanwhile.append(prefixes.get(lead, dict, nullcontext))
        return nullcontext()

    found = prefixes.get(lead, lambda: pytest.fail("it is kept"), turn)
    assert found is meanwhile[0]


def test_a_text_that_does_not_fit_is_told_of_the_limit_that_was_set(bundle) -> None:
    with EdgeModel(bundle, device="cpu", max_memory_mb=4) as model:
        with pytest.raises(PromptError) as caught:
            embed(model, ["a"])
        assert "max_memory_mb=4 is enough for 0 tokens beside 1 MB of prefixes" in str(caught.value)


def test_errors_and_deadlines_leave_the_model_working(bundle) -> None:
    with EdgeModel(bundle, device="cpu", max_memory_mb=16) as model:
        with pytest.raises(DeadlineError):
            model.embed(TEXTS * 50, prompt=LONG * 20, deadline_s=1e-6)
        with pytest.raises(PromptError, match="prompt 1"):
            model.embed(["a", "cold " * 3000], prompt=LONG)
        embed(model)


def test_a_closed_model_lets_go_of_them_and_a_pickled_one_makes_its_own(bundle) -> None:
    model = EdgeModel(bundle, device="cpu", enable_prefix_caching=True)
    embed(model)
    copy = pickle.loads(pickle.dumps(model))
    kept = weakref.ref(prefixes_of(model))
    assert prefixes_of(copy).kept_bytes == 0
    embed(copy)
    model.close()
    gc.collect()
    assert kept() is None
    copy.close()


def test_only_true_and_false_are_taken(bundle) -> None:
    with pytest.raises(ParamsError, match="enable_prefix_caching is a int"):
        EdgeModel(bundle, enable_prefix_caching=1)  # type: ignore[arg-type]


def test_what_stands_before_texts_is_found_anew_after_many_prompts(bundle) -> None:
    with EdgeModel(bundle, device="cpu") as model:
        for count in range(70):
            embed(model, TEXTS[:2], "the " * count)
        assert 0 < len(model._open().engine.tokenizer.leads._kept) < 70


def test_pairs_as_prompts_share_the_template(reranker) -> None:
    pairs = [{"text": "is it open ?", "text_pair": each} for each in TEXTS[:3]]
    with EdgeModel(reranker, device="cpu") as model:
        raw = PoolingParams(use_activation=False)
        outputs = model.encode(pairs, raw, pooling_task="score")
        expected = [row(output.prompt_token_ids)[:1] for output in outputs]
        assert_array_equal(outputs.numpy(), expected)


def test_rows_with_segments_or_offsets_begin_with_nothing() -> None:
    plain = Encoded(token_ids=[1, 2, 3])
    marked = Encoded(token_ids=[1, 2, 3], type_ids=[0, 0, 1])
    placed = Encoded(token_ids=[1, 2, 3], offsets=[(0, 1), (1, 2), (2, 3)])
    assert EncodedRows.of([plain, Encoded(token_ids=[1])]).begin_with([1, 2]).tolist() == [True, False]
    assert not EncodedRows.of([plain, marked]).begin_with([1, 2]).any()
    assert not EncodedRows.of([plain, placed]).begin_with([1, 2]).any()
