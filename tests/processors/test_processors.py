"""The replay on an emulated processor, with this machine's own interpreter in place of an emulated one."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest
from tests.processors.__main__ import PROCESSORS, Cell, replayed, section
from tests.processors.products import eight_bits, one_rounding

from embedge.manifest import load_manifest, load_probes
from embedge.testing import tiny_bundle


def test_answers_and_their_difference_from_the_probes(tmp_path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    found = replayed([sys.executable], bundle, {"fp32": None}, tmp_path)
    line, answers, _ = found["fp32"]
    expected = np.concatenate([probe.expected for probe in load_probes(bundle).probes])
    assert line["max_abs_diff"] <= line["tolerance"]
    assert line["max_abs_diff"] == pytest.approx(np.abs(answers - expected).max(), abs=1e-7)


def test_what_fails_says_why(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"status 1:(.|\n)*variant='int8' is not in bundle 'tiny-embed'"):
        replayed([sys.executable], tiny_bundle(tmp_path / "bundle"), {"int8": None}, tmp_path)


def cell(variant: str, exact: bool, **figures: float) -> Cell:
    held = {"max_abs_diff": 0.1, "tolerance": 0.2, "from_here": 0.02, "rounding": 0.05, "steps_off": 0.02}
    return Cell(processor=PROCESSORS[0], variant=variant, exact_int8=exact, seconds=1, **held | figures)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (cell("uint8", False), "holds"),
        (cell("int8", True), "holds"),
        (cell("int8", False, steps_off=9e4), "seen to overflow; uint8 is used"),
        (cell("int8", False), "**fails**"),
        (cell("int8", True, steps_off=9e4), "**fails**"),
        (cell("uint8", False, from_here=0.2), "**fails**"),
        (cell("fp32", False, max_abs_diff=1.0), "**fails**"),
    ],
)
def test_what_holds_is_used_and_nothing_else(found, outcome) -> None:
    assert section([found]).splitlines()[-1].split("|")[8].strip() == outcome


def test_8_bit_nodes_are_held_against_numpy(minilm_bundle, tmp_path) -> None:
    bundle, token_ids = minilm_bundle, [101, 2023, 2003, 102]
    path = bundle / load_manifest(bundle).variants["int8"].file
    nodes = eight_bits(path, token_ids)
    # products, their rows, and zero points of rows after GELU
    assert len(nodes.expected) == 36 + 24 + 6
    _, _, steps_off = replayed([sys.executable], bundle, {"int8": nodes}, tmp_path)["int8"]
    assert steps_off < 0.1
    # a sum that is off by one, as one that overflows is by thousands
    wrong = msgspec.structs.replace(
        nodes, expected={name: each + nodes.steps[name] for name, each in nodes.expected.items()}
    )
    assert wrong.steps_off(nodes.expected) == pytest.approx(1, abs=0.05)
    assert 0 < one_rounding(path, [(token_ids, "sentence_embedding")]) < 1
