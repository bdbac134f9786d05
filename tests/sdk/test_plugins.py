"""Registered poolings: what they get, what they may return, and packages that offer them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import EdgeModel, PluginError, PoolingParams, TaskNotSupportedError, register_pooling
from embedge.plugins import find_pooling

PACKAGE = Path(__file__).parents[1] / "plugin_package"
CODE = """
import sys, numpy as np, embedge
with embedge.EdgeModel(sys.argv[1], pooling_plugin="span-mean") as model:
    params = embedge.PoolingParams(task="plugin", extra_kwargs={"start": 1, "end": 3})
    ours = model.encode(["food city water", "light"], params).numpy()
    raw = embedge.PoolingParams(normalize=False)
    tokens = model.encode(["food city water", "light"], raw, pooling_task="token_embed").numpy()
assert [a.shape for a in ours] == [(32,), (32,)]
assert np.allclose(ours[0], tokens[0][1:3].mean(0), atol=1e-5)
print("ok")
"""


def test_a_plugin_gets_token_ids_hidden_states_and_its_kwargs(tiny_embedder) -> None:
    seen = []

    @register_pooling("test-seen")
    def pooling(prompts):
        seen.extend(prompts)
        return [p.hidden_states.sum(0) for p in prompts]

    with EdgeModel(tiny_embedder, pooling_plugin="test-seen") as model:
        params = [PoolingParams(task="plugin", extra_kwargs={"i": i}) for i in range(2)]
        outputs = model.encode(["food city", "how"], params)
        assert len(outputs.numpy()) == 2
    by_kwargs = {p.extra_kwargs["i"]: p for p in seen}
    for i in range(2):
        assert by_kwargs[i].token_ids.tolist() == outputs[i].prompt_token_ids
        assert by_kwargs[i].hidden_states.shape == (len(outputs[i].prompt_token_ids), 32)
        assert_allclose(outputs[i].outputs.data, by_kwargs[i].hidden_states.sum(0))


def boom(prompts):
    raise KeyError("start")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (boom, "raised KeyError: 'start'"),
        (lambda prompts: [np.zeros(3)], "returned 1 for 2 prompts"),
        (lambda prompts: None, "returned NoneType for 2 prompts"),
        (lambda prompts: [[1.0], [2.0]], "returned list; expected a numeric numpy array"),
        (lambda prompts: [np.float32(1)] * 2, "expected a numeric numpy array"),
        (lambda prompts: [np.zeros(())] * 2, r"returned float64 \(\)"),
        (lambda prompts: [np.array(["a"])] * 2, "returned <U1"),
    ],
)
def test_wrong_plugins(tiny_embedder, plugin, message) -> None:
    name = f"test-wrong-{message}"
    register_pooling(name)(plugin)
    with EdgeModel(tiny_embedder, pooling_plugin=name) as model, pytest.raises(PluginError, match=message):
        model.encode(["food", "city"], PoolingParams(task="plugin"))


def test_registration(tiny_embedder) -> None:
    for name in (boom, "", 3, None):  # the first is a decorator without its parentheses
        with pytest.raises(PluginError, match=r'expected a text, as in @register_pooling\("my-pooling"\)'):
            register_pooling(name)
    register_pooling("test-twice")(boom)
    register_pooling("test-twice")(boom)
    with pytest.raises(PluginError, match="registered already"):
        register_pooling("test-twice")(lambda prompts: [])
    with pytest.raises(PluginError, match="expected a callable"):
        register_pooling("test-three")(3)
    with pytest.raises(
        PluginError, match=r"'test-none' is not registered \(there: .*test-twice.*register_pooling"
    ):
        find_pooling("test-none")
    with EdgeModel(tiny_embedder) as model, pytest.raises(PluginError, match="names no pooling plugin"):
        model.encode("food", PoolingParams(task="plugin"))


def test_a_bundle_names_its_plugin_and_a_missing_one_is_named(load) -> None:
    with pytest.raises(PluginError, match=r"'test-absent' is not registered .*install the package"):
        load(bundle={"changes": {"plugin": "test-absent"}})

    @register_pooling("test-named")
    def first(prompts):
        return [p.hidden_states[0] for p in prompts]

    @register_pooling("test-chosen")
    def last(prompts):
        return [p.hidden_states[-1] for p in prompts]

    named = load(bundle={"changes": {"plugin": "test-named", "tasks": ("plugin",)}})
    (rows,) = load().encode("the river", PoolingParams(normalize=False), pooling_task="token_embed").numpy()
    assert_allclose(named.encode("the river").numpy()[0], rows[0], atol=1e-6)
    with pytest.raises(TaskNotSupportedError, match="cannot embed; its tasks are plugin"):
        named.embed("good")
    chosen = load(bundle={"changes": {"plugin": "test-named"}}, pooling_plugin="test-chosen")
    assert_allclose(chosen.encode("the river", pooling_task="plugin").numpy()[0], rows[-1], atol=1e-6)
    assert list(chosen.encode([], pooling_task="plugin")) == []


def test_parameters_of_a_plugin_are_not_checked(load) -> None:
    @register_pooling("test-unchecked")
    def kwargs(prompts):
        return [np.array([len(p.extra_kwargs)]) for p in prompts]

    params = PoolingParams(task="plugin", dimensions=-5, use_activation=True, step_tag_id=1)
    assert load(pooling_plugin="test-unchecked").encode("good", params).numpy()[0].tolist() == [0.0]


def test_a_separate_package_offers_a_pooling(tiny_embedder, tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--target", str(tmp_path), str(PACKAGE)], check=True, capture_output=True)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tiny_embedder)], text=True, capture_output=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"


def test_a_package_that_cannot_be_imported(monkeypatch) -> None:
    class Entry:
        value = "nowhere:nothing"

        def __init__(self, name):
            self.name = name

        def load(self):
            raise ModuleNotFoundError("No module named 'nowhere'")

    offered = [Entry("test-other"), Entry("test-broken")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: offered)
    with pytest.raises(PluginError, match=r"there: .*test-other"):
        find_pooling("test-third")
    with pytest.raises(PluginError, match="of package 'nowhere:nothing' cannot be loaded"):
        find_pooling("test-broken")
