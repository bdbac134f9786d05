"""Generated checkpoints are equal or refused; and the witness of an export finds one that was misread."""

from __future__ import annotations

import re

import msgspec
import pytest
from tests.generated.options import OPTIONS
from tests.generated.plan import Plan, draw
from tests.generated.trial import attempt, quick
from tests.installed import TRANSFORMERS_5

from embedge.errors import VerificationError
from embedge_export import pipeline
from embedge_export.source.modules import Pooling
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

pytestmark = [pytest.mark.filterwarnings("ignore")]
SEEDS = (*range(50), 7089)
"""The last one has a prompt that fills the limit, and of no token left to pool the library makes NaN."""


@pytest.fixture(autouse=True)
def few_documents():
    with quick():
        yield


@pytest.mark.parametrize("seed", SEEDS)
def test_a_checkpoint_is_equal_or_refused(seed, tmp_path):
    outcome = attempt(draw(seed), tmp_path)
    assert outcome.is_right, f"{outcome.verdict}: {outcome.plan}: {outcome.words}"
    if outcome.verdict == "refused":
        # one sentence or two: what is wrong and what was expected, or what to do
        assert re.search(r"; expected |\. [A-Z]", outcome.words), outcome.words


@pytest.mark.skipif(not TRANSFORMERS_5, reason="read as transformers 5 does")
@pytest.mark.parametrize("seed", [7029, 7084, 7096, 20254, *range(7000, 7004)])
def test_without_torch_a_checkpoint_is_equal_or_refused(seed, tmp_path):
    """The first three attend in both directions, as is_causal false states.

    The next has a logit near 0, of terms that are not: torch, numpy and the graph are each 9e-6 from float64.
    """
    outcome = attempt(draw(seed), tmp_path, reference="numpy")
    assert outcome.is_right, f"{outcome.verdict}: {outcome.plan}: {outcome.words}"


def test_the_same_seed_draws_the_same_checkpoint():
    assert draw(7) == draw(7)
    assert len({str(draw(seed)) for seed in range(200)}) > 150


def test_every_option_is_drawn():
    drawn = {name for seed in range(1000) for name in draw(seed, everything=True).options}
    assert drawn == {name for name, option in OPTIONS.items() if option.share}


def test_an_option_that_is_switched_off_changes_nothing_else():
    plan = next(plan for plan in map(draw, SEEDS) if plan.options)
    everything = draw(plan.seed, everything=True)
    assert set(plan.options) <= set(everything.options)


def test_the_witness_finds_a_checkpoint_that_was_misread(tmp_path, monkeypatch):
    """The reference shares our reading and agrees; the library reads for itself."""
    from tests.generated.checkpoints import write

    checkpoint = write(Plan(seed=1, kind="embedder", network="bert"), tmp_path / "checkpoint")

    def misread(spec):
        source = open_checkpoint(spec)
        what = msgspec.structs.replace(source.checkpoint.what, rows=(Pooling(modes=("CLS",)),))
        misread = msgspec.structs.replace(source.checkpoint, what=what)
        return msgspec.structs.replace(source, checkpoint=misread)

    monkeypatch.setattr(pipeline, "open_checkpoint", misread)
    spec = ExportSpec(model=str(checkpoint), output=tmp_path / "out")
    with pytest.raises(
        VerificationError,
        match=r"embed, answer 0 differs from that of sentence-transformers's SentenceTransformer",
    ):
        pipeline.export(spec)
    assert not (tmp_path / "out").exists()
    pipeline.export(msgspec.structs.replace(spec, witness=False))
