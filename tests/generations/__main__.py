"""Measure, print the table, and fail where a cell does not hold."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from tests.generations.cases import SHORT, all_cases
from tests.generations.measuring import MISSING, PYTHONS, YESTERDAY, Cell, measure, versions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.generations")
    parser.add_argument("--short", action="store_true", help="the cases that the tests run")
    parser.add_argument("--family", help="this one alone")
    asked = parser.parse_args()
    if not YESTERDAY.is_file():
        raise SystemExit(MISSING)
    cases = [case for case in (SHORT if asked.short else all_cases()) if asked.family in (None, case.family)]
    with tempfile.TemporaryDirectory() as folder:
        cells = measure(cases, Path(folder))
    print(table(cells))
    for cell in cells:
        if not cell.holds:
            shown = cell.trouble or f"{cell.max_abs_diff:.1e}, more than {cell.case.gate:g}"
            print(f"{cell.case.name}, saved {cell.saved}, exported {cell.exported}: {shown}")
    print(json.dumps(summary(cells)))
    raise SystemExit(0 if all(cell.holds for cell in cells) else 1)


def table(cells: list[Cell]) -> str:
    """One line per case, one column per way from a saving environment to an exporting one."""
    names = {name: versions(name) for name in PYTHONS}
    lines = [f"{name}: {installed}" for name, installed in names.items()]
    ways = list(dict.fromkeys((cell.saved, cell.exported) for cell in cells))
    lines += [
        "",
        f"| family | task | checkpoint | {' | '.join(f'{saved} → {exported}' for saved, exported in ways)} |",
        f"|---|---|---|{'---|' * len(ways)}",
    ]
    by_case = {cell.case.name: cell.case for cell in cells}
    found = {(cell.case.name, (cell.saved, cell.exported)): cell for cell in cells}
    for name, case in by_case.items():
        shown = " | ".join(_shown(found[name, way]) for way in ways)
        lines.append(f"| {case.family} | {case.task} | {case.source or 'transformers'} | {shown} |")
    return "\n".join(lines)


def _shown(cell: Cell) -> str:
    return cell.trouble.partition(":")[0] if cell.max_abs_diff is None else f"{cell.max_abs_diff:.1e}"


def summary(cells: list[Cell]) -> dict[str, object]:
    """The same for programs."""
    return {
        "versions": {name: versions(name) for name in PYTHONS},
        "cells": [
            {
                "family": cell.case.family,
                "task": cell.case.task,
                "checkpoint": cell.case.source or "transformers",
                "saved": cell.saved,
                "exported": cell.exported,
                "gate": cell.case.gate,
                "max_abs_diff": cell.max_abs_diff,
                "trouble": cell.trouble,
            }
            for cell in cells
        ],
        "hold": sum(cell.holds for cell in cells),
        "all": len(cells),
    }


if __name__ == "__main__":
    main()
