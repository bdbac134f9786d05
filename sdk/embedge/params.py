"""PoolingParams, PoolerConfig and ModelConfig, as in vLLM's offline pooling API.

Source: vLLM v0.13 `vllm/pooling_params.py` for field names, defaults, the order of `verify` and its messages.
"""

from __future__ import annotations

import copy
import math
from enum import IntEnum
from typing import Annotated, Any, ClassVar, cast, get_args

import msgspec

from embedge._plain import plain
from embedge.errors import ParamsError
from embedge.types import Compat, PoolingMode, Task

TASKS: tuple[Task, ...] = get_args(Task)
COMPATS: tuple[Compat, ...] = get_args(Compat)
POOLING_TYPES: tuple[PoolingMode, ...] = get_args(PoolingMode)

_VALID_PARAMETERS: dict[str, list[str]] = {
    "embed": ["dimensions", "normalize"],
    "classify": ["use_activation"],
    "score": ["use_activation"],
    "token_embed": ["dimensions", "normalize"],
    "token_classify": ["use_activation"],
}
_TASK_PARAMETERS = ("dimensions", "normalize", "use_activation")
_STEP_PARAMETERS = ("step_tag_id", "returned_token_ids")
_STEP_TASKS = ("token_embed", "token_classify")


class RequestOutputKind(IntEnum):
    """When outputs are returned; pooling has one final output, so only FINAL_ONLY is accepted."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class ModelConfig(msgspec.Struct, kw_only=True):
    """What `PoolingParams.verify` needs to know of a model; any object with these attributes will do.

    Attributes:
        pooler_config: the model's pooling defaults.
        is_matryoshka: whether embeddings may be cut to fewer dimensions.
        matryoshka_dimensions: the only sizes allowed, or None for every size from 1 to embedding_size.
        served_model_name: name used in messages.
        embedding_size: number of components of a full embedding.
        truncate_dim: components that an embedding is cut to where nothing is asked for: after it was normalised, as
            sentence-transformers does.
    """

    pooler_config: PoolerConfig | None = None
    is_matryoshka: bool = False
    matryoshka_dimensions: list[int] | None = None
    served_model_name: str | None = None
    embedding_size: int | None = None
    truncate_dim: int | None = None


class PoolerConfig(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Pooling defaults of a model; a field that is None leaves the choice to the bundle's manifest.

    Attributes:
        pooling_type: how token rows become one row ("CLS", "LAST", "MEAN", "ALL", "STEP", "MAX",
            "MEAN_SQRT_LEN", "WEIGHTEDMEAN").
        normalize: L2-normalise embeddings.
        dimensions: number of leading components to keep.
        use_activation: apply the activation to logits.
        logit_bias: subtracted from every logit before the activation.
        step_tag_id: STEP: keep the rows whose token id is this one.
        returned_token_ids: STEP: keep these columns.

    Raises:
        ParamsError: a field has the wrong type or range.
    """

    pooling_type: PoolingMode | None = None
    normalize: bool | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    use_activation: bool | None = None
    logit_bias: float | None = None
    step_tag_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    returned_token_ids: list[int] | None = None

    def __post_init__(self) -> None:
        _as_plain(self)
        kind = cast("Any", self.pooling_type)
        if kind is not None and (not isinstance(kind, str) or kind not in POOLING_TYPES):
            raise ParamsError(
                f"pooling_type={self.pooling_type!r} is not known; expected one of {', '.join(POOLING_TYPES)}"
            )
        _check_bool("normalize", self.normalize)
        _check_bool("use_activation", self.use_activation)
        _check_int("dimensions", self.dimensions, minimum=1)
        _check_step(self.step_tag_id, self.returned_token_ids)
        bias = cast("Any", self.logit_bias)
        if bias is not None and (
            isinstance(bias, bool) or not isinstance(bias, (int, float)) or not math.isfinite(bias)
        ):
            raise ParamsError(f"logit_bias={bias!r} must be a finite number or None")


class PoolingParams(msgspec.Struct, omit_defaults=True):
    """How to pool one prompt: vLLM's PoolingParams, field for field.

    Attributes:
        truncate_prompt_tokens: None: longer than the model's max_seq_len is an error; -1: cut to max_seq_len;
            k >= 1: keep the last k tokens, special tokens included and kept.
        dimensions: number of leading components of the embedding to keep (Matryoshka).
        normalize: L2-normalise the embedding; None means the model's default.
        use_activation: apply the activation to logits; None means True.
        step_tag_id: STEP pooling: keep the rows whose token id is this one.
        returned_token_ids: STEP pooling: keep these columns.
        task: "embed", "classify", "score", "token_embed", "token_classify" or "plugin".
        requires_token_ids: carried for plugins.
        skip_reading_prefix_cache: carried; EdgeModel's enable_prefix_caching decides for all calls.
        extra_kwargs: passed to a plugin.
        output_kind: FINAL_ONLY; anything else is an error.

    Raises:
        ParamsError: a field has the wrong type or range; the message names it.
        TypeError: an unknown keyword.

    Source:
        vLLM v0.13 `vllm.PoolingParams`.
    """

    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    use_activation: bool | None = None
    step_tag_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    returned_token_ids: list[int] | None = None
    task: Task | None = None
    requires_token_ids: bool = False
    skip_reading_prefix_cache: bool | None = None
    extra_kwargs: dict[str, Any] | None = None
    output_kind: RequestOutputKind = RequestOutputKind.FINAL_ONLY

    valid_parameters: ClassVar[dict[str, list[str]]] = _VALID_PARAMETERS

    def __post_init__(self) -> None:
        self._check()

    def clone(self) -> PoolingParams:
        """Return a deep copy."""
        made = copy.copy(self)
        # the two fields that hold something mutable; deepcopy of the struct costs six times as much
        if self.returned_token_ids is not None:
            made.returned_token_ids = copy.deepcopy(self.returned_token_ids)
        if self.extra_kwargs is not None:
            made.extra_kwargs = copy.deepcopy(self.extra_kwargs)
        return made

    def verify(self, task: Task, model_config: Any = None) -> None:
        """Fill defaults for a task in place, and refuse what is not valid for it.

        Args:
            task: the task that the parameters are going to be used for.
            model_config: a ModelConfig, or any object with its attributes; missing ones count as None.

        Raises:
            ParamsError: a ValueError with vLLM's messages.
        """
        self._check()
        if self.task is not None and self.task != task:
            raise ParamsError(f"You cannot overwrite {self.task=!r} with {task=!r}!")
        if task not in TASKS:
            raise ParamsError(f"Unknown pooling task: {task}")
        self.task = task
        if task == "plugin":
            return
        self._merge_defaults(task, getattr(model_config, "pooler_config", None))
        if task in ("embed", "token_embed"):
            if self.normalize is None:
                self.normalize = True
            if self.dimensions is not None and model_config is not None:
                _check_dimensions(self.dimensions, model_config)
        elif self.use_activation is None:
            self.use_activation = True
        self._refuse(
            task, [f for f in _TASK_PARAMETERS if f not in _VALID_PARAMETERS[task] and self._is_set(f)]
        )

    def _merge_defaults(self, task: Task, pooler_config: Any) -> None:
        step_set = [f for f in _STEP_PARAMETERS if self._is_set(f)]
        if pooler_config is None:
            if task not in _STEP_TASKS:
                self._refuse(task, step_set)
            return
        for field in _VALID_PARAMETERS[task]:
            if not self._is_set(field):
                setattr(self, field, getattr(pooler_config, field, None))
        if getattr(pooler_config, "pooling_type", None) != "STEP":
            self._refuse(task, step_set)
            return
        for field in _STEP_PARAMETERS:
            if not self._is_set(field):
                setattr(self, field, getattr(pooler_config, field, None))

    def _is_set(self, field: str) -> bool:
        return getattr(self, field) is not None

    def _refuse(self, task: Task, fields: list[str]) -> None:
        if fields:
            raise ParamsError(
                f"Task {task} only supports {_VALID_PARAMETERS[task]} parameters, "
                f"does not support {fields} parameters"
            )

    def _check(self) -> None:
        _as_plain(self)
        _check_int("truncate_prompt_tokens", self.truncate_prompt_tokens, minimum=-1)
        _check_int("dimensions", self.dimensions)
        _check_bool("normalize", self.normalize)
        _check_bool("use_activation", self.use_activation)
        _check_step(self.step_tag_id, self.returned_token_ids)
        task = cast("Any", self.task)
        if task is not None and (not isinstance(task, str) or task not in TASKS):
            raise ParamsError(f"task={self.task!r} is not known; expected one of {', '.join(TASKS)} or None")
        if not isinstance(cast("Any", self.requires_token_ids), bool):
            raise ParamsError(f"requires_token_ids={self.requires_token_ids!r} must be True or False")
        _check_bool("skip_reading_prefix_cache", self.skip_reading_prefix_cache)
        kwargs = cast("Any", self.extra_kwargs)
        if kwargs is not None and not (isinstance(kwargs, dict) and all(isinstance(k, str) for k in kwargs)):
            raise ParamsError(f"extra_kwargs={kwargs!r} must be a dict with string keys, or None")
        if self.output_kind != RequestOutputKind.FINAL_ONLY or isinstance(
            cast("Any", self.output_kind), bool
        ):
            raise ParamsError(
                f"output_kind={self.output_kind!r} is not possible for pooling; "
                "expected RequestOutputKind.FINAL_ONLY"
            )


def _as_plain(params: PoolerConfig | PoolingParams) -> None:
    for name in params.__struct_fields__:
        given = getattr(params, name)
        if (value := plain(given)) is not given:
            setattr(params, name, value)


def _check_int(name: str, value: Any, *, minimum: int | None = None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParamsError(f"{name}={value!r} must be an int or None, not {type(value).__name__}")
    if minimum is not None and value < minimum:
        raise ParamsError(f"{name}={value} is out of range; expected an int >= {minimum}, or None")


def _check_bool(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ParamsError(f"{name}={value!r} must be True, False or None, not {type(value).__name__}")


def _check_step(step_tag_id: Any, returned_token_ids: Any) -> None:
    _check_int("step_tag_id", step_tag_id, minimum=0)
    if returned_token_ids is None:
        return
    if not isinstance(returned_token_ids, list):
        raise ParamsError(f"returned_token_ids={returned_token_ids!r} must be a list of ints, or None")
    for token_id in returned_token_ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
            raise ParamsError(f"returned_token_ids holds {token_id!r}; expected ints >= 0")


def _check_dimensions(dimensions: int, model_config: Any) -> None:
    name = getattr(model_config, "served_model_name", None)
    allowed = getattr(model_config, "matryoshka_dimensions", None)
    size = getattr(model_config, "embedding_size", None)
    if not getattr(model_config, "is_matryoshka", None):
        raise ParamsError(
            f'Model "{name}" does not support matryoshka representation, '
            "changing output dimensions will lead to poor results."
        )
    if allowed is not None and dimensions not in allowed:
        raise ParamsError(
            f'Model "{name}" only supports {list(allowed)} matryoshka dimensions, '
            "use other output dimensions will lead to poor results."
        )
    if dimensions < 1:
        raise ParamsError("Dimensions must be greater than 0")
    if size is not None and dimensions > size:
        raise ParamsError(
            f'dimensions={dimensions} is more than the {size} components of model "{name}"; '
            f"expected 1 to {size}, or None for all of them"
        )
