"""Text in, token ids out: templates, prompts, sides and limits against the library that reads the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json
from tests.installed import SENTENCE_TRANSFORMERS_6
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import ParamsError, PoolingParams
from embedge.errors import ExportError, PromptError
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

ATOL = 1e-5
DECODER_ATOL = 1e-4
LONG = " ".join(["the fox jumps over a lazy dog and runs away"] * 40)
ODD = ["", " ", "  spaces \n", "{text} {{ x }} <|im_end|>", "quotes \" and '", "a\nb", LONG, "user\n" + LONG]


def change(folder: Path, name: str, **stated: object) -> Path:
    edit_json(folder / name, **stated)
    return folder


def exported_after(tmp_path: Path, name: str, file: str, **stated: object) -> tuple[Path, Path]:
    """A checkpoint of which one file states something else, and its bundle."""
    checkpoint = change(make(name, tmp_path / "checkpoint"), file, **stated)
    return checkpoint, export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))


def predicted(checkpoint: Path, pairs: list[tuple[str, str]], **arguments: str) -> np.ndarray:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(checkpoint), device="cpu").predict(pairs, show_progress_bar=False, **arguments)


def scored(model, pairs: list[tuple[str, str]], **arguments: str) -> np.ndarray:
    return model.score([q for q, _ in pairs], [d for _, d in pairs], **arguments).numpy()


AROUND = {
    "embedder-message": ("<|im_start|>user\n", "<|im_end|>\n"),
    "embedder-message-cut": ("<|im_start|>user\n", "<|im_end|>\n"),
    "embedder-message-system": ("system: You are helpful.\nuser: ", "\nassistant: the answer is"),
}
"""What the chat templates put around a text where no prompt is given."""


def mean_of_windows(library, before: str, text: str, after: str) -> np.ndarray:
    """The library's network on pieces of 96 tokens, each with the template's tokens, weighed by those of the text."""
    import torch

    tokens = library.tokenizer(before + text + after, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in tokens["offset_mapping"]]
    starts = [start for start, _ in tokens["offset_mapping"]]
    lead = sum(end <= len(before) for end in ends)
    tail = sum(start >= len(before + text) for start in starts)
    ids = tokens["input_ids"]
    body, room = ids[lead : len(ids) - tail], 96 - lead - tail
    pieces = [body[start : start + room] for start in range(0, len(body), room)] or [[]]
    rows = []
    for piece in pieces:
        window = torch.tensor([ids[:lead] + piece + ids[len(ids) - tail :]])
        with torch.inference_mode():
            answer = library({"input_ids": window, "attention_mask": torch.ones_like(window)})
        rows.append(answer["sentence_embedding"][0].numpy())
    return np.average(rows, axis=0, weights=[max(1, len(piece)) for piece in pieces])


@pytest.mark.parametrize("name", ["embedder-message", "embedder-message-system", "embedder-message-cut"])
def test_texts_are_messages_of_the_chat_template(exported, name) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported(name)
    library = SentenceTransformer(str(checkpoint), device="cpu")
    texts = [*TEXTS[:20], *ODD]
    with load(bundle) as model:
        for how in ({}, {"prompt_name": "query"}, {"prompt_name": "document"}, {"prompt": " in short: "}):
            expected = library.encode(texts, show_progress_bar=False, batch_size=1, **how)
            assert_allclose(model.embed(texts, **how).numpy(), expected, atol=DECODER_ATOL, rtol=0)
        for text in ("a fox", LONG):
            theirs = library.preprocess([text])["input_ids"][0].tolist()
            assert model.embed(text)[0].prompt_token_ids == theirs
        rows = model.encode(["  a fox "], pooling_task="token_embed")[0]
        spans = [span for span in rows.outputs.offsets if span != (0, 0)]
        assert "".join("  a fox "[a:b] for a, b in spans).strip() == "a fox"
        asked = [LONG, "a fox", "", "2 " + LONG]
        averaged = model.embed(asked, pooling_params=PoolingParams(normalize=False), long_text="mean")
        for text, output in zip(asked, averaged, strict=True):
            before, after = AROUND[name]
            assert_allclose(
                output.outputs.embedding, mean_of_windows(library, before, text, after), atol=DECODER_ATOL
            )
            assert (len(output.prompt_token_ids) > 96) == (len(text) > 20)


@pytest.mark.parametrize("name", ["reranker-joined", "reranker-query-first", "reranker-structured"])
def test_pairs_fill_the_chat_template_whole(exported, name) -> None:
    checkpoint, bundle = exported(name)
    pairs = [*PAIRS, ("  what is a fox ", " an animal\n"), ("foxes", LONG), ("{document} \" '", "{query}")]
    with load(bundle) as model:
        assert_allclose(scored(model, pairs), predicted(checkpoint, pairs), atol=DECODER_ATOL, rtol=0)
        named = predicted(checkpoint, pairs[:8], prompt="find the foxes")
        assert_allclose(scored(model, pairs[:8], instruction="find the foxes"), named, atol=DECODER_ATOL)
        if name == "reranker-query-first":
            named = predicted(checkpoint, pairs[:8], prompt_name="other")
            assert_allclose(scored(model, pairs[:8], query_prompt_name="other"), named, atol=DECODER_ATOL)
            plain = predicted(checkpoint, pairs[:8], prompt="")
            assert_allclose(scored(model, pairs[:8], instruction=""), plain, atol=DECODER_ATOL)
            with pytest.raises(ParamsError, match="instruction and query_prompt_name are both given"):
                model.score("a", "b", instruction="x", query_prompt_name="other")
        with pytest.raises(ParamsError, match="leave document_prompt_name out"):
            model.score("a", "b", document_prompt_name="web")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1].content | upper }}", "shows the text 0 times"),
        ("{{ messages[-1].content }} {{ messages[-1].content }}", "shows the text 2 times"),
        ("{{ messages[-1].content | replace('\"', '') }}", "changes the text"),
        ("{{ messages[-1].content.strip('\\n') }}", "changes the text"),
        ("{{ strftime_now('%Y') }} {{ messages[-1].content }}", "shows the date of the day"),
        ("{{ task }} {{ messages[-1].content }}", "queries and documents differently"),
        ("{{ raise_exception('no') }}", "cannot be filled in"),
    ],
)
def test_templates_that_do_more_are_refused(tmp_path, template, message) -> None:
    folder = make("embedder-message", tmp_path / "checkpoint")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(ExportError, match=message):
        export(ExportSpec(model=str(folder), output=tmp_path / "bundle"))


def test_a_cross_encoders_prompt_goes_before_the_query(exported) -> None:
    checkpoint, bundle = exported("cross-encoder-prompts")
    expected = predicted(checkpoint, PAIRS)
    with load(bundle) as model:
        assert_allclose(scored(model, PAIRS), expected, atol=ATOL, rtol=0)
        named = scored(model, PAIRS, query_prompt_name="web")
        assert_allclose(named, expected, atol=ATOL, rtol=0)
        with pytest.raises(ParamsError, match="leave document_prompt_name out"):
            model.score("a", "b", document_prompt_name="web")
        with pytest.raises(ParamsError, match="'other' is not stored"):
            model.score("a", "b", query_prompt_name="other")


@pytest.mark.parametrize(
    ("file", "stated"),
    [
        ("tokenizer_config.json", {"truncation_side": "left"}),
        ("tokenizer_config.json", {"model_input_names": ["input_ids", "attention_mask"]}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
    ],
)
def test_what_tokenizer_config_states_of_pairs(tmp_path, file, stated) -> None:
    checkpoint, bundle = exported_after(tmp_path, "cross-encoder-bert-1", file, **stated)
    pairs = [*PAIRS, ("a [SEP] b", "[CLS] c [MASK]"), (LONG, LONG), ("fox", LONG), (LONG, "fox")]
    with load(bundle) as model:
        assert_allclose(scored(model, pairs), predicted(checkpoint, pairs), atol=ATOL, rtol=0)


def test_a_model_of_one_token_type(tmp_path) -> None:
    """Its tokenizer may give no types; one that does is refused, as the model has no row for them."""
    from tests.checkpoints.classifiers import bert
    from tests.checkpoints.saving import labels, save
    from tests.checkpoints.vocabularies import word_piece

    tokenizer = word_piece()
    model = bert(3, tokenizer, "BertForSequenceClassification", type_vocab_size=1, **labels("LABEL_0"))
    save(model, tokenizer, tmp_path / "checkpoint")
    with pytest.raises(ExportError, match="pair tokens of 2 types, and config.json states type_vocab_size 1"):
        export(ExportSpec(model=str(tmp_path / "checkpoint"), output=tmp_path / "bundle"))
    names = ["input_ids", "attention_mask"]
    checkpoint = change(tmp_path / "checkpoint", "tokenizer_config.json", model_input_names=names)
    with load(export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))) as model:
        assert_allclose(scored(model, PAIRS), predicted(checkpoint, PAIRS), atol=ATOL, rtol=0)


def test_a_classifiers_pairs_fill_its_chat_template(tmp_path) -> None:
    """CrossEncoder fills a chat template in wherever there is one; transformers classifies a text as it stands."""
    from tests.checkpoints.classifiers import qwen3
    from tests.checkpoints.saving import labels, save
    from tests.checkpoints.stated import INSTRUCTED_FIRST
    from tests.checkpoints.vocabularies import byte_bpe

    tokenizer = byte_bpe("qwen", chat_template=INSTRUCTED_FIRST, model_max_length=128)
    save(
        qwen3("Qwen3ForSequenceClassification", 4, tokenizer, **labels("LABEL_0")), tokenizer, tmp_path / "m"
    )
    pairs = [*PAIRS, ("foxes", LONG)]
    with load(export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "bundle"))) as model:
        expected = predicted(tmp_path / "m", pairs)
        assert_allclose(scored(model, pairs), expected, atol=DECODER_ATOL, rtol=0)
        several = [{"text": query, "text_pair": document} for query, document in pairs]
        activated = model.classify(several).numpy()[:, 0]
        assert_allclose(activated, expected, atol=DECODER_ATOL, rtol=0)
        with pytest.raises(PromptError, match="Make a call for each"):
            model.classify(["a fox", several[0]])
        (classified,) = model.classify("a fox")
        assert classified.prompt_token_ids == tokenizer("a fox")["input_ids"]


def test_lowercase_is_a_setting_of_sentence_transformers(exported) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("settings-lower")
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS[:20])
    with load(bundle) as model:
        assert_allclose(model.embed(TEXTS[:20]).numpy(), expected, atol=ATOL, rtol=0)


def test_a_static_embedding_is_cut_where_tokenizer_json_says(exported, tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("static-truncated")
    texts = [*TEXTS, LONG]
    with load(bundle) as model:
        assert model.info.max_seq_len == 24
        expected = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
        assert_allclose(model.embed(texts).numpy(), expected, atol=ATOL, rtol=0)
    checkpoint = make("static-truncated", tmp_path / "checkpoint")
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"]["direction"] = "Left"
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    with load(export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))) as model:
        expected = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
        assert_allclose(model.embed(texts).numpy(), expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("max_length", ["absent", None, 40])
@pytest.mark.parametrize("with_modules", [True, False])
def test_how_much_of_a_text_model2vec_reads(tmp_path, max_length, with_modules) -> None:
    """model2vec goes by its config.json, sentence-transformers by the truncation that model2vec saves beside it."""
    model2vec = pytest.importorskip("model2vec")
    folder = make("model2vec-quantized" if SENTENCE_TRANSFORMERS_6 else "model2vec", tmp_path / "made")
    if max_length != "absent":
        edit_json(folder / "config.json", max_length=max_length)
    checkpoint = tmp_path / "checkpoint"
    model2vec.StaticModel.from_pretrained(str(folder)).save_pretrained(str(checkpoint))
    if max_length == "absent":
        config = json.loads((checkpoint / "config.json").read_text("utf-8"))
        del config["max_length"]
        (checkpoint / "config.json").write_text(json.dumps(config), "utf-8")
    texts = [*TEXTS, " ".join([LONG] * 8), "incomprehensibilities " * 400]
    if with_modules:
        from sentence_transformers import SentenceTransformer

        expected = SentenceTransformer(str(checkpoint), device="cpu").encode(texts)
    else:
        (checkpoint / "modules.json").unlink()
        expected = model2vec.StaticModel.from_pretrained(str(checkpoint)).encode(texts)
    with load(export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))) as model:
        assert model.info.max_seq_len == {"absent": 512, None: 1_000_000, 40: 40}[max_length]
        assert_allclose(model.embed(texts).numpy(), expected, atol=ATOL, rtol=0)


def test_a_key_of_model2vec_that_nobody_knows_is_refused(tmp_path) -> None:
    folder = make("model2vec", tmp_path / "checkpoint")
    (folder / "modules.json").unlink()
    edit_json(folder / "config.json", temperature=2)
    with pytest.raises(ExportError, match=r"config.json states temperature \(2\).*--ignore-key temperature"):
        export(ExportSpec(model=str(folder), output=tmp_path / "bundle"))
