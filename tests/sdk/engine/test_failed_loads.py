"""A load that fails leaves nothing behind, even where its error is kept and nobody collects garbage."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests import bundles

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
_LARGE_BYTES = 12 * 2**20

_LOADS = """
import gc, json, os, sys, time
from embedge import EdgeModel, EmbedgeError
gc.disable()

def held():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "mb": int(status["VmRSS"].split()[0]) // 1024,
        "threads": int(status["Threads"]),
        "files": len(os.listdir("/proc/self/fd")),
    }

def settled(most):
    # what ends by itself, as a helper process that is told to, takes its time on a busy machine
    end = time.monotonic() + 20
    while True:
        seen = held()
        if all(seen[name] <= most[name] for name in ("threads", "files")) or time.monotonic() > end:
            return seen
        time.sleep(0.01)

def load(folder, arguments):
    try:
        model = EdgeModel(folder, device="cpu", threads=2, **arguments)
    except EmbedgeError as error:
        kept.append(error)
    else:
        model.embed(["a cat", "the dog"])
        kept.append(None)

kept = []
for folder, arguments in json.loads(sys.argv[1]):
    load(folder, arguments)
    before = held()
    for _ in range(12):
        load(folder, arguments)
    print(json.dumps([before, settled(before), type(kept[-1]).__name__]))
"""


def _with_large_weights(bundle) -> None:
    """As much beside the weights that a load which is kept is seen."""
    bundles.move_weights_outside(bundle)
    with (bundle / "onnx" / "model.onnx_data").open("ab") as data:
        data.write(bytes(_LARGE_BYTES))
    bundles.rewrite(bundle)


def _altered(bundle) -> None:
    with (bundle / "onnx" / "model.onnx_data").open("r+b") as data:
        data.seek(-1, os.SEEK_END)
        data.write(b"x")


def _unreadable_tokenizer(bundle) -> None:
    (bundle / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nothing"}}')
    bundles.rewrite(bundle)


def test_a_load_leaves_nothing_behind(tiny) -> None:
    cases = {
        "IntegrityError": (_altered, {}),
        "BundleError": (_unreadable_tokenizer, {"trust": "any"}),
        "TaskNotSupportedError": (None, {"task": "classify"}),
        "ParamsError": (None, {"truncate_prompt_tokens": 10_000}),
        "NoneType": (None, {}),
    }
    loads = []
    for damage, arguments in cases.values():
        bundle = tiny()
        _with_large_weights(bundle)
        if damage is not None:
            damage(bundle)
        loads.append([str(bundle), arguments])
    done = subprocess.run(
        [sys.executable, "-c", _LOADS, json.dumps(loads)], capture_output=True, text=True, check=True
    )
    for expected, line in zip(cases, done.stdout.splitlines(), strict=True):
        before, after, error = json.loads(line)
        assert error == expected
        assert after["threads"] <= before["threads"], expected
        assert after["files"] <= before["files"], expected
        # twelve loads that were kept hold 144 MB
        assert after["mb"] < before["mb"] + 80, expected
