"""Tokenizers saved as a vocabulary alone, without tokenizer.json: loaded as transformers of either generation does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.checkpoints import make
from tests.export.source.test_light_tokenizer import assert_alike
from tests.export.source.test_tokenizer_pipeline import files_of, save
from tests.installed import TRANSFORMERS_5
from tests.parity.asked import PAIRS, TEXTS

from embedge import EdgeModel
from embedge.errors import MissingExtraError
from embedge_export.pipeline import export
from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.tokenizer_loading import load_tokenizer
from embedge_export.spec import ExportSpec

pytestmark = pytest.mark.filterwarnings("ignore")
MODEL_TYPES = {"bert": "bert", "mpnet": "mpnet", "qwen": "qwen2", "roberta": "roberta"}


def strip_to_vocabulary(folder: Path) -> Path:
    """Leave vocab.txt, or vocab.json and merges.txt, in the place of tokenizer.json."""
    model = json.loads((folder / "tokenizer.json").read_bytes())["model"]
    if model["type"] == "WordPiece":
        tokens = sorted(model["vocab"], key=model["vocab"].get)
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    else:
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
        merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", "utf-8")
    (folder / "tokenizer.json").unlink()
    return folder


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("family", MODEL_TYPES)
def test_as_transformers_loads_it(tmp_path, family, with_config) -> None:
    folder = strip_to_vocabulary(save(family, tmp_path))
    (folder / "config.json").write_text(json.dumps({"model_type": MODEL_TYPES[family]}), "utf-8")
    if not with_config:
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            (folder / name).unlink(missing_ok=True)
    files = files_of(folder)
    files.config["model_type"] = MODEL_TYPES[family]
    theirs, ours = load_tokenizer(files, {}), load_tokenizer(files, {}, light=True)
    assert isinstance(ours, LightTokenizer)
    if TRANSFORMERS_5:
        assert_alike(theirs, ours)
    for sides in [*((text,) for text in TEXTS), *PAIRS]:
        assert ours(*sides)["input_ids"] == theirs(*sides)["input_ids"], sides


def test_what_only_transformers_reads(tmp_path) -> None:
    folder = strip_to_vocabulary(save("bert", tmp_path))
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8"
    )
    with pytest.raises(
        MissingExtraError, match="a vocabulary without tokenizer.json is read by TokenizersBackend"
    ):
        load_tokenizer(files_of(folder), {}, light=True)


@pytest.mark.skipif(not TRANSFORMERS_5, reason="the light exporter reads as transformers 5 does")
@pytest.mark.parametrize("name", ["bert-st", "roberta-st"])
def test_the_bundle_is_the_same(tmp_path, name) -> None:
    whole = make(name, tmp_path / "whole")
    alone = strip_to_vocabulary(make(name, tmp_path / "alone"))
    rows = []
    for folder in (whole, alone):
        spec = ExportSpec(model=str(folder), output=tmp_path / f"{folder.name}-out", reference="numpy")
        with EdgeModel(export(spec)) as model:
            rows.append(model.embed(TEXTS[::7], truncate_prompt_tokens=-1).numpy())
    assert (rows[0] == rows[1]).all()
