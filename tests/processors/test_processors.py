"""The replay on an emulated processor, with this machine's own interpreter in place of an emulated one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.processors.__main__ import PROCESSORS, Cell, replayed, section

from embedge.manifest import load_probes
from embedge.testing import tiny_bundle


def test_answers_and_their_difference_from_the_probes(tmp_path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    found = replayed([sys.executable], bundle, ["fp32"], tmp_path)
    line, answers = found["fp32"]
    expected = np.concatenate([probe.expected for probe in load_probes(bundle).probes])
    assert line["passed"]
    assert line["max_abs_diff"] == pytest.approx(np.abs(answers - expected).max(), abs=1e-7)


def test_what_fails_says_why(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"status 1:(.|\n)*variant='int8' is not in bundle 'tiny-embed'"):
        replayed([sys.executable], tiny_bundle(tmp_path / "bundle"), ["int8"], tmp_path)


def test_only_what_is_used_has_to_hold() -> None:
    without, arm = PROCESSORS[0], PROCESSORS[-1]

    def cell(processor, variant, from_here, diff=0.1) -> Cell:
        return Cell(
            processor=processor,
            variant=variant,
            max_abs_diff=diff,
            tolerance=0.2,
            from_here=from_here,
            seconds=1,
        )

    cells = [
        cell(without, "int8", 0.1),
        cell(arm, "int8", 0.1),
        cell(without, "uint8", 1e-6),
        cell(arm, "fp32", 0, 1.0),
    ]
    assert [(each.is_used, each.holds) for each in cells] == [
        (False, False),
        (True, False),
        (True, True),
        (True, False),
    ]
    rows = section(cells).splitlines()[-4:]
    outcomes = [row.split("|")[6].strip() for row in rows]
    assert outcomes == ["not used there", "**fails**", "holds", "**fails**"]
