"""One call of a verb, checked against the bundle before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from embedge._calls.options import Params
from embedge._rows.resolved import ResolvedParams
from embedge._text.tokens import Encoded
from embedge.errors import ParamsError, PromptError, TaskNotSupportedError
from embedge.manifest import Manifest
from embedge.params import TASKS, PoolingParams
from embedge.types import Compat, ParsedPrompt, Task


class Facts(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What request outputs state of their prompts; it holds nothing of the caller's, so that it can be pickled.

    Attributes:
        encoded, first_id: see Call.
    """

    encoded: Sequence[Encoded]
    first_id: int

    def of(self, i: int) -> dict[str, Any]:
        """Of prompt i."""
        encoded = self.encoded[i]
        return {
            "request_id": str(self.first_id + i),
            "prompt_token_ids": encoded.token_ids,
            "num_truncated_tokens": encoded.num_truncated,
        }


class Call(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Tokenised prompts with the parameters of each.

    Attributes:
        task: what is asked.
        encoded: token ids, in the order of the prompts.
        params: resolved parameters, likewise.
        first_id: request id of the first prompt.
        lead: tokens that prompts may begin with, see Answerer.embeddings.
    """

    task: Task
    encoded: Sequence[Encoded]
    params: list[ResolvedParams]
    first_id: int
    lead: Sequence[int] = ()

    @property
    def facts(self) -> Facts:
        """What the request outputs state of the prompts."""
        return Facts(encoded=self.encoded, first_id=self.first_id)


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


def refuse_pairs(prompts: Sequence[ParsedPrompt], verb: str) -> None:
    """Refuse pairs where a task or verb takes single texts.

    Raises:
        PromptError: a prompt is a pair, and the verb neither classify nor score.
    """
    if verb in ("classify", "score"):
        return
    for index, prompt in enumerate(prompts):
        if isinstance(prompt, tuple):
            raise PromptError(
                f"prompt {index} is a pair of texts, which {verb} does not take; expected one text per prompt",
                index=index,
            )
