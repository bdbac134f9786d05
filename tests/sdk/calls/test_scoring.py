"""Scores of pairs: sizes and limits of each pair, which side an error means, what is cut, MaxSim."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import (
    NumericalError,
    ParamsError,
    PoolerConfig,
    PoolingParams,
    PromptError,
    TaskNotSupportedError,
)
from embedge._calls.scoring import max_sim
from embedge.cli.main import main
from embedge.manifest import TemplateSpec

DOCUMENTS = ["the river is cold", "no light in the city", "good"]
LONG = "the " * 80
INSTRUCTED = TemplateSpec(
    way="whole",
    body="{query} and {document} yes",
    instructed_body="{instruction} , {query} and {document} no",
)


def cosine(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_documents_of_one_query_may_ask_for_different_sizes(load) -> None:
    model = load(bundle={"changes": {"matryoshka": True}})
    params = [PoolingParams(dimensions=4), PoolingParams(dimensions=6, normalize=False), PoolingParams()]
    scores = model.score("river", DOCUMENTS, pooling_params=params).numpy()
    for document, p, score in zip(DOCUMENTS, params, scores, strict=True):
        query, row = model.embed(["river", document]).numpy()
        assert score == pytest.approx(cosine(query[: p.dimensions], row[: p.dimensions]), abs=1e-6)
    assert [r.score for r in model.rerank("river", DOCUMENTS[:1], pooling_params=params[0])] == [scores[0]]


def test_each_pair_cuts_its_query_by_its_own_limit(load) -> None:
    model = load()
    query = "the river is cold and the city is old"
    params = [
        PoolingParams(truncate_prompt_tokens=4),
        PoolingParams(truncate_prompt_tokens=6),
        PoolingParams(),
    ]
    outputs = model.score(query, ["good"] * 3, pooling_params=params)
    for p, output in zip(params, outputs, strict=True):
        alone = model.score(query, "good", pooling_params=p)[0]
        assert output.outputs.score == pytest.approx(alone.outputs.score, abs=1e-6)
        assert output.prompt_token_ids == alone.prompt_token_ids
        assert output.num_truncated_query_tokens == alone.num_truncated_query_tokens
        assert output.num_truncated_document_tokens == 0
    assert len({output.outputs.score for output in outputs}) == 3


@pytest.mark.parametrize(
    ("query", "documents", "message", "index"),
    [
        ("river", ["good", LONG], r"^document 1 has 82 tokens; the model's limit is 32", 1),
        (LONG, ["good"], r"^query 0 has 82 tokens", 0),
        ("river", ["good", "\ud800"], r"^document 1 is no valid text", 1),
    ],
)
def test_a_bi_encoder_says_which_side_is_wrong(load, query, documents, message, index) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        load().score(query, documents)
    assert caught.value.index == index


@pytest.mark.parametrize("kind", ["embed", "late_interaction"])
def test_nan_is_reported_with_its_side(load, kind) -> None:
    model = load(kind)
    with pytest.raises(
        NumericalError, match=r"the graph returned NaN or infinity for document 1\."
    ) as caught:
        model.score("river", ["good", "nan"])
    assert caught.value.index == 1
    with pytest.raises(NumericalError, match=r" for query 1\."):
        model.score(["river", "nan"], ["good", "bad"])


@pytest.mark.parametrize("kind", ["cross_encoder", "llm_reranker"])
def test_nan_of_a_pair_is_reported_with_its_index(load, kind) -> None:
    with pytest.raises(NumericalError, match="NaN or infinity for prompt 2"):
        load(kind).score("river", ["good", "bad", "nan"])


def test_a_query_that_leaves_no_room(load) -> None:
    cross = load("cross_encoder")
    with pytest.raises(PromptError, match="pair 0 has 84 tokens, and its query alone has 80; .* limit is 32"):
        cross.score(LONG, "good")
    with pytest.raises(PromptError, match="pair 1: its query alone has 80 tokens"):
        cross.score(["river", LONG], ["good", "bad"], truncate="document", truncate_prompt_tokens=-1)
    reranker = load("llm_reranker", truncate_prompt_tokens=-1)
    with pytest.raises(PromptError, match="before the document takes 84 tokens.*Shorten the query") as caught:
        reranker.score(["river", LONG], ["good", "bad"])
    assert caught.value.index == 1


def test_which_side_was_cut_is_said(load) -> None:
    def sides(model, query, document, **arguments) -> tuple[int, int, int]:
        output = model.score(query, document, truncate_prompt_tokens=-1, **arguments)[0]
        assert len(output.prompt_token_ids) <= 32 or model.manifest.embedding_size
        return (
            output.num_truncated_tokens,
            output.num_truncated_query_tokens,
            output.num_truncated_document_tokens,
        )

    cross = load("cross_encoder")
    assert sides(cross, "the " * 10, "the " * 30) == (11, 0, 11)
    assert sides(cross, "the " * 30, "the " * 10) == (11, 11, 0)
    assert sides(cross, "the " * 20, "the " * 30) == (21, 6, 15)
    assert sides(cross, "the " * 20, "the " * 30, truncate="document") == (21, 0, 21)
    assert sides(load("llm_reranker"), "river", LONG) == (57, 0, 57)
    assert sides(load("embed"), LONG, "the " * 40) == (60, 50, 10)
    late = load("late_interaction")
    assert sides(late, "the " * 10, "the " * 20) == (12, 5, 7)


def test_a_template_that_ends_in_the_query(load) -> None:
    template = TemplateSpec(way="apart", body="document : {document} query : {query}", suffix="yes no ?")
    model = load("llm_reranker", bundle={"changes": {"template": template}}, truncate_prompt_tokens=-1)
    (output,) = model.score(LONG, "good")
    assert output.num_truncated_query_tokens == output.num_truncated_tokens > 0
    with pytest.raises(PromptError, match="nothing of the query is left. Shorten the document"):
        model.score("river", LONG)


def test_a_limit_that_the_template_does_not_fit_into(load) -> None:
    model = load("llm_reranker")
    with pytest.raises(ParamsError, match="fixed text takes 4 tokens, which leaves no room"):
        model.score("river", "good", truncate_prompt_tokens=3)
    with pytest.raises(PromptError, match="pair 1 has .* tokens; the model's limit is 32"):
        model.score("river", ["good", LONG])


def test_braces_in_texts_are_no_fields(load) -> None:
    model = load("llm_reranker")
    (output,) = model.score("good {query} {", "{document} bad }")
    (plain,) = model.score("good", "bad")
    assert len(output.prompt_token_ids) - len(plain.prompt_token_ids) == 8


def test_late_interaction_is_max_sim_of_unit_rows(load) -> None:
    from embedge._text.pairs import encode_late

    model = load("late_interaction", bundle={"changes": {"matryoshka": True}})
    spec, engine = model.manifest.late_interaction, model._open().engine
    params = [PoolingParams(dimensions=2), PoolingParams(), PoolingParams(dimensions=3, normalize=False)]
    documents = ["the river , is cold .", "no light in the city", "good"]
    scores = model.score("river", documents, pooling_params=params).numpy()
    (query,) = encode_late(engine.tokenizer, spec, ["river"], is_query=True)
    assert len(query.token_ids) == spec.query_len
    assert query.num_attended == 4
    (rows,) = engine.answerer.whole_tokens([query], lambda _: None)
    encoded = encode_late(engine.tokenizer, spec, documents, is_query=False)
    for e, p, score, document in zip(
        encoded, params, scores, engine.answerer.whole_tokens(encoded, lambda _: None), strict=True
    ):
        kept = document[[t not in spec.skip_token_ids for t in e.token_ids]]
        q, d = (r[:, : p.dimensions] for r in (rows, kept))
        q, d = (r / np.linalg.norm(r, axis=1, keepdims=True) for r in (q, d))
        assert score == pytest.approx((q @ d.T).max(1).sum(), abs=1e-5)
        assert score == pytest.approx(max_sim(q, d), abs=1e-5)
    assert len([t for t in encoded[0].token_ids if t in spec.skip_token_ids]) == 2


def test_late_interaction_keeps_the_checkpoints_own_limits(load) -> None:
    model = load("late_interaction", truncate_prompt_tokens=-1)
    assert model.score("river", "good").numpy().shape == (1,)
    with pytest.raises(
        ParamsError, match="queries to 8 tokens and documents to 16.*leave truncate_prompt_tokens"
    ):
        model.score("river", "good", truncate_prompt_tokens=6)
    with pytest.raises(ParamsError, match="Task token_embed only supports"):
        model.score("river", "good", pooling_params=PoolingParams(use_activation=False))


def test_scores_that_are_none_of_a_bundles_tasks(load) -> None:
    with pytest.raises(TaskNotSupportedError, match="cannot score; its tasks are token_classify"):
        load("token_classify").score("a", "b")
    with pytest.raises(TaskNotSupportedError, match="cannot score; its tasks are classify"):
        load("classify").score("a", "b")
    with pytest.raises(ParamsError, match="has 3 labels; a score needs one"):
        load("classify", compat="0.21").score("a", "b")
    with pytest.raises(
        TaskNotSupportedError, match=r"no cross-encoder, so score\(prompts=...\) has no meaning"
    ):
        load("llm_reranker").score(prompts=["a [SEP] b"])


def test_prompts_hold_both_sides(load) -> None:
    model = load("cross_encoder")
    texts = ["river [SEP] the river", "city [SEP] good"]
    outputs = model.score(prompts=texts)
    by_encode = model.encode(texts, PoolingParams(task="score")).numpy()
    assert_allclose(outputs.numpy(), by_encode[:, 0], atol=1e-6)
    assert outputs[0].num_truncated_query_tokens == 0
    pairs = model.score(prompts=[{"text": "river", "text_pair": "the river"}])
    assert_allclose(pairs.numpy(), model.score("river", "the river").numpy(), atol=1e-6)


def test_a_logit_bias_is_subtracted_before_the_activation(load) -> None:
    plain, biased = load("cross_encoder"), load("cross_encoder", pooler_config=PoolerConfig(logit_bias=1.5))
    raw = PoolingParams(use_activation=False)
    logits = plain.score("river", DOCUMENTS, pooling_params=raw).numpy().astype(np.float64)
    assert_allclose(biased.score("river", DOCUMENTS, pooling_params=raw).numpy(), logits - 1.5, atol=1e-6)
    assert_allclose(biased.score("river", DOCUMENTS).numpy(), 1 / (1 + np.exp(1.5 - logits)), atol=1e-6)


def test_a_tower_scores_no_pairs(load, tiny, capsys) -> None:
    changes = {"tower": "query"}
    with pytest.raises(
        ParamsError, match="is the query tower of a model .*; embed each side with the bundle of its"
    ):
        load(bundle={"changes": changes}).score("food", "good")
    assert main(["inspect", str(tiny("embed", changes=changes))]) == 0
    assert "query, one of a model's" in capsys.readouterr().out


def test_a_stored_prompt_is_a_templates_instruction(load) -> None:
    changes = {"template": INSTRUCTED, "prompts": {"find": "river"}}
    model = load("llm_reranker", bundle={"changes": changes}, truncate_prompt_tokens=-1)
    stored, stated, without = (
        model.score("good", DOCUMENTS, **options)
        for options in ({"query_prompt_name": "find"}, {"instruction": "river"}, {})
    )
    assert [each.prompt_token_ids for each in stored] == [each.prompt_token_ids for each in stated]
    assert_allclose(stored.numpy(), stated.numpy(), rtol=0)
    assert stored[0].prompt_token_ids != without[0].prompt_token_ids
    with pytest.raises(ParamsError, match="instruction and query_prompt_name are both given"):
        model.score("good", DOCUMENTS, instruction="river", query_prompt_name="find")


def test_texts_and_pairs_are_no_call_of_a_template(load) -> None:
    model = load("llm_reranker", compat="0.21")  # where a score is a class
    pair = {"text": "river", "text_pair": "good"}
    with pytest.raises(PromptError, match="1 of 2 prompts are pairs.*Make a call for each"):
        model.classify([pair, "good"])
