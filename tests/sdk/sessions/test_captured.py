"""Single queries at fixed places: on the CPU, whose sessions capture nothing but bind the same way."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest
from tests.sdk.sessions.fake_devices import TWO, FakeSession
from tests.sdk.sessions.graphs import graph_of

from embedge import EdgeModel, ParamsError, SessionError
from embedge._engine import choosing as _choosing
from embedge._engine import opening as _opening
from embedge._engine.variant import VariantChoice
from embedge._sessions.captured import LENGTHS, CapturedQueries, QueryLane
from embedge._sessions.devices import Device
from embedge._sessions.loading import Loaded
from embedge._sessions.on_devices import DeviceLane, DeviceSessions
from embedge._sessions.session import Session
from embedge.errors import DeviceMemoryError
from embedge.manifest import load_manifest

CPU = Device(kind="cpu")


def opened(folder) -> Session:
    return Session(graph_of(folder), device=CPU, threads=1)


def captured(folder, max_seq_len: int = 32) -> CapturedQueries:
    inputs = load_manifest(folder).graph.inputs
    return CapturedQueries(opened(folder), inputs=inputs, pad_token_id=0, max_seq_len=max_seq_len)


def feeds(rows: int, seq_len: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seq_len).integers(4, 30, (rows, seq_len))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize("kind", ["embed", "classify", "sparse"])
def test_short_texts_have_the_sessions_numbers_whatever_came_before(tiny, kind) -> None:
    folder = tiny(kind)
    made, session = captured(folder), opened(folder)
    assert made.lengths == (8, 16, 24, 32)
    graph = load_manifest(folder).graph
    for seq_len in [31, 1, 8, 9, 17, 3, 24, 32, 2]:
        fed = {name: array for name, array in feeds(1, seq_len).items() if name in graph.inputs}
        rows = made.run(graph.pooled, fed)
        np.testing.assert_allclose(rows, session.run(graph.pooled, fed), atol=1e-6)


def test_what_is_not_captured_is_left_to_the_session(tiny) -> None:
    folder = tiny()
    made, graph = captured(folder, max_seq_len=20), load_manifest(folder).graph
    assert made.lengths == (8, 16)
    assert made.run(graph.pooled, feeds(2, 5)) is None
    assert made.run(graph.pooled, feeds(1, 17)) is None
    assert made.run(graph.pooled, feeds(1, LENGTHS[-1] + 1)) is None
    assert made.run(graph.hidden, feeds(1, 5)) is None
    with made._lock:
        assert made.run(graph.pooled, feeds(1, 5)) is None
    lane = QueryLane(opened(folder), False, made)
    assert lane.run(graph.pooled, feeds(2, 5)).shape == (2, load_manifest(folder).embedding_size)
    np.testing.assert_array_equal(lane.run(graph.pooled, feeds(1, 5)), made.run(graph.pooled, feeds(1, 5)))


def test_a_model_without_rows_is_refused(tiny) -> None:
    with pytest.raises(ParamsError, match="one vector or row of scores per text"):
        captured(tiny(pooling=("ALL",)))


@pytest.mark.parametrize(
    ("message", "error"), [("CUDA error", SessionError), ("out of memory", DeviceMemoryError)]
)
def test_failures_are_in_our_words(tiny, message, error) -> None:
    session = opened(tiny())

    class Broken:
        def run_with_iobinding(self, *_):
            raise RuntimeError(message)

    session._loaded = Loaded(Broken(), {})
    with pytest.raises(error, match=f"(?s)a batch of 1 texts of up to 8 tokens.*{message}"):
        session.run_bound(None, None, (1, 8))


def test_only_a_call_of_one_batch_meets_captured_graphs_and_only_while_their_device_lives(tiny) -> None:
    made = captured(tiny())
    sessions = DeviceSessions(
        lambda device: FakeSession(device, {}), devices=TWO, query_lane=partial(QueryLane, captured=made)
    )
    first, second = sessions.lanes([8])
    assert isinstance(first, QueryLane)
    assert (first.device.name, second.device.name) == ("cuda:0", "cuda:1")
    assert {type(lane) for lane in sessions.lanes([8] * 5)} == {DeviceLane}
    assert sessions.survives(first, SessionError("lost"))
    assert [type(lane) for lane in sessions.lanes([8])] == [DeviceLane]


def test_a_model_answers_single_texts_from_them_and_all_else_without(tiny, monkeypatch) -> None:
    variant = load_manifest(tiny()).variants["fp32"]
    folder = tiny(changes={"variants": {"fp32": msgspec.structs.replace(variant, query_file=variant.file)}})
    opened_to_capture = []

    def session(graph, *, device, threads, capture=False, **_):
        opened_to_capture.append(capture)
        return Session(graph, device=CPU, threads=threads)

    monkeypatch.setattr(_choosing, "find_devices", lambda *_: TWO[:1])
    monkeypatch.setattr(_opening, "Session", session)
    texts = ["the river is cold", "food", "the city is good"]
    with EdgeModel(folder, device="cuda", cuda_graphs=True) as model:
        replayed = []
        run = CapturedQueries.run
        monkeypatch.setattr(
            CapturedQueries, "run", lambda *arguments: replayed.append(run(*arguments)) or replayed[-1]
        )
        rows = np.concatenate([model.embed(text).numpy() for text in texts])
        assert [each is not None for each in replayed] == [True] * 3
        np.testing.assert_allclose(rows, model.embed(texts).numpy(), atol=1e-6)
        assert replayed[3] is None
    assert opened_to_capture == [True, False]


def test_what_cuda_graphs_need_is_said(tiny) -> None:
    folder = tiny()
    with pytest.raises(ParamsError, match="needs a GPU; the device is 'cpu' .* Leave cuda_graphs out, or"):
        EdgeModel(folder, device="cpu", cuda_graphs=True)
    spec = load_manifest(folder).variants["fp32"]
    choice = VariantChoice(name="fp32", spec=spec, reason="")
    with pytest.raises(ParamsError, match="'fp32' has none; expected a bundle .* --optimize-for cuda"):
        _choosing.check_cuda_graphs(choice, TWO[0])
    with_file = msgspec.structs.replace(spec, query_file=spec.file)
    assert with_file.files == spec.files == (spec.file,)
    _choosing.check_cuda_graphs(msgspec.structs.replace(choice, spec=with_file), TWO[0])
