"""The bundles of a server by name, and what a request asks of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from embedge._serve.refusals import Refusal
from embedge.errors import ParamsError
from embedge.model import EdgeModel
from embedge.types import Task


class Models(msgspec.Struct, frozen=True, eq=False):
    """Loaded models by their bundles' names, in the order that they were given."""

    by_name: dict[str, EdgeModel]

    def named(self, name: str) -> EdgeModel:
        """The model of a name.

        Raises:
            Refusal: there is none.
        """
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(map(repr, self.by_name))
            raise Refusal("model", f"model {name!r} is not served here; expected one of {known}") from None

    def asked(self, name: str | None, task: Task) -> EdgeModel:
        """The model of a name; without one the first that has the task, else the first, which says what it has."""
        if name is not None:
            return self.named(name)
        models = list(self.by_name.values())
        return next((model for model in models if task in model.info.tasks), models[0])


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is answered with.

    Attributes:
        body: to encode as JSON.
        model: name of the model that was asked.
        num_inputs: texts or pairs.
        num_tokens: of these, where they were counted.
    """

    body: Any
    model: str
    num_inputs: int
    num_tokens: int = 0


Input = str | list[str | int | list[int]]
"""One text, one list of token ids, or a list of either."""


def prompts_of(given: Input, field: str, most: int) -> list[Any]:
    """Prompts as the SDK takes them.

    Args:
        given: the request's.
        field: its name in the request.
        most: prompts that a request may have.

    Raises:
        Refusal: there is none, there are too many, or numbers stand among texts.
    """
    if isinstance(given, str):
        return [given]
    if not given:
        raise Refusal("value", f"{field} is empty; expected text, token ids, or a list of either")
    if all(isinstance(each, int) for each in given):
        return [{"prompt_token_ids": given}]
    if any(isinstance(each, int) for each in given):
        raise Refusal(
            "value", f"{field} has texts and numbers; expected texts, lists of token ids, or one such list"
        )
    check_number(given, field, most)
    return [each if isinstance(each, str) else {"prompt_token_ids": each} for each in given]


def check_number(given: Sequence[object], field: str, most: int) -> None:
    """Refuse more inputs than a request may have."""
    if len(given) > most:
        raise Refusal(
            "inputs",
            f"{field} has {len(given):,} entries; expected at most {most:,}. Send them in several requests",
        )


def num_tokens(outputs: Iterable[Any]) -> int:
    """Tokens that a call used."""
    return sum(len(output.prompt_token_ids) for output in outputs)


def models_by_name(models: Iterable[EdgeModel]) -> Models:
    """Models by name.

    Raises:
        ParamsError: two have the same.
    """
    by_name: dict[str, EdgeModel] = {}
    for model in models:
        name = model.info.name
        if name in by_name:
            raise ParamsError(
                f"two bundles are named {name!r}; expected names that differ. Export one of them with --name"
            )
        by_name[name] = model
    return Models(by_name)
