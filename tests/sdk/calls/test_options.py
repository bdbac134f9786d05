"""Arguments of a call: what is refused before the bundle is looked at, and which limit stands."""

from __future__ import annotations

import inspect

import pytest

from embedge import EdgeModel, ParamsError
from embedge._calls.options import CallOptions, PairOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"long_text": "cut"}, "long_text='cut' is not known; expected 'error', 'truncate' or 'mean'"),
        ({"long_text": "mean", "truncation_side": "left"}, "long_text and truncation are both given"),
        ({"prompt": ""}, None),
        ({"prompt": "", "prompt_name": "query"}, "prompt_name and prompt are both given"),
        ({"prompt": 3}, "prompt is a int, 3; expected text"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens=-2 is out of range"),
        ({"truncate_prompt_tokens": "a"}, "truncate_prompt_tokens='a' must be an int"),
        ({"truncation_side": "middle"}, "truncation_side='middle' is not known"),
    ],
)
def test_arguments_of_calls_with_prompts(fields, message) -> None:
    if message is None:
        assert CallOptions(**fields)
        return
    with pytest.raises(ParamsError, match=message):
        CallOptions(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"truncate": "query"}, "truncate='query' is not known; expected 'longest_first' or 'document'"),
        ({"truncate_prompt_tokens": 1.0}, "truncate_prompt_tokens=1.0 must be an int"),
    ],
)
def test_arguments_of_calls_with_pairs(fields, message) -> None:
    with pytest.raises(ParamsError, match=message):
        PairOptions(**fields)


def test_which_limit_stands() -> None:
    for options in (CallOptions(), PairOptions()):
        assert (options.limit(None), options.limit(7)) == (None, 7)
    for options in (CallOptions(truncate_prompt_tokens=5), PairOptions(truncate_prompt_tokens=5)):
        assert (options.limit(None), options.limit(7)) == (5, 5)
    assert CallOptions(long_text="error").limit(7) is None
    assert CallOptions(long_text="truncate").limit(7) == -1


@pytest.mark.parametrize(
    ("verb", "options"),
    [(v, CallOptions) for v in ("encode", "stream", "embed", "embed_sparse", "classify")]
    + [(v, PairOptions) for v in ("score", "rerank")],
)
def test_defaults_are_those_of_the_verbs(verb, options) -> None:
    stated = inspect.signature(getattr(EdgeModel, verb)).parameters
    fields = inspect.signature(options).parameters
    shared = [name for name in stated if name in fields]
    assert len(shared) >= 4
    assert {name: stated[name].default for name in shared} == {name: fields[name].default for name in shared}
