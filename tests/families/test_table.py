"""The table of families: complete, sorted, data only, and true of the weights that torch has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.families.groups import BUILT, LOCAL, WITH_HEADS
from tests.families.tiny import TINY, facts, seeded

import embedge_export
from embedge.errors import ExportError
from embedge_export.families import family as families
from embedge_export.families.parts import UnsupportedError
from embedge_export.families.structure import tensors
from embedge_export.families.table import FAMILIES, family_of, read_encoder, read_head
from embedge_export.graph.built.weights import StoredWeights
from embedge_export.source.torch_model import quiet

EXPORT = Path(embedge_export.__file__).parent
# poolers are read by heads alone; all others are buffers
UNREAD = ("pooler.", "position_ids", "token_type_ids", "inv_freq", "_inv_freq")


def test_the_table_is_sorted_and_every_row_is_a_family() -> None:
    assert list(FAMILIES) == sorted(FAMILIES)
    assert all(type(row) is families.Family for row in FAMILIES.values())


def test_every_family_has_a_tiny_configuration() -> None:
    assert list(TINY) == list(FAMILIES)


def test_rows_are_whole() -> None:
    assert set(WITH_HEADS) <= set(BUILT)
    for name in BUILT:
        row = FAMILIES[name]
        assert row.prefixes, name
        assert all(prefix.endswith(".") for prefix in row.prefixes), name
    for name, row in FAMILIES.items():
        assert row.encoder is not None or not row.renames, name


def test_families_are_data() -> None:
    code = (
        "import sys, embedge_export.families.table; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    heavy = {"onnx", "onnxruntime", "torch", "transformers", "optimum", "tokenizers"}
    assert set(done.stdout.split()).isdisjoint(heavy)


@pytest.mark.parametrize("room", ["families", "graph"])
def test_no_branch_asks_for_the_name_of_a_family(room: str) -> None:
    for path in (EXPORT / room).rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            assert not ("model_type" in line and ("==" in line or " in (" in line)), f"{path}: {line}"


@pytest.mark.parametrize("name", BUILT)
def test_an_encoder_is_all_of_its_weights(name: str, tmp_path: Path) -> None:
    with quiet():
        model = seeded(name)
    model.save_pretrained(tmp_path)
    encoder = read_encoder(facts(model.config, name))
    wanted = {tensor.name: tensor.shape for tensor in tensors(encoder)}
    file = load_file(tmp_path / "model.safetensors")
    stored = {
        key: tuple(value.shape)
        for key, value in file.items()
        if not key.startswith(UNREAD) and not key.endswith(UNREAD)
    }
    assert wanted == stored
    row = FAMILIES[name]
    weights = StoredWeights([tmp_path / "model.safetensors"], row.prefixes, row.renames)
    assert all(weights.has(tensor) for tensor in tensors(encoder))


@pytest.mark.parametrize("name", [name for name in BUILT if name in LOCAL])
def test_a_base_model_has_the_prefix_of_its_class(name: str) -> None:
    import transformers

    prefix = getattr(transformers, f"{TINY[name].classes}Model").base_model_prefix
    assert FAMILIES[name].prefixes[0] == f"{prefix or 'model'}."


def test_what_is_not_in_the_table_is_refused_by_name() -> None:
    local = ", ".join(name for name, row in FAMILIES.items() if not row.remote or row.native)
    for name in ("xlnet", "new"):
        with pytest.raises(
            ExportError, match=f"model_type '{name}' is not an architecture .* one of {local}"
        ):
            family_of(name)
    unknown = family_of("xlnet", remote=True)
    assert family_of("bert", remote=True) == unknown
    assert (unknown.pooling, unknown.encoder, unknown.remote) == (None, None, True)
    assert family_of("nomic_bert", remote=True) is FAMILIES["nomic_bert"]
    assert family_of("nomic_bert") is FAMILIES["nomic_bert"]


def test_what_has_no_reader_is_refused_by_name() -> None:
    built = ", ".join(name for name, row in FAMILIES.items() if row.encoder is not None)
    with_heads = ", ".join(name for name, row in FAMILIES.items() if row.head is not None)
    with pytest.raises(UnsupportedError, match=f"'t5' has no built graph; expected one of {built}"):
        read_encoder({"model_type": "t5"})
    with pytest.raises(UnsupportedError, match=f"'llama' has no built head; expected one of {with_heads}"):
        read_head({"model_type": "llama"}, "sequence")
    with pytest.raises(UnsupportedError, match="n_layers=0 has no built graph; expected 1 to 1000"):
        read_encoder({"model_type": "distilbert", "n_layers": 0})


def test_the_gate_is_rounding_of_float32_and_decoders_are_given_more() -> None:
    gates = {family.max_abs_diff for family in FAMILIES.values()}
    assert gates == {128 * float(np.finfo(np.float32).eps), 1024 * float(np.finfo(np.float32).eps)}
