"""Arguments with which a model is loaded: one struct, the signature's defaults, refused before anything is opened."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from embedge import EdgeModel, ParamsError
from embedge._engine.options import LoadOptions


def test_fields_and_defaults_are_those_of_the_signature() -> None:
    stated = dict(inspect.signature(EdgeModel).parameters)
    del stated["model"]
    fields = inspect.signature(LoadOptions).parameters
    assert list(stated) == list(fields)
    assert [p.default for p in stated.values()] == [p.default for p in fields.values()]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runner": "generate"}, "runner='generate' is not possible"),
        ({"compat": "0.9"}, "compat='0.9' is not known; expected one of 0.13, 0.21"),
        ({"pooler_config": 3}, "pooler_config is a int"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens=-2"),
        ({"threads": 0}, "threads=0 is out of range; expected an int >= 1"),
        ({"max_batch_tokens": 1.5}, "max_batch_tokens=1.5"),
        ({"device_memory_bytes": True}, "device_memory_bytes=True"),
        ({"threads": 100_000}, "threads=100000 is out of range; expected .* at most"),
        ({"verify_hashes": np.array([1, 2])}, "verify_hashes is a list; expected True or False"),
        ({"cuda_graphs": None}, "cuda_graphs is a NoneType"),
        ({"enable_prefix_caching": "no"}, "enable_prefix_caching is a str"),
        ({"trust": np.array(["any", "any"])}, "trust is a ndarray, .*; expected text"),
        ({"task": {}}, "task is a dict"),
        ({"profile": "fast"}, "expected one of latency, throughput, background"),
    ],
)
def test_what_is_wrong_is_refused_though_the_bundle_is_not_there(fields, message) -> None:
    with pytest.raises(ParamsError, match=message):
        LoadOptions(**fields)
    with pytest.raises(ParamsError, match=message):
        EdgeModel("no such bundle", **fields)


def test_options_do_not_change() -> None:
    with pytest.raises(AttributeError):
        LoadOptions().threads = 3
