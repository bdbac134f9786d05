"""Saved by either generation, exported under either: the numbers of the library that saved it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.generations.cases import SHORT, Case, all_cases
from tests.generations.measuring import MISSING, PYTHONS, YESTERDAY, Cell, measure

CASE = Case("bert", "embed", "bert-st")


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> dict[tuple[str, str, str], Cell]:
    if not YESTERDAY.is_file():
        pytest.skip(MISSING)
    if Path(PYTHONS["today"]).absolute() == YESTERDAY:
        pytest.skip("this is yesterday's environment; today's runs both")
    measured = measure(SHORT, tmp_path_factory.mktemp("generations"))
    return {(cell.case.name, cell.saved, cell.exported): cell for cell in measured}


@pytest.mark.slow
@pytest.mark.parametrize("exported", PYTHONS)
@pytest.mark.parametrize("saved", PYTHONS)
@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_the_numbers_are_those_of_the_library_that_saved_it(cells, case, saved, exported) -> None:
    cell = cells[case.name, saved, exported]
    assert not cell.trouble
    assert cell.max_abs_diff <= case.gate


def test_each_case_stands_in_the_table_once() -> None:
    cases = all_cases()
    names = {case.name for case in cases}
    assert names >= {case.name for case in SHORT}
    assert len(names) == len(cases) > 80
    assert {case.task for case in cases} == {"embed", "token_embed", "classify", "token_classify", "score"}


def test_what_holds_is_a_small_difference_and_nothing_else() -> None:
    assert Cell(CASE, "today", "today", 1e-5).holds
    assert not Cell(CASE, "today", "today", 2e-5).holds
    assert not Cell(CASE, "today", "today", np.nan).holds
    assert not Cell(CASE, "today", "today", trouble="refused: no").holds
    assert Cell(CASE, "today", "yesterday", trouble="refused: unknown architecture", newer=True).holds
    assert not Cell(CASE, "today", "yesterday", 0.5, newer=True).holds
    assert not Cell(CASE, "today", "yesterday", trouble="KeyError: x", newer=True).holds
