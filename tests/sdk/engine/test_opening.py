"""What of a load runs beside what."""

from __future__ import annotations

import threading

import pytest
from tests import bundles

from embedge import EdgeModel
from embedge._contents.graphs import PinnedGraph
from embedge._engine import opening
from embedge._sessions import loading
from embedge._sessions.devices import Device
from embedge._sessions.session import Session
from embedge.bundle import open_bundle
from embedge.errors import IntegrityError, SessionError


def test_tokenizers_begin_when_onnxruntime_has_let_go_of_the_interpreter(tiny, monkeypatch) -> None:
    bundle, seen, pinned = tiny(), [], []
    bundles.move_weights_outside(bundle)
    pin, open_tokenizer = opening._pin, opening._open_tokenizer

    def pins(*arguments, **named):
        pinned.append(pin(*arguments, **named))
        return pinned[-1]

    def opens(*arguments):
        seen.append(pinned[-1].opens.is_set())
        return open_tokenizer(*arguments)

    monkeypatch.setattr(opening, "_pin", pins)
    monkeypatch.setattr(opening, "_open_tokenizer", opens)
    with EdgeModel(bundle, device="cpu") as model:
        assert model.embed("one").numpy().shape[0] == 1
    assert seen == [True]


def test_onnxruntime_goes_over_the_names_before_it_opens_a_graph(tiny, monkeypatch) -> None:
    """Or the tokenizers would wait for a whole session: what an onnxruntime to come may do otherwise."""
    order = []

    class Event(threading.Event):
        def set(self):
            order.append("told")
            super().set()

    real = loading.import_onnxruntime().InferenceSession

    def opened(*arguments, **named):
        session = real(*arguments, **named)
        order.append("opened")
        return session

    monkeypatch.setattr(loading.import_onnxruntime(), "InferenceSession", opened)
    bundle = open_bundle(tiny())
    graph = PinnedGraph(bundle.pinned(bundle.manifest.variants["fp32"].file), {}, Event())
    for _ in range(2):
        Session(graph, device=Device(kind="cpu"), threads=1)
    assert order == ["told", "opened", "opened"]


@pytest.mark.parametrize("fault", [SessionError("no"), MemoryError(), KeyboardInterrupt()])
def test_a_load_that_fails_before_onnxruntime_is_asked_does_not_wait(tiny, monkeypatch, fault) -> None:
    def fails(*_, **__):
        raise fault

    monkeypatch.setattr(opening, "_open_all", fails)
    with pytest.raises(type(fault)):
        EdgeModel(tiny(), device="cpu")


def test_weights_that_are_cut_off_after_they_were_opened_are_refused_without_waiting(
    tiny, monkeypatch
) -> None:
    bundle, pin = tiny(), opening._pin
    bundles.move_weights_outside(bundle)
    data = bundle / "onnx" / "model.onnx_data"

    def pins(*arguments, **named):
        pinned = pin(*arguments, **named)
        data.write_bytes(data.read_bytes()[:-1])
        return pinned

    monkeypatch.setattr(opening, "_pin", pins)
    with pytest.raises(IntegrityError):
        EdgeModel(bundle, device="cpu")
