"""Exports that are killed; the short form of `python -m tests.export.write.kills`."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from tests.export.write import kills

from embedge.bundle import open_bundle
from embedge.testing import tiny_bundle

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def test_the_bundle_is_found_whole_half_or_lost(tmp_path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    known = {0: open_bundle(folder).manifest.fingerprint}
    assert kills.found(folder, known) == 0
    assert kills.found(folder, {0: "another"}) == "half"
    (folder / "tokenizer.json").write_text("{}")
    assert kills.found(folder, known) == "half"
    assert kills.found(tmp_path / "none", known) == "lost"


@pytest.mark.parametrize("exchanging", [True, False])
def test_every_call(exchanging) -> None:
    seen = kills.every_call(exchanging=exchanging)
    assert seen["old"] + seen["new"] == seen["calls"] > 10
    assert not seen["lost"]
    assert not seen["left"]
    words = kills.section(Counter(old=3, new=2, half=0), {exchanging: seen}, 5, 1)
    assert "| at a random moment | 5 | 3 | 2 | 0 | 0 | 0 |" in words
