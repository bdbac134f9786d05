"""Saved by either generation, exported under either: the numbers of the library that saved it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.generations import results
from tests.generations.cases import CODE, SHORT, Case, all_cases
from tests.generations.measuring import MISSING, PYTHONS, YESTERDAY, Cell, difference, measure

CASE = Case("bert", "embed", "bert-st")
NUMBERS = {
    f"{saved} → {exported}": 1e-7
    for saved in ("yesterday", "today")
    for exported in ("yesterday", "today", "light")
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[tuple[str, str, str, str], Cell]:
    if not YESTERDAY.is_file():
        pytest.skip(MISSING)
    if Path(PYTHONS["today"]).absolute() == YESTERDAY:
        pytest.skip("this is yesterday's environment; today's runs both")
    measured = measure(SHORT, tmp_path_factory.mktemp("generations"))
    return {(cell.case.name, cell.task, cell.saved, cell.exported): cell for cell in measured}


@pytest.mark.slow
@pytest.mark.parametrize("exported", PYTHONS)
@pytest.mark.parametrize("saved", PYTHONS)
@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_the_numbers_are_those_of_the_library_that_saved_it(cells, case, saved, exported) -> None:
    for task in case.tasks:
        cell = cells[case.name, task, saved, exported]
        assert not cell.trouble
        assert cell.max_abs_diff <= case.gate


def test_each_case_stands_in_the_table_once() -> None:
    cases = all_cases()
    names = {case.name for case in cases}
    assert names >= {case.name for case in SHORT}
    assert len(names) == len(cases) > 80
    assert {task for case in cases for task in case.tasks} == {*results.TASKS}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, ()),
        ({"today → light": 2e-5}, ("today → light",)),
        ({"today → light": np.nan}, ("today → light",)),
        ({"today → today": "ValueError: x"}, ("today → today",)),
        ({"today → today": "refused: no"}, ("today → today",)),
        ({"today → light": "refused: no"}, ("today → light",)),
        ({"today → light": "refused: pip install 'embedge[export-torch]'"}, ()),
        (
            {
                "yesterday → yesterday": "absent: no such class",
                "yesterday → today": "absent: no such class",
                "yesterday → light": "absent: no such class",
                "today → yesterday": "refused: transformers cannot read it",
            },
            (),
        ),
    ],
)
def test_a_cell_is_a_small_difference_or_has_a_reason(changes, wrong) -> None:
    row = results.Row("bert", "embed", "transformers", 1e-5, NUMBERS | changes)
    assert tuple(row.wrong()) == wrong


def test_a_difference_is_of_all_answers() -> None:
    one, two = np.zeros(2), np.array([0.0, 3.0])
    assert difference([one, two], [one, two + 1]) == (1.0, "")
    assert difference([one], [np.zeros(3)]) == (None, "shape (2,) for (3,)")
    assert difference([], []) == (None, "no answers")
    with pytest.raises(ValueError, match="zip"):
        difference([one], [one, two])


def test_what_was_measured_becomes_rows_of_the_tables() -> None:
    other = Case("zebra", "score")
    measured = [
        Cell(CASE, "embed", "today", "today", 1.23e-7),
        Cell(CASE, "embed", "yesterday", "yesterday", 2e-6),
        Cell(CASE, "embed", "today", "light", 3e-6),
        Cell(other, "score", "today", "today", 1e-7),
        Cell(other, "score", "yesterday", "yesterday", trouble="absent: no such class"),
        Cell(other, "score", "today", "light", trouble="refused: it needs torch"),
        Cell(Case(CODE, "embed", CODE), "embed", "today", "today", 0.0),
        Cell(Case(CODE, "embed", CODE), "embed", "yesterday", "yesterday", 0.0),
    ]
    rows = results.rows_of(measured)
    assert rows[0].cells["today → today"] == 1.2e-7
    table = results.summary(rows).splitlines()
    assert table[2] == "| bert | 3.0e-06 | – | – | – | – | – | 4, 5 | all |"
    assert table[3] == "| zebra | – | – | – | – | 1.0e-07 | – | 5 | – |"
    assert table[4].startswith(f"| {CODE} | 0.0e+00 |")
