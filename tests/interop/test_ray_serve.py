"""The deployment of docs/guides/serve.md for Ray Serve has the numbers of the SDK. `make peers` installs Ray."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.docs.reading import ROOT, blocks

import embedge
from embedge import EdgeModel
from embedge.testing import tiny_bundle

PYTHON = ROOT / ".venvs" / "engines" / "bin" / "python"


def test_the_page_on_ray_serve(tmp_path) -> None:
    if not PYTHON.exists():
        pytest.skip("needs .venvs/engines: make peers")
    (program,) = (
        each.text for each in blocks(ROOT / "docs" / "guides" / "serve.md") if "serve.deployment" in each.text
    )
    (tmp_path / "embeddings.py").write_text(program)
    bundle = tiny_bundle(tmp_path / "bundle")
    done = subprocess.run(
        [
            str(PYTHON),
            str(Path(__file__).with_name("serving_with_ray.py")),
            str(tmp_path / "embeddings.py"),
            str(bundle),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ
        | {"PYTHONPATH": str(Path(embedge.__file__).parents[1]), "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    with EdgeModel(bundle, device="cpu") as model:
        for text, rows in answers.items():
            assert np.abs(np.float32(rows) - model.embed(text).numpy()).max() < 1e-6
    assert len(answers) == 4
