"""Measure, print the table, and fail where a cell does not hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.generations import results
from tests.generations.cases import SHORT, all_cases
from tests.generations.measuring import EXPORTERS, LIGHT, MISSING, PYTHONS, YESTERDAY, measure, versions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.generations")
    parser.add_argument(
        "--short", action="store_true", help="the cases that the tests run, without the light form"
    )
    parser.add_argument("--family", action="append", help="this one alone; may be repeated")
    parser.add_argument(
        "--write", action="store_true", help="write the results of these families and both tables"
    )
    asked = parser.parse_args()
    exporters = PYTHONS if asked.short else EXPORTERS
    if not YESTERDAY.is_file() or ("light" in exporters and not LIGHT.is_file()):
        raise SystemExit(MISSING)
    if asked.short and asked.write:
        raise SystemExit("--short is not the whole of any family; omit it to write results")
    cases = [
        case
        for case in (SHORT if asked.short else all_cases())
        if not asked.family or case.family in asked.family
    ]
    if not cases:
        raise SystemExit(
            f"--family {asked.family} is not one of {sorted({case.family for case in all_cases()})}"
        )
    with tempfile.TemporaryDirectory() as folder:
        rows = results.rows_of(measure(cases, Path(folder), exporters))
    named = {name: versions(name) for name in exporters}
    if asked.write:
        results.write(named, rows)
    print(results.page(named, rows))
    wrong = [
        f"{row.family}, {row.task}, {row.checkpoint}, {way}: {cell}"
        for row in rows
        for way, cell in row.wrong().items()
    ]
    sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
