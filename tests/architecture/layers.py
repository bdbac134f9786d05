"""Which room may import which: two tables, and what they say of a module's imports."""

from __future__ import annotations

import ast
from pathlib import Path
from types import MappingProxyType

SDK = (
    ("__main__",),
    ("cli",),
    ("_serve", "integrations"),
    ("corpus",),
    ("_corpus",),
    ("_peers", "measure", "verify"),
    ("__init__",),
    ("model",),
    ("_calls",),
    ("_engine",),
    ("testing",),
    ("_testing",),
    ("_rows",),
    ("_batches",),
    ("runtime",),
    ("_sessions",),
    ("_text",),
    ("archive",),
    ("_passing",),
    ("bundle",),
    ("store", "plugins"),
    ("_placing",),
    ("manifest", "outputs", "params"),
    ("_contents",),
    ("_helper",),
    ("_machine", "_workers"),
    ("_lifetime",),
    ("_cancelling", "_results"),
    (
        "_locking",
        "_json",
        "_log",
        "_plain",
        "_pyinstaller",
        "_replacing",
        "_sequence",
        "_starting",
        "errors",
        "types",
        "_version",
    ),
)
"""Rooms of the runtime from the command line down: one may import those of a lower line, and its own modules."""

EXPORT = (
    ("cli",),
    ("flags",),
    ("flag_values",),
    ("dry_run", "pipeline", "reverify"),
    ("in_towers", "wrap"),
    ("report",),
    ("verify",),
    ("verify.forward",),
    ("variants",),
    ("graph", "write"),
    ("graph.built",),
    ("source",),
    ("families",),
    ("spec", "stage_lines"),
    (
        "__init__",
        "activations",
        "interrupts",
        "leftovers",
        "memory",
        "precisions",
        "progress",
        "texts",
        "threads",
    ),
)
"""Rooms of the exporter, likewise."""

DOOR = (
    "",
    "bundle",
    "errors",
    "manifest",
    "measure",
    "outputs",
    "params",
    "plugins",
    "runtime",
    "store",
    "testing",
    "types",
    "verify",
)
"""Modules of the runtime that the exporter and the benchmarks may use: those that users may."""

ONLY_IN = MappingProxyType(
    {
        "onnxruntime": ("_sessions", "_peers"),
        "tokenizers": ("_text", "_peers", "testing"),
        "cryptography": ("_contents",),
        "embedge_export": ("cli",),
        "starlette": ("_serve", "cli"),
        "uvicorn": ("_serve", "cli"),
    }
)
"""Rooms of the runtime that import what costs."""

DATA_ONLY = ("families", "texts", "precisions", "spec")
"""Rooms of the exporter that import no library but the runtime's own; the others do it inside functions."""

_LIGHT = ("msgspec", "numpy", "embedge", "embedge_export")


def room_of(module: str, rooms: tuple[tuple[str, ...], ...]) -> str:
    """The room of a dotted name without its package; the most specific one."""
    known = [room for line in rooms for room in line if f"{module}.".startswith(f"{room}.")]
    if not known:
        raise LookupError(f"{module} is in no room; add it to a line of tests/architecture/layers.py")
    return max(known, key=len)


def imports(source: str, *, inside_functions: bool = True, for_types: bool = True) -> set[str]:
    """Full names of what a module's source imports, names taken from a module included."""
    tree = ast.parse(source)
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        is_typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if (is_function and not inside_functions) or (is_typing and not for_types):
            left_out |= set(ast.walk(node))
    names = set()
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def problems(package: str, module: str, source: str, modules: set[str]) -> list[str]:
    """What a module imports and must not, in words.

    Args:
        package: "embedge" or "embedge_export".
        module: dotted name without the package; "__init__" for the package itself.
        source: its text.
        modules: every module of both packages, by full name.
    """
    rooms = SDK if package == "embedge" else EXPORT
    room = room_of(module, rooms)
    level = {name: index for index, line in enumerate(rooms) for name in line}
    found = []
    for name in sorted(imports(source)):
        root, _, rest = _module(name, modules).partition(".")
        if root == package:
            other = room_of(rest or "__init__", rooms)
            if other != room and level[other] <= level[room]:
                found.append(f"{room} imports {other}, which does not stand below it")
        elif root == "embedge" and rest not in DOOR:
            found.append(f"{room} imports embedge.{rest}, which is not public")
    return found + (_costs(room, source) if package == "embedge" else _heavy(room, source))


def _costs(room: str, source: str) -> list[str]:
    return [
        f"{room} imports {root}; only {', '.join(ONLY_IN[root])} may"
        for root in sorted({name.split(".")[0] for name in imports(source)} & set(ONLY_IN))
        if room not in ONLY_IN[root]
    ]


def _heavy(room: str, source: str) -> list[str]:
    import sys

    everywhere = room in DATA_ONLY
    names = imports(source, inside_functions=everywhere, for_types=everywhere)
    return [
        f"{room} imports {root}, {'which is for rooms that work with it' if everywhere else 'outside a function'}"
        for root in sorted({name.split(".")[0] for name in names})
        if root not in sys.stdlib_module_names and root not in _LIGHT
    ]


def _module(name: str, modules: set[str]) -> str:
    """The module that an imported name is or lies in."""
    return name if name in modules else name.rpartition(".")[0] or name


def modules_of(folder: Path) -> dict[str, Path]:
    """Files of a package by their dotted names without it; a room's __init__ goes by the room's name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found
