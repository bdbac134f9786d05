"""Router modules: one tower of a model that embeds queries and documents apart, put in the place of its Router."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from embedge.errors import ExportError, expected_one_of
from embedge_export.source.fields import account_for, some_object, some_text, some_texts
from embedge_export.source.repository import inside, read_json

_ROUTERS = ("Asym", "Router")
"""Names that the class has had."""
_FILES = ("router_config.json", "config.json")
_MODALITY = "text"
_ALONE = "Export each alone, into a bundle of its own: --tower {tower}."
_WITH_OWN_PROMPT = ("query", "document")
"""Towers of encode_query and encode_document, which put the prompt of the same name before texts."""


class Towers(msgspec.Struct, frozen=True, kw_only=True):
    """The towers of a model.

    Attributes:
        default: that of texts whose tower is not named.
        others: all the others, in order.
    """

    default: str
    others: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the default one first."""
        return self.default, *self.others


def find_towers(folder: Path) -> Towers | None:
    """Towers of a checkpoint whose modules.json has a Router, or None.

    Raises:
        ExportError: no tower is for texts whose tower is not named, or the towers of two Routers differ.
    """
    listed = _listed(folder)
    found = [_towers_of(folder, path) for kind, path in listed if kind.endswith(_ROUTERS)]
    if not found:
        return None
    if any(each != found[0] for each in found):
        names = " and ".join(", ".join(each.names) for each in found)
        raise ExportError(
            f"modules.json has Routers with different towers ({names}), "
            f"which one bundle cannot hold; expected the same. {_ALONE.format(tower=found[0].default)}"
        )
    return found[0]


def _towers_of(folder: Path, path: str) -> Towers:
    file, stated = _read(inside(folder, path))
    structure = some_object(stated.get("structure"), "structure", file)
    default = some_object(stated.get("parameters"), "parameters", file).get("default_route")
    if _MODALITY in structure:  # which the library finds by the modality of texts
        default = _MODALITY
    if default not in structure:
        raise ExportError(
            f"{_joined(path, file)} has default_route {default!r}, so that no tower is for texts whose tower is not "
            f"named, which one bundle has to know; {expected_one_of(structure, 'it states no towers')}. "
            f"{_ALONE.format(tower=next(iter(structure), 'query'))}"
        )
    return Towers(default=default, others=tuple(name for name in structure if name != default))


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Class and folder of each module; none where modules.json is not there or cannot be understood."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        return [(str(module["type"]), str(module["path"])) for module in modules]
    except (OSError, ValueError, KeyError, TypeError):  # which the readers will tell about
        return []


def without_routers(
    folder: Path, stated: list[tuple[str, str]], tower: str | None, ignore_keys: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    """Put a tower's modules in the place of every Router.

    Args:
        folder: the checkpoint.
        stated: class and folder of each module.
        tower: name of the route, "query" or "document" in most models; None leaves all as it is.
        ignore_keys: keys that the caller wants to be passed over.

    Raises:
        ExportError: there is no Router, or as `_read_tower`.
    """
    if tower is None:
        return stated
    if not any(kind.endswith(_ROUTERS) for kind, _ in stated):
        raise ExportError(
            f"--tower {tower!r} does not apply to a modules.json without a Router; expected a model with one. "
            "Leave out --tower."
        )
    return [
        each
        for kind, path in stated
        for each in (
            _read_tower(folder, path, tower, ignore_keys) if kind.endswith(_ROUTERS) else [(kind, path)]
        )
    ]


def _read_tower(folder: Path, path: str, tower: str, ignore_keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read the modules that a Router runs for a tower's texts.

    Args:
        folder: the checkpoint.
        path: the Router's folder within it.
        tower: name of the route.
        ignore_keys: keys that the caller wants to be passed over.

    Returns:
        Class and folder of each module, as modules.json would state them.

    Raises:
        ExportError: there is no such tower, its modules are not stated, or routes go by more than the task.
    """
    file, stated = _read(inside(folder, path))
    file = _joined(path, file)
    account_for(stated, file, known=("parameters", "structure", "types"), ignored={}, ignore_keys=ignore_keys)
    parameters = some_object(stated.get("parameters"), "parameters", file)
    account_for(
        parameters,
        f"parameters in {file}",
        known=("route_mappings",),
        ignored={
            "allow_empty_key": "how default_route is chosen",
            "default_route": "of texts whose tower is not named",
        },
        ignore_keys=ignore_keys,
    )
    if parameters.get("route_mappings"):
        raise ExportError(
            f"{file} states route_mappings, so that towers are chosen by more than the task, which is not exported; "
            "expected none. Save the model with a Router that has one route for each task."
        )
    structure = some_object(stated.get("structure"), "structure", file)
    if tower not in structure:
        raise ExportError(
            f"--tower {tower!r} is not among the towers of {file}; {expected_one_of(structure, 'it states none')}"
        )
    types = some_object(stated.get("types"), "types", file)
    names = some_texts(structure[tower], f"structure.{tower}", file)
    unknown = next((name for name in names if name not in types), None)
    if unknown is not None or not names:
        what = "no modules" if unknown is None else f"a module {unknown!r} whose type it does not state"
        raise ExportError(
            f"the tower {tower!r} of {file} has {what}; expected modules with their types. "
            "Restore the file from the model's origin."
        )
    return [(some_text(types[name], f"types.{name}", file), _joined(path, name)) for name in names]


def tower_names(folder: Path) -> list[str]:
    """Towers that a Router's folder states."""
    structure = _read(folder)[1].get("structure")
    return list(structure) if isinstance(structure, dict) else []


def default_prompt(tower: str | None, prompts: dict[str, str], stated: str | None) -> str | None:
    """Name of the prompt that the library puts before texts where a call names none.

    Every model has the prompts of the two towers' names, if only empty ones, so no other is taken in their place.

    Args:
        tower: as in `without_routers`.
        prompts: texts by name.
        stated: default_prompt_name.
    """
    if tower not in _WITH_OWN_PROMPT:
        return stated
    return tower if prompts.get(tower) else None


def _joined(path: str, name: str) -> str:
    """A path in the checkpoint; the first module of a model may lie in the checkpoint's own folder."""
    return PurePosixPath(path, name).as_posix()


def _read(folder: Path) -> tuple[str, dict[str, Any]]:
    read = ((file, read_json(folder, file)) for file in _FILES)
    return next(((file, stated) for file, stated in read if stated), (_FILES[0], {}))
