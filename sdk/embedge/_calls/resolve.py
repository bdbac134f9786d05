"""What each prompt of a call is computed with, once the bundle's defaults are filled in."""

from __future__ import annotations

from collections.abc import Sequence

from embedge._calls.options import CallOptions, Params
from embedge._rows.resolved import ResolvedParams
from embedge.errors import ParamsError, did_you_mean
from embedge.manifest import Manifest, TemplateSpec
from embedge.params import ModelConfig, PoolingParams
from embedge.types import Compat, Task

_WITH_OWN_PROMPT = ("query", "document")
"""Towers whose prompt sentence-transformers' encode_query and encode_document take by its name."""


def resolve(
    params: PoolingParams, task: Task, model_config: ModelConfig | None, *, compat: Compat = "0.13"
) -> ResolvedParams:
    """Verify a clone of params for a task and freeze the outcome; params itself is left as it is.

    Args:
        params: the caller's parameters.
        task: the task to resolve for.
        model_config: the model's facts and defaults.
        compat: "0.13", or "0.21", where use_activation on embed and token_embed means normalize.

    Raises:
        ParamsError: as `PoolingParams.verify`.
    """
    clone = params.clone()
    if compat == "0.21" and task in ("embed", "token_embed") and clone.use_activation is not None:
        if clone.normalize not in (None, clone.use_activation):
            raise ParamsError(
                f"normalize={clone.normalize} and use_activation={clone.use_activation} contradict each other; "
                f'with compat="0.21" both mean normalisation for task {task!r}: set one of them'
            )
        clone.normalize, clone.use_activation = clone.use_activation, None
    wants_unit_length = clone.normalize is True
    clone.verify(task, model_config)
    truncate_dim = model_config.truncate_dim if model_config and task == "embed" else None
    if truncate_dim is not None and clone.dimensions is None and wants_unit_length:
        clone.dimensions = truncate_dim  # what is asked for is of unit length when it is cut
    return ResolvedParams(
        task=task,
        truncate_prompt_tokens=clone.truncate_prompt_tokens,
        normalize=bool(clone.normalize),
        dimensions=clone.dimensions,
        truncate_dim=truncate_dim if clone.dimensions is None else None,
        use_activation=bool(clone.use_activation),
        step_tag_id=clone.step_tag_id,
        returned_token_ids=None if clone.returned_token_ids is None else tuple(clone.returned_token_ids),
        extra_kwargs=clone.extra_kwargs,
        requires_token_ids=clone.requires_token_ids,
    )


class Resolving:
    """The parameters of a model's calls.

    Args:
        model_config: its facts and defaults.
        compat: see `resolve`.
    """

    def __init__(self, model_config: ModelConfig, compat: Compat) -> None:
        self._model_config, self._compat = model_config, compat
        self._unstated: dict[Task, ResolvedParams] = {}

    def all(self, pooling_params: Params, task: Task, num_prompts: int) -> list[ResolvedParams]:
        """Resolve the caller's parameters for each prompt; where there are none, once for all calls.

        Raises:
            ParamsError: of another type, another number than prompts, or not valid for the task.
        """
        if pooling_params is None:
            if task not in self._unstated:
                self._unstated[task] = self._one(PoolingParams(), task)
            return [self._unstated[task]] * num_prompts
        if isinstance(pooling_params, PoolingParams):
            return [self._one(pooling_params, task)] * num_prompts
        if not isinstance(pooling_params, Sequence):
            raise ParamsError(
                f"pooling_params is a {type(pooling_params).__name__}; expected PoolingParams, a list of them, or None"
            )
        if len(pooling_params) != num_prompts:
            raise ParamsError(
                f"{num_prompts} prompts and {len(pooling_params)} pooling_params; expected as many, or one for all"
            )
        for index, params in enumerate(pooling_params):
            if not isinstance(params, PoolingParams):
                raise ParamsError(
                    f"pooling_params[{index}] is a {type(params).__name__}; expected PoolingParams"
                )
        return [self._one(params, task) for params in pooling_params]

    def _one(self, params: PoolingParams, task: Task) -> ResolvedParams:
        return resolve(params, task, self._model_config, compat=self._compat)


def limits_of(params: Sequence[ResolvedParams], default: int | None) -> list[int | None]:
    """truncate_prompt_tokens of each prompt: its own, else the default."""
    if len(set(map(id, params))) == 1:
        own = params[0].truncate_prompt_tokens
        return [default if own is None else own] * len(params)
    return [default if p.truncate_prompt_tokens is None else p.truncate_prompt_tokens for p in params]


def prompt_of(manifest: Manifest, options: CallOptions) -> str:
    """The text to put before each prompt of a call; queries and documents have a prompt of their tower's name, if any.

    Raises:
        ParamsError: as `stored_prompt`.
    """
    if options.tower in _WITH_OWN_PROMPT and options.prompt_name is None and options.prompt is None:
        return manifest.prompts.get(options.tower, "")
    return stored_prompt(manifest, options.prompt_name, options.prompt)


def stored_prompt(manifest: Manifest, prompt_name: str | None, prompt: str | None = None) -> str:
    """The text to put before each prompt: the one given, else a stored one.

    Raises:
        ParamsError: no such stored prompt, or the one given would not be shown.
    """
    prompts = manifest.prompts
    if prompt is not None:
        if prompt and manifest.message is not None:
            check_instructed(manifest, manifest.message)
        return prompt
    if prompt_name is None:
        default = manifest.default_prompt_name
        return prompts.get(default, "") if default else ""
    if prompt_name not in prompts:
        names = ", ".join(map(repr, prompts)) or "none"
        raise ParamsError(
            f"prompt_name={prompt_name!r} is not stored in bundle {manifest.name!r}; it has {names}. "
            f"Pass the text itself as prompt=...{did_you_mean(prompt_name, prompts)}"
        )
    return prompts[prompt_name]


def check_instructed(manifest: Manifest, template: TemplateSpec) -> None:
    """Refuse an instruction, or a prompt in words, that the model's chat template would not show.

    Raises:
        ParamsError: it would not.
    """
    if template.way == "whole" and "{instruction}" not in (template.instructed_body or ""):
        raise ParamsError(
            f"the chat template of bundle {manifest.name!r} shows no system message, so it takes no prompt and no "
            "instruction; leave it out"
        )
