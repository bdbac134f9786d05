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


def test_every_family_and_task_is_among_the_committed_results() -> None:
    rows = results.read()[1]
    # what is installed here may lack classes that the committed results have
    wanted = {
        (case.family, task, case.source or "transformers") for case in all_cases() for task in case.tasks
    }
    assert {(row.family, row.task, row.checkpoint) for row in rows} >= wanted, "run make architectures"


def test_the_committed_results_are_right_and_shown() -> None:
    versions, rows = results.read()
    assert rows == sorted(rows, key=lambda row: row.key)
    for row in rows:
        assert set(row.cells) == set(NUMBERS), row.family
        assert row.gate in (1e-5, 1e-4)
        assert not row.wrong(), (row.family, row.task)
        # in all environments there is one whose bundle has the numbers
        assert row.worst() is not None, (row.family, row.task)
    assert results.PAGE.read_text("utf-8") == results.page(versions, rows)
    shown = results.SUMMARY.read_text("utf-8").partition(results.BEGIN)[2].partition(results.END)[0]
    assert shown.strip() == results.section(rows)


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
        ({"today → yesterday": "refused: read otherwise than transformers 5: x"}, ()),
        ({"today → today": "refused: read otherwise than transformers 4: x"}, ("today → today",)),
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
