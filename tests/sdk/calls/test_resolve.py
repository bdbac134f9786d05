"""The caller's parameters and the bundle's defaults become what each prompt is computed with."""

from __future__ import annotations

import pytest

from embedge import ModelConfig, ParamsError, PoolingParams
from embedge._calls.resolve import Resolving, limits_of, resolve

MATRYOSHKA = ModelConfig(
    is_matryoshka=True, matryoshka_dimensions=[64, 128], served_model_name="m", embedding_size=384
)


def test_resolve_leaves_the_callers_object_alone() -> None:
    params = PoolingParams()
    resolved = resolve(params, "embed", MATRYOSHKA)
    assert params == PoolingParams()
    assert (resolved.task, resolved.normalize) == ("embed", True)


def test_compat_021_reads_use_activation_as_normalize() -> None:
    params = PoolingParams(use_activation=False)
    with pytest.raises(ParamsError, match="Task embed only supports"):
        resolve(params, "embed", None)
    assert resolve(params, "embed", None, compat="0.21").normalize is False
    assert resolve(params, "classify", None, compat="0.21").use_activation is False
    with pytest.raises(ParamsError, match="contradict"):
        resolve(PoolingParams(use_activation=False, normalize=True), "embed", None, compat="0.21")


def test_each_prompts_own_limit_goes_before_the_calls() -> None:
    own, open_ = (resolve(PoolingParams(truncate_prompt_tokens=k), "embed", None) for k in (3, None))
    assert limits_of([own, open_], -1) == [3, -1]
    assert limits_of([own, own], -1) == [3, 3]
    assert limits_of([open_] * 3, None) == [None] * 3
    assert limits_of([], -1) == []


def test_calls_that_state_nothing_share_what_is_resolved_for_their_task() -> None:
    resolving = Resolving(MATRYOSHKA, "0.13")
    embed, again = resolving.all(None, "embed", 2), resolving.all(None, "embed", 1)
    assert embed[0] is embed[1] is again[0]
    assert embed[0] == resolving.all(PoolingParams(), "embed", 1)[0]
    assert resolving.all(None, "classify", 1)[0] == resolving.all(PoolingParams(), "classify", 1)[0]
    assert resolving.all(None, "embed", 0) == []
