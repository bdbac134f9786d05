"""The committed results: docs/results/architectures.json, the page beside it, and the section of docs/architectures.md.

A cell is the largest difference to the library that saved the checkpoint, or in one line why there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.generations.cases import CODE
from tests.generations.measuring import PYTHONS, ROOT, Cell

FOLDER = ROOT / "docs" / "results"
FILE, PAGE = FOLDER / "architectures.json", FOLDER / "architectures.md"
SUMMARY = ROOT / "docs" / "architectures.md"
BEGIN, END = "<!-- architectures:begin -->", "<!-- architectures:end -->"
TASKS = ("embed", "token_embed", "classify", "token_classify", "score", "rerank")
EXTRA = "embedge[export-torch]"
OTHERWISE = "otherwise than transformers"
"""In the words of a refusal: one generation reads the file otherwise than the one that saved it."""
INTRODUCTION = """\
Largest difference of any component between a bundle and the library that saved its checkpoint (sentence-transformers,
transformers), asked the same texts and pairs through its public door. Each checkpoint is saved under transformers 4.57
with sentence-transformers 5 and under transformers 5 with sentence-transformers 6, and exported under both and without
torch; a cell is the worst of these. A dash means that there is no such class. The checkpoints are tiny and random, with
weights large enough to matter; an export of yours makes the same comparison on its own weights. `transformers` names
the generations that have the architecture, `without torch` the tasks that the light exporter builds.
[Every way by itself](results/architectures.md); `make architectures` measures all of it again and writes both.
"""


@dataclass(frozen=True)
class Row:
    """One task of one checkpoint.

    Attributes:
        family: model_type, or what stands in for one.
        task: what was asked.
        checkpoint: a recipe, or "transformers".
        gate: largest difference that is right.
        cells: for each way from a saving environment to an exporting one, the difference, or why there is none.
    """

    family: str
    task: str
    checkpoint: str
    gate: float
    cells: dict[str, float | str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, str]:
        """By which rows are in order."""
        return self.family, TASKS.index(self.task), self.checkpoint

    def wrong(self) -> dict[str, float | str]:
        """Cells that have neither the library's numbers nor a reason: no such class there, or torch is needed."""
        return {way: cell for way, cell in self.cells.items() if not self._holds(way, cell)}

    def _holds(self, way: str, cell: float | str) -> bool:
        if isinstance(cell, float):
            return cell <= self.gate
        absent = {
            name for name in PYTHONS if str(self.cells.get(f"{name} → {name}", "")).startswith("absent: ")
        }
        if absent & {*way.split(" → ")}:
            return cell.startswith(("absent: ", "refused: "))
        if cell.startswith("refused: ") and len({*way.split(" → ")}) == 2 and OTHERWISE in cell:
            return True
        return way.endswith("light") and cell.startswith("refused: ") and EXTRA in cell

    def worst(self) -> float | None:
        """Of all ways that have a number."""
        return max((cell for cell in self.cells.values() if isinstance(cell, float)), default=None)


def rows_of(cells: Iterable[Cell]) -> list[Row]:
    """What was measured, as it is kept."""
    rows: dict[tuple[str, str], Row] = {}
    for cell in cells:
        case = cell.case
        row = Row(case.family, cell.task, case.source or "transformers", case.gate)
        kept = rows.setdefault((case.name, cell.task), row)
        shown = cell.trouble if cell.max_abs_diff is None else float(f"{cell.max_abs_diff:.1e}")
        kept.cells[f"{cell.saved} → {cell.exported}"] = shown
    return sorted(rows.values(), key=lambda row: row.key)


def read() -> tuple[dict[str, str], list[Row]]:
    """Versions by environment, and the rows."""
    kept: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return kept["versions"], [Row(**row) for row in kept["rows"]]


def write(versions: dict[str, str], measured: list[Row]) -> None:
    """Keep what was measured in place of what was kept of the same families, and write both tables."""
    families = {row.family for row in measured}
    kept = [row for row in read()[1] if row.family not in families] if FILE.is_file() else []
    rows = sorted((*kept, *measured), key=lambda row: row.key)
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(vars(row), ensure_ascii=False) for row in rows)
    named = json.dumps(versions, ensure_ascii=False)
    FILE.write_text(f'{{"versions": {named},\n"rows": [\n{lines}\n]}}\n', "utf-8")
    PAGE.write_text(page(versions, rows), "utf-8")
    before, rest = SUMMARY.read_text("utf-8").split(BEGIN)
    SUMMARY.write_text(f"{before}{BEGIN}\n{section(rows)}\n{END}{rest.split(END)[1]}", "utf-8")


def section(rows: list[Row]) -> str:
    """What stands between the markers of docs/architectures.md."""
    return f"{INTRODUCTION}\n{summary(rows)}"


def summary(rows: list[Row]) -> str:
    """One line per family: the largest difference of any way, for each task."""
    lines = [
        f"| model_type | {' | '.join(TASKS)} | transformers | without torch |",
        f"|---|{'---|' * (len(TASKS) + 2)}",
    ]
    for family in [*sorted({row.family for row in rows} - {CODE}), CODE]:
        own = [row for row in rows if row.family == family]
        shown = [_worst([row for row in own if row.task == task]) for task in TASKS]
        lines.append(f"| {family} | {' | '.join(shown)} | {_generations(own)} | {_light(own)} |")
    return "\n".join(lines)


def _worst(rows: list[Row]) -> str:
    found = [worst for row in rows if (worst := row.worst()) is not None]
    return f"{max(found):.1e}" if found else "–"


def _generations(rows: list[Row]) -> str:
    saved = {name for name in PYTHONS for row in rows if isinstance(row.cells[f"{name} → {name}"], float)}
    return {("today",): "5", ("today", "yesterday"): "4, 5"}.get(tuple(sorted(saved)), "4")


def _light(rows: list[Row]) -> str:
    by_task = {
        task: any(
            isinstance(cell, float)
            for row in rows
            if row.task == task
            for way, cell in row.cells.items()
            if way.endswith("light")
        )
        for task in TASKS
        if any(row.task == task for row in rows)
    }
    if all(by_task.values()):
        return "all"
    return ", ".join(task for task, built in by_task.items() if built) or "–"


def page(versions: dict[str, str], rows: list[Row]) -> str:
    """Every row with every way from and to the environments of `versions`, and each reason in words below."""
    names = {"yesterday": "4", "today": "5", "light": "light"}
    ways = [f"{saved} → {exported}" for saved in PYTHONS for exported in versions]
    heads = [" → ".join(names[name] for name in way.split(" → ")) for way in ways]
    reasons = list(
        dict.fromkeys(cell for row in rows for cell in row.cells.values() if isinstance(cell, str))
    )
    lines = [
        "# Architectures: saved by one generation, exported by another",
        "",
        "The largest difference of any component between a bundle and the library that saved its checkpoint,",
        "asked the same texts and pairs through its public door; `make architectures` writes this page.",
        "A column names the environment that saved, then the one that exported:",
        "",
        *(f"- {names[name]}: {words}" for name, words in versions.items()),
        "",
        f"| model_type | task | checkpoint | gate | {' | '.join(heads)} |",
        f"|---|---|---|---|{'---|' * len(ways)}",
    ]
    for row in rows:
        cells = [row.cells[way] for way in ways]
        shown = [
            f"{cell:.1e}" if isinstance(cell, float) else f"[{reasons.index(cell) + 1}]" for cell in cells
        ]
        lines.append(f"| {row.family} | {row.task} | {row.checkpoint} | {row.gate:g} | {' | '.join(shown)} |")
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)), ""]
    return "\n".join(lines)
