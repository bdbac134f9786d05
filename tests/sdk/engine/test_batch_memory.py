"""What batches take of the memory by a variant's manifest, where it is a limit and where it is stated."""

from __future__ import annotations

import re

import msgspec
import onnxruntime
import pytest

from embedge import EdgeModel
from embedge._contents.graph import read_graph
from embedge._engine.batch_memory import batch_memory, score_heads
from embedge.bundle import open_bundle
from embedge.cli.main import main
from embedge.errors import PromptError
from embedge.manifest import load_manifest


@pytest.fixture
def windowed(tiny):
    """A bundle whose attention in windows holds many numbers for each token, and the same without."""
    variant = load_manifest(tiny()).variants["fp32"]
    changed = msgspec.structs.replace(variant, window_numbers=3_000_000)
    return tiny(changes={"variants": {"fp32": changed}}), tiny()


def test_the_numbers_of_windows_count(windowed) -> None:
    needed = []
    for folder in windowed:
        bundle = open_bundle(folder)
        spec = bundle.manifest.variants["fp32"]
        facts = read_graph(bundle.read(spec.file), spec.file)
        needed.append(batch_memory(spec, facts, limit_bytes=0).needed_bytes(2, 10))
    assert needed[0] - needed[1] == pytest.approx(1.5 * 4 * 3_000_000 * 20, abs=2)


def test_what_is_stated_is_what_a_limit_counts(windowed, capsys) -> None:
    folder, _ = windowed
    assert main(["inspect", str(folder)]) == 0
    stated = float(re.findall(r"at most ([\d.]+) MB", capsys.readouterr().out)[0])
    assert stated > 100
    with (
        EdgeModel(folder, device="cpu", max_memory_mb=15) as model,
        pytest.raises(PromptError, match="memory"),
    ):
        model.embed("good food")


def test_heads_of_causal_attention_count_where_onnxruntime_holds_their_scores(tiny, monkeypatch) -> None:
    spec = msgspec.structs.replace(load_manifest(tiny()).variants["fp32"], score_heads=None, causal_heads=4)
    for version, heads in (("1.27.0", 4), ("1.28.0", None), ("1.32.1", None), ("2.0.0", None)):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        assert score_heads(spec) == heads, version
    assert score_heads(msgspec.structs.replace(spec, score_heads=2)) == 2
