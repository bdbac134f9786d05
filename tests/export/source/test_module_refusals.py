"""Modules that are not exported: each is refused with what it does and what to do, and what to do works."""

from __future__ import annotations

import importlib
import inspect

import pytest
from tests.checkpoints.saving import read_json, write_json
from tests.export.tiny import make_bert
from tests.installed import SENTENCE_TRANSFORMERS_6

from embedge.errors import ExportError
from embedge_export.source.module_files import _CONFIGURED, _SEQUENCE
from embedge_export.source.module_refusals import REFUSED
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec

RUN = {"Transformer", "MLMTransformer", "StaticEmbedding", *_SEQUENCE, *_CONFIGURED}
ABSTRACT = {"Module", "InputModule", "BaseTokenPooling"}


@pytest.mark.parametrize("at", ["first", "later"])
@pytest.mark.parametrize("kind", REFUSED)
def test_each_says_why_and_what_to_do(tmp_path, kind, at):
    make_bert(tmp_path / "m")
    modules = read_json(tmp_path / "m" / "modules.json")
    entry = {"idx": 9, "name": "99", "path": "99_Other", "type": f"sentence_transformers.models.{kind}"}
    modules = [entry, *modules] if at == "first" else [*modules, entry]
    write_json(tmp_path / "m" / "modules.json", modules)
    with pytest.raises(ExportError) as refused:
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))
    message = str(refused.value)
    assert message.startswith(
        f"modules.json begins with {kind}" if at == "first" else f"modules.json holds a {kind} module"
    )
    assert REFUSED[kind][0] in message
    assert "expected" in message
    assert "\n" not in message


def test_every_module_of_the_library_is_run_or_refused():
    packages = ["base", "sentence_transformer", "sparse_encoder", "cross_encoder"]
    if SENTENCE_TRANSFORMERS_6:
        packages.append("multi_vector_encoder")
    module = importlib.import_module("sentence_transformers.base.modules.module").Module
    found = set()
    for package in packages:
        room = importlib.import_module(f"sentence_transformers.{package}.modules")
        found |= {
            name for name, value in vars(room).items() if inspect.isclass(value) and issubclass(value, module)
        }
    assert {"Router", "Pooling", *(["MultiVectorMask"] if SENTENCE_TRANSFORMERS_6 else [])} <= found
    assert found - ABSTRACT <= RUN | set(REFUSED)
    assert not RUN & set(REFUSED)
