"""The progress line."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys

import pytest

from embedge import EdgeModel, ParamsError
from embedge._calls import progress as _progress
from embedge._calls.options import ShowOptions
from embedge._calls.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_unless_asked(capsys) -> None:
    with ProgressBar(3, ShowOptions(use_tqdm=False), "embed") as progress:
        progress.update(3)
    assert capsys.readouterr() == ("", "")


def test_one_closing_line_without_a_terminal(capsys) -> None:
    with ProgressBar(1500, ShowOptions(use_tqdm=True), "embed") as progress:
        progress.update(1000)
        progress.update(500)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("embed ████████████████████████ 100% 1,500/1,500 in ")
    assert captured.err.count("\n") == 1
    assert "\r" not in captured.err


def test_redraws_on_a_terminal(monkeypatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(_progress, "_REDRAW_S", 0.0)
    with ProgressBar(4, ShowOptions(use_tqdm=True), "embed") as progress:
        progress.update(1)
        progress.update(1)
    lines = stderr.getvalue().split("\r")
    assert [line.split()[2:4] for line in lines[1:]] == [["25%", "1/4"], ["50%", "2/4"], ["50%", "2/4"]]
    assert lines[-1].endswith("\n")


def test_redraws_are_rare(monkeypatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(_progress, "_REDRAW_S", 3600.0)
    with ProgressBar(4, ShowOptions(use_tqdm=True), "embed") as progress:
        for _ in range(4):
            progress.update(1)
    assert stderr.getvalue().count("\r") == 1


def test_nothing_to_do_is_done(capsys) -> None:
    with ProgressBar(0, ShowOptions(use_tqdm=True), "embed"):
        pass
    assert "100% 0/0" in capsys.readouterr().err


def test_a_bar_of_the_callers_is_closed_on_errors_too() -> None:
    events = []

    class Bar:
        def __init__(self, *, total, desc) -> None:
            events.append((total, desc))

        def update(self, count) -> None:
            events.append(count)

        def close(self) -> None:
            events.append("closed")

    def fail() -> None:
        with ProgressBar(2, ShowOptions(use_tqdm=Bar), "score") as progress:
            progress.update(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert events == [(2, "score"), 1, "closed"]


@pytest.mark.parametrize(
    ("encoding", "bar"), [("cp1252", "#" * 24), ("cp932", "#" * 24), ("utf-8", "█" * 24)]
)
def test_a_bar_is_drawn_in_characters_that_there_are(encoding, bar, monkeypatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding=encoding))
    with ProgressBar(2, ShowOptions(use_tqdm=True), "embed") as progress:
        progress.update(2)
    assert raw.getvalue().decode(encoding).startswith(f"embed {bar} 100%")


CALLS = {
    "encode": ("embed", lambda model, texts, **how: model.encode(texts, **how)),
    "embed": ("embed", lambda model, texts, **how: model.embed(texts, **how)),
    "embed_query": ("embed", lambda model, texts, **how: model.embed_query(texts, **how)),
    "embed_document": ("embed", lambda model, texts, **how: model.embed_document(texts, **how)),
    "windows": ("embed", lambda model, texts, **how: model.embed(texts, long_text="mean", **how)),
    "tokens": ("embed", lambda model, texts, **how: model.encode(texts, pooling_task="token_embed", **how)),
    "aembed": ("embed", lambda model, texts, **how: asyncio.run(model.aembed(texts, **how))),
    "embed_sparse": ("sparse", lambda model, texts, **how: model.embed_sparse(texts, **how)),
    "classify": ("classify", lambda model, texts, **how: model.classify(texts, **how)),
    "token_classify": ("token_classify", lambda model, texts, **how: model.encode(texts, **how)),
    "score": ("cross_encoder", lambda model, texts, **how: model.score("a", texts, **how)),
    "cosine": ("embed", lambda model, texts, **how: model.score("a", texts, **how)),
    "late": ("late_interaction", lambda model, texts, **how: model.score("a", texts, **how)),
    "of prompts": ("cross_encoder", lambda model, texts, **how: model.score(prompts=texts, **how)),
    "rerank": ("cross_encoder", lambda model, texts, **how: model.rerank("a", texts, **how)),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_verb_tells_how_far_it_is(name, load) -> None:
    kind, call = CALLS[name]
    model = load(kind, max_batch_tokens=64)
    told: list[tuple[int, int]] = []
    texts = ["the river", "the city is good", "a"] * 40
    call(model, texts, progress=lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert told == sorted(told)
    assert {total for _, total in told} == {len(texts)}
    assert told[-1] == (len(texts), len(texts))

    def fail(*_) -> None:
        raise KeyError("the window is gone")

    with pytest.raises(KeyError, match="the window is gone"):
        call(model, texts, progress=fail)
    assert len(call(model, texts)) == len(texts)


def test_every_verb_has_what_ends_and_shows_it() -> None:
    streams = {"stream", "astream"}  # their consumer sees how far they are
    public = {
        name: each for name, each in vars(EdgeModel).items() if inspect.isfunction(each) and name[0] != "_"
    }
    takes = {name: set(inspect.signature(each).parameters) for name, each in public.items()}
    verbs = {name for name, parameters in takes.items() if "cancel" in parameters}
    assert {"encode", "embed", "embed_query", "aembed_document", "classify", "score", "arerank"} <= verbs
    for name in verbs - streams:
        assert {"progress", "deadline_s", "use_tqdm"} <= set(
            inspect.signature(getattr(EdgeModel, name)).parameters
        )


@pytest.mark.parametrize("wrong", [{"progress": 3}, {"use_tqdm": "yes"}, {"use_tqdm": 1}])
def test_wrong_ways_to_show_are_named(wrong, load) -> None:
    with pytest.raises(ParamsError, match=f"{next(iter(wrong))} is a .*; expected"):
        load().embed("a", **wrong)
