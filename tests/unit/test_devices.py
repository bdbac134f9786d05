"""Devices: words, lists, dealing to several and going on without one that failed. No GPU needed: sessions are faked."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from embedge import ParamsError, SessionError
from embedge._forward import Forward, Sessions
from embedge._session import Device, find_devices
from embedge._tokens import Encoded
from embedge.manifest import TokenizerSpec

TWO = [Device(kind="cuda", index=0), Device(kind="cuda", index=1)]


class FakeSession:
    """Answers with the sum of each row's token ids; one device may fail after some runs."""

    def __init__(self, device: Device, threads: int, fail_after: dict[str, int]) -> None:
        self.device, self.threads, self.runs = device, threads, 0
        self._fail_after = fail_after.get(device.name)
        self._lock = threading.Lock()

    def run(self, output, feeds):
        with self._lock:
            self.runs += 1
            if self._fail_after is not None and self.runs > self._fail_after:
                raise SessionError(f"{self.device.name} is out of memory")
        return (feeds["input_ids"] * feeds["attention_mask"]).sum(1, keepdims=True).astype(np.float32)


def forward(devices, **fail_after: int) -> tuple[Forward, Sessions]:
    failures = {name.replace("_", ":"): runs for name, runs in fail_after.items()}
    sessions = Sessions(
        lambda device, threads: FakeSession(device, threads, failures),
        devices=devices,
        threads=2,
        profile="latency",
    )
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
    assert all(session.runs > 0 for session in sessions._devices)
    assert sessions.lost_devices == []


def test_a_failing_device_is_named_and_its_batches_are_done_by_the_other(caplog) -> None:
    made, sessions = forward(TWO, cuda_1=3)
    assert answers(made) == EXPECTED
    assert sessions.lost_devices == ["cuda:1"]
    assert "device cuda:1 failed and is left out: cuda:1 is out of memory" in caplog.text
    assert answers(made) == EXPECTED
    assert {session.device.name for session in sessions.lanes(9)} == {"cuda:0"}


@pytest.mark.parametrize("devices", [TWO, TWO[:1]])
def test_nothing_is_returned_when_every_device_fails(devices) -> None:
    made, _ = forward(devices, cuda_0=2, cuda_1=2)
    with pytest.raises(SessionError, match="out of memory"):
        answers(made)
    assert not [t for t in threading.enumerate() if t.name.startswith("embedge")]


@pytest.mark.parametrize("device", [[], ["cpu", "cpu"], ["cpu", "cpu:0"], "cuda:x", "", 3, [3]])
def test_wrong_devices(device) -> None:
    with pytest.raises(ParamsError, match="device="):
        find_devices(device)


def test_auto_says_why() -> None:
    (found,) = find_devices("auto")
    assert found.reason.startswith("auto: ")


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_numbers(minilm_bundle) -> None:
    import onnxruntime

    from embedge import EdgeModel, ProviderUnavailableError

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("no CUDA here")
    with EdgeModel(minilm_bundle, device="cuda") as gpu, EdgeModel(minilm_bundle, device="cpu") as cpu:
        texts = [f"text number {i} " * (i % 20 + 1) for i in range(200)]
        assert np.abs(gpu.embed(texts).numpy() - cpu.embed(texts).numpy()).max() < 1e-3
        assert gpu.info.execution_provider == "CUDAExecutionProvider"
    with pytest.raises(ProviderUnavailableError):
        EdgeModel(minilm_bundle, device="cuda:77")
