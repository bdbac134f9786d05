"""Texts and pairs in templates that are tokenised whole."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import ParamsError, PoolingParams, PromptError
from embedge._text.templates import around_text, body_of, fill
from embedge.manifest import TemplateSpec

MESSAGE = TemplateSpec(
    way="whole",
    body="how : {text} yes no",
    instructed_body="{instruction} : {text} yes no",
    stripped=("text",),
)
PAIR = TemplateSpec(
    way="whole",
    body="{query} and {document} yes no",
    instructed_body="{instruction} , {query} and {document} no",
)
WORDS = ["food", "city", "water", "light", "plants", "berlin", "river", "good"]
LONG = " ".join(WORDS * 10)


# digits are unknown to the tiny vocabulary, so that what two fillings have in common begins with that token
END = "0 yes no"


def ids(model, text: str) -> list[int]:
    return model._open().engine.tokenizer.texts.ids_without_specials(text)


@pytest.fixture
def embedder(load):
    return load(bundle={"changes": {"message": MESSAGE, "prompts": {"q": "city"}}})


def test_fields_are_filled_in_once() -> None:
    fields = {"query": "{document} {", "document": " {query} }", "instruction": "x"}
    assert fill(PAIR, PAIR.body, fields) == "{document} { and  {query} } yes no"
    assert body_of(PAIR, "") == PAIR.body
    assert around_text(MESSAGE, "{text} city") == ("{text} city : ", " yes no")
    with pytest.raises(ParamsError, match="takes no prompt"):
        body_of(TemplateSpec(way="whole", body="{text}"), "a")


def test_every_text_is_put_into_the_template(embedder) -> None:
    plain, prompted = embedder.embed("  food \n")[0], embedder.embed("food", prompt_name="q")[0]
    assert plain.prompt_token_ids == ids(embedder, "how : food yes no")
    assert prompted.prompt_token_ids == ids(embedder, "city : food yes no")
    assert embedder.embed([[7, 8]])[0].prompt_token_ids == [7, 8]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("limit", [-1, 9])
def test_the_templates_end_is_put_back(embedder, side, limit) -> None:
    texts = [LONG, "food", " ".join(WORDS * 3 + WORDS[:3]), *[LONG] * 20]
    room = 32 if limit == -1 else limit
    many = embedder.encode(texts, truncate_prompt_tokens=limit, truncation_side=side, pooling_task="embed")
    for text, output in zip(texts, many, strict=True):
        whole = ids(embedder, f"how : {text} yes no")
        kept = whole
        if len(whole) >= room:
            kept = (whole[:room] if side == "right" else whole[-room:])[:-3] + ids(embedder, END)
        assert output.prompt_token_ids == kept
        assert output.num_truncated_tokens == len(whole) - len(kept)
        alone = embedder.encode(
            text, truncate_prompt_tokens=limit, truncation_side=side, pooling_task="embed"
        )[0]
        assert alone.prompt_token_ids == kept
    with pytest.raises(PromptError, match="prompt 0 has 84 tokens; the model's limit is 32"):
        embedder.embed(LONG)


def test_an_end_that_merges_with_the_text_replaces_the_last_tokens(load) -> None:
    """The template's last word and the text's make one token, which the library overwrites all the same."""
    merged = TemplateSpec(way="whole", body="the {text}d yes no")
    model = load(bundle={"changes": {"message": merged}}, truncate_prompt_tokens=-1)
    words = "goo " * 40 + "goo"
    assert model.embed(words)[0].prompt_token_ids[-3:] == ids(model, END)


def test_offsets_count_in_the_text_as_it_was_given(load) -> None:
    model = load(bundle={"changes": {"message": MESSAGE}})
    text = "  food city "
    (output,) = model.encode([text], pooling_task="token_embed")
    assert [text[a:b] for a, b in output.outputs.offsets] == ["", "", "food", "city", "", ""]


def test_each_window_of_a_long_text_has_the_template_around_it(load) -> None:
    model = load(bundle={"changes": {"message": MESSAGE}})
    whole, empty, given = model.embed([LONG, "", [5] * 70], long_text="mean")
    assert whole.prompt_token_ids == ids(model, f"how : {LONG} yes no")
    assert empty.prompt_token_ids == ids(model, "how : yes no")
    assert given.prompt_token_ids == [5] * 70
    before, text, after = (ids(model, part) for part in ("how :", LONG, "yes no"))
    room = 32 - len(before) - len(after)
    pieces = [text[start : start + room] for start in range(0, len(text), room)]
    assert len(pieces) > 2
    windows = [[*before, *piece, *after] for piece in pieces]
    rows = model.embed(windows, pooling_params=PoolingParams(normalize=False)).numpy()
    mean = np.average(rows, axis=0, weights=[len(piece) for piece in pieces])
    assert_allclose(whole.outputs.embedding, mean / np.linalg.norm(mean), atol=1e-5)


def test_pairs_are_tokenised_whole(load) -> None:
    model = load("llm_reranker", bundle={"changes": {"template": PAIR}}, truncate_prompt_tokens=-1)
    assert model.score("food", "city")[0].prompt_token_ids == ids(model, "food and city yes no")
    instructed = model.score("food", "city", instruction="river")[0]
    assert instructed.prompt_token_ids == ids(model, "river , food and city no")
    cut = model.score("food", LONG)[0]
    assert cut.prompt_token_ids == ids(model, f"food and {LONG}")[:29] + ids(model, END)
    assert (cut.num_truncated_document_tokens, cut.num_truncated_query_tokens) == (52, 0)
    with pytest.raises(PromptError, match="nothing of the document is left"):
        model.score(LONG, "city")
    with pytest.raises(PromptError, match="pair 0 has 84 tokens"):
        load("llm_reranker", bundle={"changes": {"template": PAIR}}).score("food", LONG)


def test_prompts_that_a_template_does_not_show(load) -> None:
    mute = TemplateSpec(way="whole", body="{text} yes", instructed_body="{text} no")
    model = load(bundle={"changes": {"message": mute, "prompts": {"q": "city"}}})
    assert model.embed("food", prompt_name="q")[0].prompt_token_ids == ids(model, "food no")
    with pytest.raises(ParamsError, match="shows no system message"):
        model.embed("food", prompt="city")


def test_prompts_of_pairs_that_have_no_place(load) -> None:
    prompts = {"prompts": {"q": "city "}, "default_prompt_name": "q"}
    cross = load("cross_encoder", bundle={"changes": prompts})
    plain = load("cross_encoder")
    assert cross.score("food", "good").numpy() == plain.score("city food", "good").numpy()
    pair = {"text": "food", "text_pair": "good"}
    assert cross.score(prompts=[pair]).numpy() == cross.score("food", "good").numpy()
    with pytest.raises(ParamsError, match="leave document_prompt_name out"):
        cross.score("food", "good", document_prompt_name="q")
    late = load("late_interaction", bundle={"changes": {"prompts": {"q": "city "}}})
    with pytest.raises(ParamsError, match="leave query_prompt_name out"):
        late.score("food", "good", query_prompt_name="q")


def test_segments_and_characters_as_the_manifest_states_them(load) -> None:
    from embedge._text.pairs import encode_pairs

    model = load("cross_encoder")
    spec = model.manifest.tokenizer
    changed = load("cross_encoder", bundle={"changes": {"tokenizer": _replaced(spec, segments=False)}})
    tokenizer = changed._open().engine.tokenizer
    assert encode_pairs(tokenizer, ["food"], ["good"], [None])[0].type_ids is None
    short = load("embed", bundle={"changes": {"tokenizer": _replaced(spec, max_chars=4)}})
    assert (
        short.embed("food city", truncate_prompt_tokens=-1)[0].prompt_token_ids
        == short.embed("food")[0].prompt_token_ids
    )
    assert len(short.embed("food city")[0].prompt_token_ids) == 4


def _replaced(spec, **changes):
    import msgspec

    return msgspec.structs.replace(spec, **changes)
