"""Our exceptions: what a message and its attributes become in another process."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from embedge import errors

CLASSES = [
    each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__
]
VALUES = {
    "task": "embed",
    "tasks": ("score",),
    "index": 7,
    "file": "a",
    "expected_sha256": "b",
    "device": "cuda:0",
}


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling_and_copying(kind) -> None:
    names = list(inspect.signature(kind.__init__).parameters)[2:]
    error = kind("what was wrong", **{name: VALUES[name] for name in names if name in VALUES})
    error.add_note("a note")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again) == vars(error)
        assert again.__notes__ == ["a note"]


def test_every_error_is_of_the_tree() -> None:
    assert all(issubclass(each, errors.EmbedgeError) for each in CLASSES)
    assert issubclass(errors.DeadlineError, TimeoutError)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_is_one_printable_line(kind) -> None:
    names = list(inspect.signature(kind.__init__).parameters)[2:]
    text = "a\x1b[31m name\nforged: line\u2028 \ud800 naïve 河" + "x" * 10_000 + " Do this."
    error = kind(text, **{name: VALUES[name] for name in names if name in VALUES})
    assert str(error).startswith("a\ufffd[31m name forged: line  \ufffd naïve 河xxx")
    assert str(error).endswith("xxx Do this.")
    assert str(error).isprintable()
    assert len(str(error)) < 3100
    assert error.args == (text,)


def test_a_message_that_names_alternatives_has_words_for_none() -> None:
    assert errors.expected_one_of(["a", "b"], "there is none") == "expected one of a, b"
    assert errors.expected_one_of(iter(()), "there is none") == "there is none"
    assert errors.expected_one_of(map(repr, ["a"]), "there is none") == "expected one of 'a'"
