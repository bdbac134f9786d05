"""The soak in short: answers, threads and descriptors; how memory goes is seen in the long form only."""

from __future__ import annotations

import pytest
from tests.soak import figures, known, running
from tests.soak.watching import Held, median

SECONDS = 2.0


def test_everything_at_once_for_two_seconds(tmp_path) -> None:
    seen = running.soak(tmp_path, SECONDS)
    assert seen.faults == []
    for name in ("calls", "texts", "ended_early", "loads", "failed_loads"):
        assert seen.counts[name] > 0, name
    assert seen.end.descriptors == seen.start.descriptors
    # the last threads of the soak itself may be at their end
    assert seen.end.threads <= seen.start.threads + 1


@pytest.mark.parametrize("often", [running.load_often, running.fail_often])
def test_loads_keep_no_thread_and_no_descriptor(often, tmp_path) -> None:
    before, after = often(tmp_path, 10)
    assert (after.threads, after.descriptors) == (before.threads, before.descriptors)


def test_a_wrong_a_swapped_and_a_lost_answer_are_seen(tmp_path) -> None:
    made = known.make(tmp_path / "bundle", 1)
    assert made.wrong([0, 1, 2], made.rows[:3]) == (0, 0)
    assert made.wrong([0, 1, 2], made.rows[[0, 2, 1]]) == (2, 2)
    assert made.wrong([0], made.rows[:1] + 1e-4) == (1, 0)
    assert made.wrong([0], made.rows[:1] * float("nan")) == (1, 0)
    assert made.wrong([0, 1], made.rows[:1]) == (2, 0)


def test_a_part_of_the_figures_is_put_in_its_place(tmp_path) -> None:
    file = tmp_path / "figures.md"
    figures.write("soak", "one", file)
    figures.write("other", "two", file)
    figures.write("soak", r"three \1", file)
    assert file.read_text().endswith(
        "\n\n<!-- soak -->\nthree \\1\n<!-- /soak -->\n\n<!-- other -->\ntwo\n<!-- /other -->\n"
    )


def test_the_median_is_taken_of_each_number() -> None:
    samples = [Held(1.0, 9, 5, 7), Held(3.0, 2, 5, 8), Held(2.0, 3, 4, 9)]
    assert median(samples) == Held(2.0, 3, 5, 8)
