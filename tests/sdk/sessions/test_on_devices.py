"""Sessions on devices: dealing to several, going on without one that failed, batches that fit. Most are faked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.sdk.sessions.fake_devices import TWO, FakeSession
from tests.sdk.sessions.graphs import graph_of
from tests.sdk.threads_left import threads_left

from embedge import DeviceMemoryError, SessionError
from embedge._batches.forward import Forward
from embedge._sessions.devices import Device
from embedge._sessions.loading import _placement
from embedge._sessions.on_devices import DeviceSessions, cuda_limits
from embedge._sessions.onnxruntime import in_words
from embedge._sessions.session import Session
from embedge._text.tokens import Encoded
from embedge.manifest import TokenizerSpec
from embedge.testing import tiny_bundle


def forward(devices, **fail_after: int) -> tuple[Forward, DeviceSessions]:
    failures = {name.replace("_", ":"): runs for name, runs in fail_after.items()}
    sessions = DeviceSessions(lambda device: FakeSession(device, failures), devices=devices)
    return Forward(sessions, TokenizerSpec(pad_token_id=0), ("input_ids", "attention_mask"), 32), sessions


ENCODED = [Encoded(token_ids=list(range(1, n % 13 + 2))) for n in range(200)]


EXPECTED = [sum(e.token_ids) for e in ENCODED]


def answers(made: Forward) -> list[float]:
    rows = np.zeros(len(ENCODED))
    for positions, batch in made.pooled("pooled", ENCODED):
        rows[positions] = batch[:, 0]
    return rows.tolist()


def test_batches_are_dealt_to_all_devices() -> None:
    made, sessions = forward(TWO)
    assert answers(made) == EXPECTED
    assert all(session.runs > 0 for session in sessions._sessions)
    assert sessions.lost_devices == []


def test_a_failing_device_is_named_and_its_batches_are_done_by_the_other(caplog) -> None:
    made, sessions = forward(TWO, cuda_1=3)
    assert answers(made) == EXPECTED
    assert sessions.lost_devices == ["cuda:1"]
    assert "device cuda:1 failed and is left out: cuda:1 is out of memory" in caplog.text
    assert answers(made) == EXPECTED
    assert {session.device.name for session in sessions.lanes([1] * 9)} == {"cuda:0"}


@pytest.mark.parametrize("devices", [TWO, TWO[:1]])
def test_nothing_is_returned_when_every_device_fails(devices) -> None:
    made, _ = forward(devices, cuda_0=2, cuda_1=2)
    with pytest.raises(SessionError, match="out of memory"):
        answers(made)
    assert not threads_left()


class SmallSession(FakeSession):
    """Fits only so many padded tokens."""

    room = 12

    def run(self, output, feeds):
        batch_size, seq_len = feeds["input_ids"].shape
        if feeds["input_ids"].size > self.room:
            raise DeviceMemoryError("does not fit", device="cuda:0", batch_size=batch_size, seq_len=seq_len)
        return super().run(output, feeds)


def small(devices, retry: bool) -> tuple[Forward, DeviceSessions]:
    sessions = DeviceSessions(
        lambda device: SmallSession(device, {}), devices=devices, retry_smaller_batches=retry
    )
    return Forward(sessions, TokenizerSpec(pad_token_id=0), ("input_ids", "attention_mask"), 64), sessions


@pytest.mark.parametrize("devices", [TWO, TWO[:1]])
def test_a_batch_that_does_not_fit_is_named_and_loses_no_device(devices) -> None:
    made, sessions = small(devices, retry=False)
    with pytest.raises(DeviceMemoryError) as caught:
        answers(made)
    # which of the batches in flight failed last is chance
    assert (caught.value.batch_size, caught.value.seq_len) in {(64 // size, size) for size in range(10, 14)}
    assert sessions.lost_devices == []
    few = [Encoded(token_ids=[1, 2, 3])]
    assert [rows.tolist() for _, rows in made.pooled("pooled", few)] == [[[6.0]]]


def test_smaller_batches_are_tried_when_asked(caplog, monkeypatch) -> None:
    made, sessions = small(TWO, retry=True)
    monkeypatch.setattr(SmallSession, "room", 13)
    assert answers(made) == EXPECTED
    assert sessions.lost_devices == []
    assert "it is run as two halves" in caplog.text
    monkeypatch.undo()
    with pytest.raises(DeviceMemoryError):
        answers(made)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Gather node. "
            "Name:'/e/Gather' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* "
            "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Available memory of "
            "869 is smaller than requested bytes of 7679",
            "Non-zero status code returned while running Gather node. Name:'/e/Gather' Status Message: "
            "Available memory of 869 is smaller than requested bytes of 7679",
        ),
        (
            "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, "
            "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = "
            "cudaError; bool THRW = true] CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=/x.cc ; line=4",
            "CUDA failure 2: out of memory",
        ),
        ("", "RuntimeError"),
    ],
)
def test_places_in_cpp_sources_are_left_out_of_messages(message, words) -> None:
    assert in_words(RuntimeError(message)) == words


def test_the_places_of_nodes_are_counted(tmp_path) -> None:
    session = Session(graph_of(tiny_bundle(tmp_path)), device=Device(kind="cpu"), threads=1)
    assert session.placement == {}
    nodes = [SimpleNamespace(ep_name=name, get_nodes=lambda n=n: [None] * n) for name, n in
             (("CPUExecutionProvider", 2), ("CUDAExecutionProvider", 7), ("CUDAExecutionProvider", 1))]  # fmt: skip
    fake = SimpleNamespace(get_provider_graph_assignment_info=lambda: nodes)
    assert _placement(fake) == {"CUDAExecutionProvider": 8, "CPUExecutionProvider": 2}
    assert _placement(object()) == {}


@pytest.mark.parametrize(
    ("hidden_size", "score_heads", "memory_bytes", "tokens"),
    [
        (768, 12, 80 * 2**30, 65536),
        (768, 12, None, 65536),
        (4096, 32, 80 * 2**30, 54613),
        (8192, 64, 80 * 2**30, 27306),
        (768, 12, 8 * 2**30, 29127),
        (4096, 32, 24 * 2**30, 16384),
        (768, None, 1, 1),
    ],
)
def test_batches_on_cuda_fill_the_card_and_fit_into_it(
    hidden_size, score_heads, memory_bytes, tokens
) -> None:
    limits = cuda_limits(hidden_size, score_heads, memory_bytes)
    assert limits.tokens == tokens <= limits.most_tokens
    widest = limits.tokens * 8 * hidden_size
    assert widest <= 2**31
    if score_heads is None:
        assert limits.square is None
        return
    scores = 3 * score_heads * limits.square
    assert scores <= 2**31
    if memory_bytes is not None:
        assert 6 * 4 * max(widest, scores) <= memory_bytes / 2


def test_long_texts_on_an_accelerator_are_cut_by_the_square_of_their_length() -> None:
    def forward_with(max_square):
        sessions = DeviceSessions(lambda device: FakeSession(device, {}), devices=TWO)
        tokenizer = TokenizerSpec(pad_token_id=0)
        made = Forward(sessions, tokenizer, ("input_ids",), 4096, max_square=max_square)
        answered = [
            (len(positions), mask.shape[1])
            for positions, _, mask in made.batches(
                "pooled", [Encoded(token_ids=[1] * n) for n in [100] * 40 + [2] * 40]
            )
        ]
        return sorted(answered)

    assert forward_with(None) == [(40, 2), (40, 100)]
    assert max(rows * length**2 for rows, length in forward_with(100_000)) <= 100_000
    assert sum(rows for rows, _ in forward_with(100_000)) == 80
