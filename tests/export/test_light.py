"""Exports without torch and transformers: the same bundle, family by family."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests import checkpoints
from tests.checkpoints.saving import edit_json
from tests.export import architectures

from embedge.manifest import load_manifest
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

# one of each way that a configuration is completed; tests/families/test_defaults.py reads every one
NAMES = ("bert", "deberta-v2", "gemma", "gemma3_text", "modernbert", "phi3", "qwen2")
_LIGHT = """
import sys
from pathlib import Path
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
folder = Path(sys.argv[1])
for checkpoint in sorted(folder.glob("*")):
    output = Path(sys.argv[2]) / checkpoint.name
    export(ExportSpec(model=str(checkpoint), output=output, reference="numpy"))
assert not {"torch", "transformers"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny checkpoint of each of them under checkpoints/, and its light export under light/."""
    folder = tmp_path_factory.mktemp("families")
    for name in NAMES:
        checkpoint = folder / "checkpoints" / name
        if name in checkpoints.CHECKPOINTS:  # which have tokenizers of their own kind
            checkpoints.make(name, checkpoint)
        else:
            architectures.make(checkpoint, name, "embed")
    # as published files state it
    edit_json(folder / "checkpoints" / "deberta-v2" / "config.json", pos_att_type="p2c|c2p")
    subprocess.run([sys.executable, "-c", _LIGHT, folder / "checkpoints", folder / "light"], check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_is_that_of_the_export_with_torch(name, folder, tmp_path):
    export(ExportSpec(model=str(folder / "checkpoints" / name), output=tmp_path / "bundle"))
    heavy, light = load_manifest(tmp_path / "bundle"), load_manifest(folder / "light" / name)
    assert (heavy.reference.name, light.reference.name) == ("torch", "numpy")
    assert light.fingerprint == heavy.fingerprint
