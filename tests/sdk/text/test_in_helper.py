"""Tokenizers of other makers run in a helper process: the same tokens, ends in time, and none of it here."""

from __future__ import annotations

import gc
import json
import sys
import time

import pytest
from tests import bundles
from tests.sdk.sessions.test_in_helper import children

from embedge import BundleError, DeadlineError, EdgeModel, PromptError, SessionError
from embedge._helper import process
from embedge._text import encodings
from embedge.testing import assert_embeddings_close, tiny_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
TEXTS = ["the river and the sea", "", "a very dark cold night, no water."]
EXPLODING = {"type": "Replace", "pattern": {"Regex": "e+q"}, "content": "e"}
"""Looks from every place of a long text to its end, where it has no q."""


def foreign(folder, *more, **changes):
    """A bundle whose tokenizer.json holds what no export writes: a normalizer that lets texts grow, and more."""
    made = tiny_bundle(folder)
    path = made / "tokenizer.json"
    file = json.loads(path.read_bytes())
    grows = {"type": "Replace", "pattern": {"String": "\x01"}, "content": "e" * 9}
    parts = [part for part in (file["normalizer"], grows, *more) if part]
    path.write_text(json.dumps(file | {"normalizer": {"type": "Sequence", "normalizers": parts}} | changes))
    bundles.rewrite(made)
    return made


def is_loaded_here(monkeypatch) -> list[bytes]:
    """Files that the tokenizers package is given in this process, as they come."""
    given: list[bytes] = []
    usual = encodings.open_tokenizer

    def opened(content: bytes, **how):
        given.append(content)
        return usual(content, **how)

    monkeypatch.setattr(encodings, "open_tokenizer", opened)
    return given


def test_the_tokens_are_those_of_the_tokenizer(tmp_path, monkeypatch) -> None:
    given, before = is_loaded_here(monkeypatch), children()
    folder = foreign(tmp_path / "foreign")
    with pytest.raises(BundleError, match="times as long.*open it with trust='any'"):
        EdgeModel(folder, device="cpu")
    with EdgeModel(folder, device="cpu", trust="any", truncate_prompt_tokens=-1) as model:
        assert len(children() - before) == 1
        assert not given
        with EdgeModel(
            tiny_bundle(tmp_path / "own"), device="cpu", trust="any", truncate_prompt_tokens=-1
        ) as own:
            assert len(given) == 1
            for prompts in (TEXTS, TEXTS * 50):
                answers = [each.encode(prompts, pooling_task="embed") for each in (model, own)]
                ids = [[output.prompt_token_ids for output in each] for each in answers]
                assert ids[0] == ids[1]
                assert_embeddings_close(answers[0].numpy(), answers[1].numpy(), atol=1e-7)
            assert model.tokenize(TEXTS[0]) == own.tokenize(TEXTS[0])
            pairs = [
                each._open().engine.tokenizer.texts.encode([("the river", "is cold")])[0]
                for each in (model, own)
            ]
            for name in ("ids", "type_ids", "sequence_ids"):
                assert getattr(pairs[0], name) == getattr(pairs[1], name)
        with pytest.raises(PromptError, match="prompt 1 is no valid text"):
            model.embed(["good", "\ud800"])
    gc.collect()  # what was raised
    assert children() <= before


def test_an_expression_without_end_ends_by_the_deadline_and_the_model_goes_on(tmp_path) -> None:
    folder = foreign(tmp_path, EXPLODING)
    with EdgeModel(folder, device="cpu", trust="any", truncate_prompt_tokens=-1) as model:
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            model.embed("e" * 120_000, deadline_s=0.5)
        assert time.monotonic() - began < 20
        assert model.embed("q").numpy().shape == (1, 8)


def test_what_tokenizers_refuses_is_said(tmp_path) -> None:
    folder = foreign(tmp_path, model={"type": "WordPiece"})
    with pytest.raises(
        BundleError, match=r"tokenizer.json failed while it is loaded, in its helper process: .*"
    ):
        EdgeModel(folder, device="cpu", trust="any")


def test_a_frozen_program_has_no_helper_and_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(process.sys, "frozen", True, raising=False)
    folder = foreign(tmp_path)
    with pytest.raises(
        SessionError,
        match=r"no helper process can be begun for tokenizer.json, .*: the program is no Python interpreter",
    ):
        EdgeModel(folder, device="cpu", trust="any")
