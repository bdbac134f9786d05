"""Prompts that arrive piece by piece, and models on accelerators that use them."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.sdk.threads_left import threads_left

from embedge import EdgeModel, PoolingParams, PromptError, SessionError
from embedge._engine import opening as _opening
from embedge._engine import tokenising as _tokenising
from embedge._sessions import devices as _devices
from embedge._sessions.devices import Device
from embedge._sessions.session import Session
from embedge._text import ahead as _ahead
from embedge._text.ahead import ArrivingRows
from embedge._text.tokens import Encoded, EncodedRows
from embedge.testing import assert_embeddings_close, tiny_bundle


def made(count: int) -> tuple[ArrivingRows, list[int]]:
    prompts = [[i % 50 + 1] * (i % 7 + 1) for i in range(count)]
    pieces = []

    def encode(positions):
        pieces.append(len(positions))
        return EncodedRows.of([Encoded(token_ids=prompts[i]) for i in positions])

    return ArrivingRows([len(p) for p in prompts], encode), pieces


def test_pieces_come_longest_first_and_every_prompt_once() -> None:
    rows, pieces = made(12_000)
    seen, lengths = [], []
    for positions, piece in rows.arrivals():
        seen += positions.tolist()
        lengths += piece.num_tokens.tolist()
    assert pieces == [1024, 2048, 2048, 2048, 2048, 2048, 736]
    assert sorted(seen) == list(range(12_000))
    assert lengths == sorted(lengths, reverse=True)
    assert [p.tolist() for p, _ in rows.arrivals()] == [p.tolist() for p, _ in rows.arrivals()]
    assert pieces == [1024, 2048, 2048, 2048, 2048, 2048, 736]
    assert len(rows) == 12_000
    assert rows[8].token_ids == [9, 9]
    assert [e.token_ids for e in rows[7:9]] == [[8], [9, 9]]


def test_a_prompt_asked_for_early_makes_the_pieces_up_to_it() -> None:
    rows, pieces = made(3000)
    assert rows[7].token_ids == [8]
    assert sum(pieces) == 3000
    assert sum(len(piece) for _, piece in rows.arrivals()) == 3000
    assert sum(pieces) == 3000


def test_a_piece_has_no_more_than_so_many_characters(monkeypatch) -> None:
    monkeypatch.setattr(_ahead, "_PIECE_SIZE", 100)
    pieces = []

    def encode(positions):
        pieces.append(len(positions))
        return EncodedRows.of([Encoded(token_ids=[1])] * len(positions))

    rows = ArrivingRows([10] * 15 + [300], encode)
    assert [positions.tolist() for positions, _ in rows.arrivals()] == [[15], [*range(10)], [*range(10, 15)]]
    assert sorted(pieces) == [1, 5, 10]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_pieces_are_tokenised_ahead_until_the_consumer_leaves(ahead) -> None:
    begun, go_on = [], threading.Event()

    def encode(positions):
        begun.append(threading.current_thread().name)
        go_on.wait(5)
        return EncodedRows.of([Encoded(token_ids=[1])] * len(positions))

    rows = ArrivingRows([1] * 20_000, encode, ahead)
    arrivals = rows.arrivals()
    go_on.set()
    positions, piece = next(arrivals)
    assert len(positions) == len(piece) == 1024
    assert len(begun) == 1 + ahead
    assert set(begun) == ({"embedge-ahead"} if ahead else {"MainThread"})
    arrivals.close()
    assert threads_left() == []
    assert sum(len(piece) for _, piece in rows.arrivals()) == 20_000


def test_a_piece_that_fails_ends_the_others() -> None:
    def encode(positions):
        if 5000 in positions:
            raise PromptError("prompt 5000", index=5000)
        return EncodedRows.of([Encoded(token_ids=[1])] * len(positions))

    arrivals = ArrivingRows([1] * 20_000, encode).arrivals()
    with pytest.raises(PromptError, match="prompt 5000"):
        list(arrivals)
    assert threads_left() == []


@pytest.fixture
def two_gpus(monkeypatch):
    """Two devices that are the CPU in truth; `failing` names those whose runs raise."""
    failing: set[str] = set()

    class OnTheCpu(Session):
        def __init__(self, graph, *, device, **options) -> None:
            super().__init__(graph, device=Device(kind="cpu"), **options)
            self._device = device

        def run(self, output, feeds):
            if self.device.name in failing:
                raise SessionError(f"{self.device.name} fell off the bus")
            return super().run(output, feeds)

    monkeypatch.setattr(_opening, "Session", OnTheCpu)
    monkeypatch.setattr(_devices, "cuda_problem", lambda: None)
    monkeypatch.setattr(_devices, "count_gpus", lambda: 2)
    return failing


@pytest.fixture
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    words = ["the", "river", "is", "cold", "good", "city"]
    return [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(6000)]


def test_many_prompts_on_two_devices_give_the_cpus_rows(two_gpus, texts, tmp_path, monkeypatch) -> None:
    bundle = tiny_bundle(tmp_path)
    with EdgeModel(bundle, device="cpu") as cpu:
        expected = cpu.embed(texts)
        tokens = cpu.encode(texts[:50], pooling_task="token_embed").numpy()
    with EdgeModel(bundle, device=["cuda:0", "cuda:1"], max_batch_tokens=400) as model:
        assert model.info.device == "cuda:0,cuda:1"
        actual = model.embed(texts)
        assert_embeddings_close(actual.numpy(), expected.numpy())
        for i in (0, 17, 5999):
            assert actual[i].prompt_token_ids == expected[i].prompt_token_ids
        monkeypatch.setattr(_tokenising, "FROM_PROMPTS", 50)
        rows = model.encode(texts[:50], pooling_task="token_embed")
        assert all(np.abs(a - e).max() < 1e-5 for a, e in zip(rows.numpy(), tokens, strict=True))
        assert rows[3].outputs.offsets is not None


def test_a_device_that_fails_is_left_out(two_gpus, texts, tmp_path) -> None:
    bundle = tiny_bundle(tmp_path)
    with EdgeModel(bundle, device="cpu") as cpu:
        expected = cpu.embed(texts).numpy()
    with EdgeModel(bundle, device=["cuda:0", "cuda:1"], max_batch_tokens=400) as model:
        two_gpus.add("cuda:0")
        one = model.embed(texts[0]).numpy()
        assert_embeddings_close(one, expected[:1])
        assert model.lost_devices == ("cuda:0",)
        assert_embeddings_close(model.embed(texts).numpy(), expected)
        two_gpus.add("cuda:1")
        with pytest.raises(SessionError, match="cuda:1 fell off the bus"):
            model.embed(texts)
        two_gpus.clear()
        assert_embeddings_close(model.embed(texts[:1]).numpy(), expected[:1])
    assert threads_left() == []


def test_a_bad_prompt_is_named_by_its_position_in_the_call(two_gpus, texts, tmp_path) -> None:
    bundle = tiny_bundle(tmp_path)
    texts[4321] = texts[1234] = "river " * 40
    with EdgeModel(bundle, device="cuda") as model:
        with pytest.raises(PromptError, match="prompt 1234 ") as caught:
            model.embed(texts)
        assert caught.value.index == 1234
        cut = model.embed(texts, pooling_params=PoolingParams(truncate_prompt_tokens=-1))
        assert cut[1234].num_truncated_tokens == 10
        assert len(cut) == 6000
    assert threads_left() == []


def test_several_bad_pieces_name_the_first_prompt_of_the_call(two_gpus, texts, tmp_path) -> None:
    texts[5007], texts[7] = "river " * 40, "a " * 33  # of which the first looks longer
    with EdgeModel(tiny_bundle(tmp_path), device="cuda") as model:
        with pytest.raises(PromptError, match="prompt 7 has") as caught:
            model.embed(texts)
    assert caught.value.index == 7
    assert threads_left() == []


def test_one_thread_tokenises_without_others(two_gpus, texts, tmp_path) -> None:
    with EdgeModel(tiny_bundle(tmp_path), device="cuda", threads=1) as model:
        rows = model.embed(texts).numpy()
        assert_embeddings_close(rows[:50], model.embed(texts[:50]).numpy())
        many = _tokenising.encode_prompts(model._open().engine, [*texts, [1, 2]], [None] * 6001)
        assert many[6000].token_ids == [1, 2]


def test_sizes_of_every_form_of_prompt() -> None:
    assert _tokenising._likely_sizes(["abcd", [1, 2], ("ab", "c")]) == [4, 8, 3]
    assert _tokenising._likely_sizes(["abcd", ""]) == [4, 0]
    assert _ahead.FROM_PROMPTS > _ahead._FIRST_PIECE
