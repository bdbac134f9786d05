"""A model put together: what is chosen before anything is opened, how large batches are, what the user sees of it."""

from __future__ import annotations

import msgspec
import pytest

from embedge import ParamsError
from embedge._engine.choosing import choose
from embedge._engine.engine import batch_limits, load
from embedge._engine.options import LoadOptions
from embedge._sessions.devices import Device
from embedge._sessions.on_devices import cuda_limits

MEMORY = 2**33


def chosen(folder, kind: str, **fields):
    """A choice for a kind of device, whether it is here or not."""
    options = LoadOptions(**fields)
    choice = choose(folder, msgspec.structs.replace(options, device="cpu", cuda_graphs=False))
    return msgspec.structs.replace(choice, devices=[Device(kind=kind)]), options


def test_a_choice_opens_nothing(tiny, monkeypatch) -> None:
    folder = tiny()
    (folder / "onnx" / "model.onnx").unlink()
    choice = choose(folder, LoadOptions(device="cpu", threads=3, max_model_len=9, max_batch_tokens=77))
    assert (choice.variant.name, choice.device.name, choice.on_cpu) == ("fp32", "cpu", True)
    assert (choice.threads, choice.max_seq_len, choice.tuning.batch_tokens) == (3, 9, 77)
    assert choose(folder, LoadOptions(device="cpu", profile="background", threads=3)).threads == 1


def test_batches_are_as_large_as_the_kind_of_device_allows(tiny) -> None:
    folder = tiny()
    assert batch_limits(*chosen(folder, "cpu")).tokens == 512
    assert batch_limits(*chosen(folder, "cpu", max_batch_tokens=99)).tokens == 99
    assert batch_limits(*chosen(folder, "openvino")).tokens == 2048
    assert batch_limits(*chosen(folder, "directml")).tokens == 4096
    assert batch_limits(*chosen(folder, "directml", max_batch_tokens=99)).tokens == 99
    choice, options = chosen(folder, "cuda", device_memory_bytes=MEMORY)
    expected = cuda_limits(choice.manifest.hidden_size, choice.variant.spec.score_heads, MEMORY)
    limits = batch_limits(choice, options)
    assert (limits.tokens, limits.square) == (expected.tokens, expected.square)
    most = expected.most_tokens
    at_most = chosen(folder, "cuda", device_memory_bytes=MEMORY, max_batch_tokens=most)
    assert batch_limits(*at_most).tokens == most
    with pytest.raises(ParamsError, match=f"max_batch_tokens={most + 1} is more .* at most {most} for this"):
        batch_limits(*chosen(folder, "cuda", device_memory_bytes=MEMORY, max_batch_tokens=most + 1))


def test_an_engine_holds_what_it_was_loaded_with(tiny) -> None:
    options = LoadOptions(device="cpu", threads=1)
    engine = load(tiny(), options)
    assert engine.options is options
    assert engine.manifest is engine.choice.bundle.manifest
    assert engine.model_config.served_model_name == engine.info.name == engine.manifest.name
    assert (engine.info.threads, engine.info.workers, engine.info.max_batch_tokens) == (1, 1, 512)
