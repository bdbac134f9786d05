"""Graphs of other makers run in a helper process: right answers, ends in time, and nothing left of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests import bundles

from embedge import BundleError, DeadlineError, DeviceMemoryError, EdgeModel, SessionError
from embedge._sessions.in_helper import HelperSession
from embedge.testing import assert_embeddings_close, tiny_bundle

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
ENDLESS = "bad"
"""The word that a text must hold for the graph's loop not to end."""


def loop_at_the_end(model) -> None:
    """Put the embedding through a loop: once for each text, and for ever where a token is that of ENDLESS."""
    from onnx import TensorProto, helper, numpy_helper

    from embedge._testing.tiny_model import VOCABULARY

    graph = model.graph
    for node in graph.node:
        node.output[:] = ["inner" if name == "sentence_embedding" else name for name in node.output]
        node.input[:] = ["inner" if name == "sentence_embedding" else name for name in node.input]

    def constant(name, value):
        graph.initializer.append(numpy_helper.from_array(value, name))

    constant("endless_id", np.array(VOCABULARY.index(ENDLESS), dtype=np.int64))
    constant("most", np.array([2**63 - 2], dtype=np.int64))
    constant("one", np.array([1], dtype=np.int64))
    constant("true", np.array(True))
    values = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        values,
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    graph.node.extend(
        [
            helper.make_node("Equal", ["input_ids", "endless_id"], ["is"]),
            helper.make_node("Cast", ["is"], ["is_number"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["is_number"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "most"], ["more"]),
            helper.make_node("Add", ["more", "one"], ["times"]),
            helper.make_node("Loop", ["times", "true", "inner"], ["sentence_embedding"], body=body),
        ]
    )


def tile_at_the_end(model) -> None:
    """Take 2 GiB for each text."""
    from onnx import helper, numpy_helper

    for node in model.graph.node:
        node.output[:] = ["inner" if name == "sentence_embedding" else name for name in node.output]
    repeats = np.array([1, 1 << 26], dtype=np.int64)
    model.graph.initializer.append(numpy_helper.from_array(repeats, "repeats"))
    model.graph.node.append(helper.make_node("Tile", ["inner", "repeats"], ["sentence_embedding"]))
    # what no export writes, so that it is another maker's
    model.graph.node.append(helper.make_node("RandomNormalLike", ["input_ids"], ["unused"], dtype=1))


def children() -> set[int]:
    """Of this process, zombies included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has just ended
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    folder = tiny_bundle(tmp_path_factory.mktemp("foreign"))
    bundles.edit_graph(folder, loop_at_the_end)
    return folder


@pytest.fixture
def others():
    """Children that were there before; the test must leave no more."""
    gc.collect()
    before = children()
    yield before
    gc.collect()
    assert children() <= before


@pytest.fixture
def model(foreign, others):
    with EdgeModel(foreign, device="cpu", threads=2, trust="any", truncate_prompt_tokens=-1) as loaded:
        yield loaded


def test_another_makers_graph_needs_trust(foreign) -> None:
    with pytest.raises(BundleError, match="has a loop whose rounds hand something on.*trust='any'"):
        EdgeModel(foreign, device="cpu")


def test_the_answers_are_those_of_the_graph(model, others, tmp_path) -> None:
    assert len(children() - others) == 1
    texts = ["the river is cold " * (1 + i % 9) for i in range(200)]
    with EdgeModel(tiny_bundle(tmp_path), device="cpu", truncate_prompt_tokens=-1) as own:
        assert_embeddings_close(model.embed(texts).numpy(), own.embed(texts).numpy(), atol=1e-6)
        assert_embeddings_close(model.embed(texts[0]).numpy(), own.embed(texts[0]).numpy(), atol=1e-6)
        tokens = zip(
            *(m.encode(texts[:20], pooling_task="token_embed").numpy() for m in (model, own)), strict=True
        )
        for mine, expected in tokens:
            assert_embeddings_close(mine, expected, atol=1e-6)
    assert len(children() - others) == 1


def test_our_own_graphs_have_no_helper(others, tmp_path) -> None:
    with EdgeModel(tiny_bundle(tmp_path), device="cpu", trust="any") as model:
        model.embed("the river")
        assert children() <= others


@pytest.mark.parametrize(
    "prompts", [ENDLESS, ["the river", f"a {ENDLESS} river"], ["the river", ENDLESS] * 300]
)
def test_an_endless_loop_ends_by_the_deadline_and_the_model_goes_on(model, prompts) -> None:
    with pytest.raises(DeadlineError):
        model.embed(prompts, deadline_s=0.3)
    assert model.embed("the river").numpy().shape == (1, 8)


def test_a_cancelled_call_ends_the_loop(model, others) -> None:
    async def given_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.aembed(ENDLESS), 0.2)

    asyncio.run(given_up())
    model.embed("the river")
    assert len(children() - others) == 1


@pytest.fixture
def session(foreign):
    """Makes a session of the bundle's graph that has so many seconds for each step."""
    with EdgeModel(foreign, device="cpu", trust="any") as model:
        graph = model._open().engine.pinned.graphs["onnx/model.onnx"]
        device = model._open().engine.choice.device
    return lambda most_s: HelperSession(graph, device=device, threads=1, most_s=most_s)


def test_without_a_deadline_there_is_a_limit(session, others) -> None:
    from embedge._testing.tiny_model import VOCABULARY

    made = session(3.0)
    ids = np.array([[2, VOCABULARY.index(ENDLESS), 3]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    with pytest.raises(
        SessionError, match=r"model.onnx was not done after 3 s with a batch of 1 texts of up to 3 tok"
    ):
        made.run("sentence_embedding", feeds)
    with pytest.raises(SessionError, match="model.onnx was not done after 0.01 s while it is loaded"):
        session(0.01)


def test_memory_without_end_is_a_sentence(tmp_path, others) -> None:
    folder = tiny_bundle(tmp_path)
    bundles.edit_graph(folder, tile_at_the_end)
    with EdgeModel(folder, device="cpu", trust="any") as model:
        for _ in range(2):
            with pytest.raises(
                DeviceMemoryError, match=r"model.onnx takes more memory with a batch of 1 texts.*MiB"
            ):
                model.embed("the river")


def test_a_helper_that_dies_is_a_sentence_and_the_next_call_has_another(model, others) -> None:
    (helper,) = children() - others
    os.kill(helper, signal.SIGSTOP)
    import threading

    threading.Timer(0.1, os.kill, (helper, signal.SIGKILL)).start()
    with pytest.raises(SessionError, match=r"the helper process of model.onnx ended with a batch.*status -9"):
        model.embed("the river")
    assert model.embed("the river").numpy().shape == (1, 8)
    assert len(children() - others) == 1


def test_what_onnxruntime_refuses_is_said(tmp_path, others) -> None:
    folder = tiny_bundle(tmp_path)
    bundles.edit_graph(
        folder,
        lambda model: model.graph.node.append(
            onnx.helper.make_node("Gelu", ["input_ids"], ["unused"], domain="com.stranger")
        ),
    )
    with pytest.raises(SessionError, match=r"in its helper process: onnxruntime .* cannot load model.onnx"):
        EdgeModel(folder, device="cpu", trust="any")


_PARENT = """
import sys, threading, time
from embedge import CallCancelledError, EdgeModel
model = EdgeModel(sys.argv[1], device="cpu", trust="any")
print(model._open().engine.sessions._small._helper._running._process.pid, flush=True)
def work():
    try:
        model.embed("bad")
    except CallCancelledError:
        pass
threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
{end}
"""


@pytest.mark.parametrize("end", ["", "time.sleep(60)", "import os; os._exit(0)", "model.close(0)"])
def test_the_helper_ends_with_its_parent(foreign, end) -> None:
    command = [sys.executable, "-c", _PARENT.format(end=end), str(foreign)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        helper = int(parent.stdout.readline())
        assert is_alive(helper)
        if "sleep(60)" in end:
            time.sleep(0.4)
            parent.kill()
        said = parent.communicate(timeout=60)[1]
    limit = time.monotonic() + 20
    while is_alive(helper) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not is_alive(helper)
    assert said == ""


_FORKS = """
import os, sys
from embedge import EdgeModel
model = EdgeModel(sys.argv[1], device="cpu", trust="any")
before = model.embed("the river").numpy()
if (child := os.fork()) == 0:
    assert abs(model.embed("the river").numpy() - before).max() < 1e-6
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert abs(model.embed("the river").numpy() - before).max() < 1e-6
"""


def test_a_forked_child_has_a_helper_of_its_own(foreign) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS, str(foreign)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
