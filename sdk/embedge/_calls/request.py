"""One call of a verb, checked against the bundle before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from embedge.errors import ParamsError, PromptError, TaskNotSupportedError
from embedge.params import TASKS, ModelConfig, PoolingParams, ResolvedParams, resolve
from embedge.types import Compat, ParsedPrompt, Side, Task

if TYPE_CHECKING:
    from embedge._text.tokens import Encoded
    from embedge.manifest import Manifest

Params: TypeAlias = PoolingParams | Sequence[PoolingParams] | None


class Call(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Tokenised prompts with the parameters of each.

    Attributes:
        task: what is asked.
        encoded: token ids, in the order of the prompts.
        params: resolved parameters, likewise.
        first_id: request id of the first prompt.
    """

    task: Task
    encoded: Sequence[Encoded]
    params: list[ResolvedParams]
    first_id: int

    def facts(self, i: int) -> dict[str, Any]:
        """What every request output states of prompt i."""
        encoded = self.encoded[i]
        return {
            "request_id": str(self.first_id + i),
            "prompt_token_ids": encoded.token_ids,
            "num_truncated_tokens": encoded.num_truncated,
        }


def check_task(manifest: Manifest, task: Any, compat: Compat = "0.13") -> Task:
    """Refuse a task that does not exist or that the bundle does not have.

    Raises:
        ParamsError: no such task.
        TaskNotSupportedError: not in this bundle.
    """
    if task not in TASKS:
        raise ParamsError(f"task={task!r} is not known; expected one of {', '.join(TASKS)}")
    if compat == "0.21" and task == "score":
        raise ParamsError('task "score" does not exist with compat="0.21"; use "classify"')
    known: Task = task
    tasks = named_tasks(manifest, compat)
    # any pooling can be plugged in where the graph gives hidden states
    if known not in tasks and not (known == "plugin" and manifest.graph.hidden is not None):
        raise TaskNotSupportedError(
            f"bundle {manifest.name!r} cannot {task}; its tasks are {', '.join(tasks)}. "
            "Use one of these, or a bundle exported for that task.",
            task=task,
            tasks=tasks,
        )
    return known


def named_tasks(manifest: Manifest, compat: Compat) -> tuple[Task, ...]:
    """The bundle's tasks as that vLLM names them: with 0.21, score is called classify."""
    if compat == "0.13":
        return manifest.tasks
    return tuple(dict.fromkeys("classify" if task == "score" else task for task in manifest.tasks))


def stated_task(pooling_params: Params) -> Task | None:
    """The task that the caller's parameters name, if they name one.

    Raises:
        ParamsError: they name several.
    """
    several = pooling_params if isinstance(pooling_params, Sequence) else [pooling_params]
    stated = {p.task for p in several if isinstance(p, PoolingParams) and p.task is not None}
    if len(stated) > 1:
        raise ParamsError(
            f"pooling_params state different tasks {sorted(stated)}; one call answers one task: "
            "pass pooling_task, or make one call per task"
        )
    return stated.pop() if stated else None


def resolve_all(
    pooling_params: Params, task: Task, num_prompts: int, model_config: ModelConfig, compat: Compat
) -> list[ResolvedParams]:
    """Resolve the caller's parameters for each prompt.

    Raises:
        ParamsError: of another type, another number than prompts, or not valid for the task.
    """
    if pooling_params is None:
        pooling_params = PoolingParams()
    if isinstance(pooling_params, PoolingParams):
        return [resolve(pooling_params, task, model_config, compat=compat)] * num_prompts
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
            raise ParamsError(f"pooling_params[{index}] is a {type(params).__name__}; expected PoolingParams")
    return [resolve(p, task, model_config, compat=compat) for p in pooling_params]


def limits_of(
    params: Sequence[ResolvedParams], truncate_prompt_tokens: int | None, model_default: int | None
) -> list[int | None]:
    """truncate_prompt_tokens of each prompt: its own, else the call's, else the model's."""
    default = model_default
    if truncate_prompt_tokens is not None:
        default = PoolingParams(truncate_prompt_tokens=truncate_prompt_tokens).truncate_prompt_tokens
    if len(set(map(id, params))) == 1:
        own = params[0].truncate_prompt_tokens
        return [default if own is None else own] * len(params)
    return [default if p.truncate_prompt_tokens is None else p.truncate_prompt_tokens for p in params]


def refuse_pairs(prompts: Sequence[ParsedPrompt], task: Task) -> None:
    """Refuse pairs where a task takes single texts.

    Raises:
        PromptError: a prompt is a pair, and the task neither classify nor score.
    """
    if task in ("classify", "score"):
        return
    for index, prompt in enumerate(prompts):
        if isinstance(prompt, tuple):
            raise PromptError(
                f"prompt {index} is a pair of texts, which {task} does not take; expected one text per prompt",
                index=index,
            )


def check_side(truncation_side: Any) -> Side | None:
    """Refuse a truncation_side that is none.

    Raises:
        ParamsError: neither "left", "right" nor None.
    """
    if truncation_side not in (None, "left", "right"):
        raise ParamsError(
            f"truncation_side={truncation_side!r} is not known; expected 'left', 'right' or None"
        )
    side: Side | None = truncation_side
    return side


def stored_prompt(manifest: Manifest, prompt_name: str | None, prompt: Any) -> str:
    """The text to put before each prompt.

    Raises:
        ParamsError: no such stored prompt, or both a name and a text.
    """
    prompts = manifest.prompts
    if prompt_name is not None and prompt is not None:
        raise ParamsError("prompt_name and prompt are both given; expected one of them")
    if prompt is not None:
        if not isinstance(prompt, str):
            raise ParamsError(f"prompt is a {type(prompt).__name__}; expected text to put before each text")
        return prompt
    if prompt_name is None:
        default = manifest.default_prompt_name
        return prompts.get(default, "") if default else ""
    if prompt_name not in prompts:
        names = ", ".join(map(repr, prompts)) or "none"
        raise ParamsError(
            f"prompt_name={prompt_name!r} is not stored in bundle {manifest.name!r}; it has {names}. "
            "Pass the text itself as prompt=..."
        )
    return prompts[prompt_name]
