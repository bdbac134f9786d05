"""Cases that call sound models: with prompts of any kind, and with parameters of any type."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.mutations import NUMBERS, TEXTS
from tests.fuzz.places import DiffersError

from embedge import EdgeModel, PoolerConfig, PoolingParams
from embedge.errors import EmbedgeError
from embedge.testing import tiny_bundle

PROMPTS_PER_CALL = 8
_WORDS = (
    "the",
    "river",
    "sea",
    "cold",
    ".",
    ",",
    "water",
    "[SEP]",
    "[MASK]",
    "[CLS]",
    "ﷺ",
    "é",
    "e\u0301",
    "河",
    "🙂",
)
_ODD = (
    "\x00",
    "\ud800",
    "\udfff",
    "\ufeff",
    "\u200b",
    "\u202e",
    "\x1b[2J",
    "\r",
    "\t",
    "\u0085",
    "\U0010ffff",
)
_NUM_TOKENS = 54


def _text(rng: random.Random) -> str:
    way = rng.randrange(8)
    if way < 4:
        return " ".join(rng.choices(_WORDS, k=rng.choice([0, 1, 3, 10, 40])))
    if way == 4:
        return rng.choice(TEXTS)
    if way == 5:
        return "".join(rng.choices([*_WORDS, *_ODD, " "], k=rng.randrange(20)))
    if way == 6:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(1, 12)))
    return rng.choice(_WORDS) * rng.choice([1, 100, 3000])


def _prompt(rng: random.Random) -> Any:
    way = rng.randrange(20)
    if way < 11:
        return _text(rng)
    if way < 14:
        ids = [rng.randrange(_NUM_TOKENS) for _ in range(rng.choice([0, 1, 5, 64, 65, 600]))]
        array = np.array(ids, dtype=rng.choice([np.int64, np.uint8]))
        if not rng.randrange(4):
            ids.append(rng.choice([-1, _NUM_TOKENS, 2**31, 2**63, 2**70]))
        return rng.choice([ids, {"prompt_token_ids": ids}, array])
    if way == 14:
        return {"prompt": _text(rng)}
    if way == 15:
        return {"text": _text(rng), "text_pair": _text(rng)}
    found = anything(rng)
    # what is gone through once cannot be asked twice, and a list of one number is a prompt of one token
    return "the river" if hasattr(found, "__next__") or hasattr(found, "__index__") else found


class Prompts:
    """Calls of sound models of several kinds with eight prompts each."""

    def __init__(self, scratch: Path) -> None:
        kinds = ("embed", "classify", "cross_encoder", "sparse", "late_interaction", "token_classify")
        self._models = [
            EdgeModel(tiny_bundle(scratch / kind, kind), device="cpu", threads=1)  # type: ignore[arg-type]
            for kind in kinds
        ]

    def run(self, index: int, rng: random.Random) -> None:
        model = rng.choice(self._models)
        prompts = [_prompt(rng) for _ in range(PROMPTS_PER_CALL)]
        cut = rng.choice([None, -1, -1, 8])
        way = rng.randrange(8)
        if way < 5:
            self._check(model, prompts, cut)
            return
        if way == 5:
            list(model.stream(iter(prompts), truncate_prompt_tokens=cut, window=3))
        elif way == 6:
            model.score(prompts[0], prompts[1:], truncate_prompt_tokens=cut)
        else:
            model.rerank(prompts[0], prompts[1:], truncate_prompt_tokens=cut)

    def _check(self, model: EdgeModel, prompts: list[Any], cut: int | None) -> None:
        """Each prompt alone has the answer that it has among others; those that are refused are refused there, too."""
        each = [_answer(model, [prompt], cut) for prompt in prompts]
        good = [(prompt, rows[0]) for prompt, rows in zip(prompts, each, strict=True) if rows is not None]
        whole = _answer(model, prompts, cut)
        if (whole is None) != (len(good) < len(prompts)):
            raise DiffersError("prompts that are answered alone are refused together, or the other way round")
        together = _answer(model, [prompt for prompt, _ in good], cut) if good else []
        if together is None or len(together) != len(good):
            raise DiffersError("prompts that are answered alone are not answered together")
        for (prompt, alone), row in zip(good, together, strict=True):
            if (
                alone.shape != row.shape
                or not np.isfinite(row).all()
                or np.abs(alone - row).max(initial=0) > 1e-5
            ):
                raise DiffersError(f"{prompt!r:.80} has another answer among others than alone")


def _answer(model: EdgeModel, prompts: list[Any], cut: int | None) -> list[np.ndarray] | None:
    try:
        return [
            np.asarray(_data(output.outputs)) for output in model.encode(prompts, truncate_prompt_tokens=cut)
        ]
    except EmbedgeError:
        return None


def _data(output: Any) -> Any:
    for name in ("data", "embedding", "probs"):
        if hasattr(output, name):
            return getattr(output, name)
    raise DiffersError(f"{type(output).__name__} has no numbers")


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A value of any type that a program might pass."""
    some: tuple[Any, ...] = (
        *(
            None,
            True,
            False,
            (),
            [],
            {},
            set(),
            b"bytes",
            bytearray(3),
            object(),
            ...,
            int,
            len,
            Path("x"),
            range(3),
        ),
        *(
            float("nan"),
            float("inf"),
            complex(1, 2),
            np.float32(1),
            np.int8(-3),
            np.bool_(True),
            np.str_("text"),
        ),
        *(
            np.array([]),
            np.zeros((2, 3)),
            np.array(["a", "b"]),
            np.array(5),
            np.array([None, "a"]),
            np.zeros(3, int),
        ),
        *(
            np.datetime64("2020-01-01"),
            memoryview(b"abc"),
            deque(["a"]),
            frozenset({1}),
            slice(1),
            NotImplemented,
        ),
        *(PoolingParams(), PoolerConfig(), ValueError("value"), type("Own", (str,), {})("own"), iter(["a"])),
        *(rng.choice(NUMBERS), rng.choice(TEXTS), rng.choice(_ODD)),
    )
    if depth < 2 and not rng.randrange(4):
        inner = [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
        boxed = np.empty(len(inner), object)
        boxed[:] = [str(each) for each in inner]
        return rng.choice([inner, tuple(inner), {"prompt": inner}, {"a": inner}, iter(inner), boxed])
    return rng.choice(some)


_VALUES: dict[str, tuple[Any, ...]] = {
    "truncate_prompt_tokens": (None, -1, 0, 1, 8, 64, 65),
    "truncation_side": (None, "left", "right"),
    "truncate": ("longest_first", "document"),
    "long_text": (None, "error", "truncate", "mean"),
    "pooling_task": (None, "embed", "token_embed", "classify", "score", "plugin"),
    "prompt_name": (None, "query", "document", ""),
    "prompt": (None, "", "query: "),
    "deadline_s": (None, 0, 5, 1e-9),
    "dimensions": (None, 1, 4, 8, 9),
    "normalize": (None, True, False),
    "use_activation": (None, True, False),
    "step_tag_id": (None, 0, 5),
    "returned_token_ids": (None, [], [0], [0, 99]),
    "task": (None, "embed", "token_embed", "classify", "score"),
    "window": (1, 3, 2048),
    "top_n": (None, 0, 1, 99),
    "pooling_type": (None, "CLS", "MEAN", "ALL", "STEP", "LAST", "MAX", "WEIGHTEDMEAN", "MEAN_SQRT_LEN"),
    "logit_bias": (None, 0.5),
    "device": ("auto", "cpu", ["cpu"], "cuda", "gpu:1", "cpu:0"),
    "variant": ("auto", "fp32", "int8", ""),
    "compat": ("0.13", "0.21"),
    "threads": (None, 1, 2, 0, 4096),
    "max_batch_tokens": (None, 1, 64, 2**40),
    "device_memory_bytes": (None, 1, 2**30),
    "max_memory_mb": (None, 1, 64),
    "provider_options": (None, {}, {"a": 1}),
    "profile": ("latency", "throughput", "background"),
    "max_model_len": (None, 1, 3, 64, 65),
    "fingerprint": (None, "0" * 12),
    "trust": ("exported", "any"),
    "runner": ("auto", "pooling"),
    "pooling_plugin": (None, "none"),
    "timeout_s": (None, 0, 1),
    "instruction": (None, "Judge."),
}
"""Values that are meant, by parameter; others come from `anything`."""
_STEP = ("step_tag_id", "returned_token_ids")
_PARAMS = ("truncate_prompt_tokens", "dimensions", "normalize", "use_activation", "task", *_STEP)
_POOLER = ("pooling_type", "normalize", "dimensions", "use_activation", "logit_bias", *_STEP)
_COMMON = ("pooling_params", "truncate_prompt_tokens", "use_tqdm", "deadline_s", "cancel")
_VERBS: dict[str, tuple[str, ...]] = {
    "encode": (*_COMMON, "pooling_task", "prompt_name", "prompt", "truncation_side"),
    "embed": (*_COMMON, "prompt_name", "prompt", "truncation_side", "long_text"),
    "embed_sparse": (*_COMMON[1:], "prompt_name", "prompt", "truncation_side"),
    "classify": (*_COMMON, "truncation_side"),
    "score": (*_COMMON, "truncate", "instruction", "query_prompt_name", "document_prompt_name"),
    "rerank": (*_COMMON, "top_n", "truncate", "instruction", "query_prompt_name", "document_prompt_name"),
    "stream": (*_COMMON[:2], *_COMMON[3:], "pooling_task", "prompt_name", "prompt", "truncation_side", "window"),
}  # fmt: skip
_LOADING = (
    *(
        "task",
        "device",
        "variant",
        "pooler_config",
        "pooling_plugin",
        "truncate_prompt_tokens",
        "compat",
        "threads",
    ),
    *(
        "max_batch_tokens",
        "device_memory_bytes",
        "max_memory_mb",
        "provider_options",
        "retry_smaller_batches",
        "cuda_graphs",
        "enable_prefix_caching",
        "profile",
    ),
    *("max_model_len", "verify_hashes", "fingerprint", "trust", "runner"),
)


class Parameters:
    """Calls and loads with one to four parameters of any type, in and out of range."""

    def __init__(self, scratch: Path) -> None:
        kinds = ("embed", "cross_encoder", "late_interaction", "sparse", "classify")
        self._folders = [tiny_bundle(scratch / kind, kind) for kind in kinds]  # type: ignore[arg-type]
        self._models = [EdgeModel(folder, device="cpu", threads=1) for folder in self._folders]

    def run(self, index: int, rng: random.Random) -> None:
        if not rng.randrange(8):
            folder = rng.choice(self._folders) if rng.randrange(10) else anything(rng)
            with EdgeModel(folder, **_some(_LOADING, rng)) as model:
                model.encode("good", truncate_prompt_tokens=-1)
            return
        if not rng.randrange(4):
            made = PoolingParams(**_some(_PARAMS, rng)).clone()
            made.verify(made.task or "embed", rng.choice(self._models).model_config)
            return
        model = rng.choice(self._models)
        name = rng.choice([*_VERBS])
        given: list[Any] = [_given(rng)] if name not in ("score", "rerank") else [_given(rng), _given(rng)]
        answer = getattr(model, name)(*given, **_some(_VERBS[name], rng))
        for output in answer:
            repr(output)


def _given(rng: random.Random) -> Any:
    way = rng.randrange(6)
    if way < 3:
        return rng.choice(["good", ["good", "the river"], ["a"] * 20])
    return [_prompt(rng) for _ in range(rng.randrange(4))] if way < 5 else anything(rng)


def _some(names: tuple[str, ...], rng: random.Random) -> dict[str, Any]:
    chosen = rng.sample(names, min(len(names), rng.choice([0, 1, 1, 2, 4])))
    return {name: _of(name, rng) for name in chosen}


def _of(name: str, rng: random.Random) -> Any:
    if name == "pooling_params" and rng.randrange(3):
        made = PoolingParams(**{each: _of(each, rng) for each in rng.sample(_PARAMS, 2)})
        return rng.choice([made, [made], [made, made]])
    if name == "pooler_config" and rng.randrange(3):
        return PoolerConfig(**{each: _of(each, rng) for each in rng.sample(_POOLER, 2)})
    if name in _VALUES and rng.randrange(3):
        return rng.choice(_VALUES[name])
    found = anything(rng)
    # a caller's own bar or function raises what it likes
    return None if name in ("use_tqdm", "cancel") and callable(found) else found
