"""A bundle's folder, as it is, in other libraries: the same vectors. `make interop` installs what they need."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from embedge import EdgeModel

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
VENVS = HERE.parents[1] / ".venvs"
FASTEMBED = VENVS / "fastembed" / "bin" / "python"
NODE_MODULES = VENVS / "node" / "node_modules"
TEXTS = [
    "A man is eating food.",
    "Berlin is the capital of Germany and its largest city.",
    "how do I reset my password",
    "water, light and plants",
    "How do I reset a forgotten password without access to my e-mail?",
    "L'été dernier, nous avons mangé des crêpes à Saint-Malo.",
    "3.14159265358979 -1e-7 0x1F 1,000,000",
    # longer than any of the models takes: everyone has to cut at the same place
    "Plants turn light, water and carbon dioxide into sugar and oxygen. " * 60,
]


@pytest.fixture(scope="module", params=["tiny", "fp32", "fp16", "int8"])
def bundle(request):
    """Folder and variant: a tiny model, its weights inside its graph, and each variant of a real one, outside."""
    if request.param == "tiny":
        return request.getfixturevalue("tiny_embedder"), "fp32"
    return request.getfixturevalue("minilm_bundle"), request.param


@pytest.fixture(scope="module")
def outputs(bundle):
    folder, variant = bundle
    with EdgeModel(folder, device="cpu", variant=variant, truncate_prompt_tokens=-1) as model:
        return model.embed(TEXTS)


@pytest.fixture(scope="module")
def expected(outputs):
    return outputs.numpy()


def close(vectors, expected, bundle, float_atol: float) -> None:
    """Of int8, another order of sums may turn a rounding to 8 bits: components of 0.05 then differ by 1e-4."""
    assert_allclose(vectors, expected, atol=1e-3 if bundle[1] == "int8" else float_atol)
    assert (vectors * expected).sum(1).min() > 0.9999


def file_of(variant: str) -> str:
    return "onnx/model.onnx" if variant == "fp32" else f"onnx/model_{variant}.onnx"


def ask(*command: object) -> np.ndarray:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=False,
        env=environment | offline,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout), dtype=np.float32)


@pytest.mark.filterwarnings("ignore")  # what sentence-transformers and optimum say to each other
def test_sentence_transformers(bundle, expected):
    pytest.importorskip("optimum.onnxruntime", reason="optimum is installed where `make test-optimum` tests")
    from sentence_transformers import SentenceTransformer

    folder, variant = bundle
    options = {"provider": "CPUExecutionProvider", "file_name": file_of(variant)}
    model = SentenceTransformer(str(folder), backend="onnx", device="cpu", model_kwargs=options)
    close(model.encode(TEXTS), expected, bundle, 1e-5)


def test_fastembed(bundle, expected):
    if not FASTEMBED.is_file():
        pytest.skip("fastembed has no environment here; `make interop` makes one")
    folder, variant = bundle
    vectors = ask(FASTEMBED, HERE / "fastembed_custom.py", folder, expected.shape[1], file_of(variant))
    close(vectors, expected, bundle, 1e-5)


def test_transformers_js(bundle, expected, outputs):
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@huggingface" / "transformers").is_dir():
        pytest.skip("Node or transformers.js is not installed; `make interop` installs the latter")
    folder, variant = bundle
    script = HERE / "transformers_js.mjs"
    vectors = ask(node, script, folder.parent, folder.name, NODE_MODULES.parent, variant)
    # transformers.js cuts the finished list of token ids, and the last special token with it
    whole = [index for index, output in enumerate(outputs) if output.num_truncated_tokens == 0]
    assert len(whole) >= 3
    close(vectors[whole], expected[whole], bundle, 1e-4)
