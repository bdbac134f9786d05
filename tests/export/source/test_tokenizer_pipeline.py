"""A class of transformers that builds its pipeline anew, and a tokenizer.json that states another: said aloud."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json, read_json, write_json
from tests.export.source.test_tokenizer_loading import FAMILIES
from tests.generated.trial import quick
from tests.generations.measuring import MISSING, ROOT, YESTERDAY
from tests.installed import TRANSFORMERS_5

from embedge.manifest import load_manifest
from embedge_export.pipeline import export
from embedge_export.source.files import Files
from embedge_export.source.repository import Repository
from embedge_export.source.tokenizer_loading import load_tokenizer, told_apart
from embedge_export.spec import ExportSpec

pytestmark = pytest.mark.filterwarnings("ignore")
AS_FILE = ("llama", "modernbert")
"""Saved as generic tokenizers, which no generation builds anew."""
NFKC = {"type": "NFKC"}
LOWERCASE = {"type": "Lowercase"}
DIGITS = {"type": "Digits", "individual_digits": True}
UNICODE = "ﬁne Ⅷ"
today = pytest.mark.skipif(not TRANSFORMERS_5, reason="transformers 4 goes by the file")


def save(family: str, folder: Path) -> Path:
    maker, kind = FAMILIES[family]
    maker(kind).save_pretrained(str(folder))
    return folder


def state(folder: Path, part: str, stage: dict[str, Any]) -> Path:
    """Put a stage before the others of the file's normalizer or pre-tokenizer."""
    file = read_json(folder / "tokenizer.json")
    inner = "normalizers" if part == "normalizer" else "pretokenizers"
    file[part] = {"type": "Sequence", inner: [stage, *([file[part]] if file[part] else [])]}
    write_json(folder / "tokenizer.json", file)
    return folder


def files_of(folder: Path) -> Files:
    return Files(repository=Repository(folder=folder, name="tiny"), modules=None, config={}, stated={})


def words(folder: Path) -> str:
    files = files_of(folder)
    return " ".join(told_apart(load_tokenizer(files, {}), files))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_class_passes_over_is_named(tmp_path, family) -> None:
    folder = save(family, tmp_path)
    # LlamaTokenizer has another form of the same pipeline, which differs on white space
    if family != "mistral":
        assert words(folder) == ""
    ids = load_tokenizer(files_of(folder), {})(UNICODE)["input_ids"]
    said = words(state(folder, "normalizer", NFKC))
    same = load_tokenizer(files_of(folder), {})(UNICODE)["input_ids"] == ids
    if family in AS_FILE:
        assert said == ""
        return
    if not TRANSFORMERS_5:
        assert "as transformers 4 loads it, which is not as " in said
        assert "of transformers 5 builds it: normalizer " in said
        return
    assert same, "the class builds the normalizer anew"
    assert "transformers 5" in said
    assert "NFKC" in said
    assert " becomes " in said or family == "albert"


@today
@pytest.mark.parametrize(
    ("family", "part", "stage", "said"),
    [
        ("xlm-roberta", "pre_tokenizer", DIGITS, "pre-tokenizer WhitespaceSplit + Metaspace("),
        ("qwen", "pre_tokenizer", DIGITS, "Digits(individual_digits=true) + Split("),
        ("camembert", "normalizer", LOWERCASE, "normalizer none for Lowercase; 'The Quick BROWN Fox'"),
        ("t5", "normalizer", LOWERCASE, "normalizer none for Lowercase; 'The Quick BROWN Fox'"),
    ],
)
def test_which_part_and_how(tmp_path, family, part, stage, said) -> None:
    assert said in words(state(save(family, tmp_path), part, stage))


@today
def test_options_of_the_model_and_what_stands_around_texts(tmp_path) -> None:
    folder = save("bert", tmp_path)
    file = read_json(folder / "tokenizer.json")
    file["model"]["max_input_chars_per_word"] = 7
    special = file["post_processor"]["special_tokens"]
    text = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    second = [{"Sequence": {"id": "B", "type_id": 1}}]
    file["post_processor"] |= {"single": text, "pair": text + second, "special_tokens": special}
    write_json(folder / "tokenizer.json", file)
    said = words(folder)
    assert "the model's max_input_chars_per_word 100 for 7" in said
    assert "around a text [CLS]:0 A:0 [SEP]:0 for A:0 [SEP]:0" in said
    assert "around a pair" in said


def test_tokens_that_another_file_states_are_no_difference(tmp_path) -> None:
    folder = save("bert", tmp_path)
    edit_json(folder / "tokenizer_config.json", extra_special_tokens=["<a>"])
    assert "<a>" in load_tokenizer(files_of(folder), {}).get_vocab()
    assert words(folder) == ""


@today
def test_the_files_own_pipeline_may_be_asked_for(tmp_path) -> None:
    folder = state(save("xlm-roberta", tmp_path), "normalizer", NFKC)
    before = load_tokenizer(files_of(folder), {})(UNICODE)["input_ids"]
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert words(folder) == ""
    assert load_tokenizer(files_of(folder), {})(UNICODE)["input_ids"] != before


@today
def test_an_export_says_it_everywhere(tmp_path, caplog) -> None:
    checkpoint = make("bert-st", tmp_path / "checkpoint")
    state(checkpoint, "normalizer", NFKC)
    steps: list[Any] = []
    with quick(), caplog.at_level(logging.WARNING, logger="embedge_export"):
        bundle = export(ExportSpec(model=str(checkpoint), output=tmp_path / "out"), steps.append)
    assert "WARNING: assumed the tokenizer as BertTokenizer of transformers 5" in caplog.text
    (line,) = (step.detail for step in steps if step.stage == "source" and step.finished)
    assert "; assumed the tokenizer as BertTokenizer" in line
    manifest = load_manifest(bundle)
    (assumed,) = manifest.assumed
    assert "for NFKC + BertNormalizer(" in assumed
    assert manifest.witness is not None
    for file in ("README.md", "report.html"):
        assert "ssumed the tokenizer as BertTokenizer" in (bundle / file).read_text("utf-8")


def test_dropout_of_merges_is_left_out_aloud(tmp_path) -> None:
    checkpoint = make("modernbert-st", tmp_path / "checkpoint")
    path = next(checkpoint.glob("**/tokenizer.json"))
    file = read_json(path)
    file["model"]["dropout"] = 0.4
    write_json(path, file)
    with quick():
        bundle = export(ExportSpec(model=str(checkpoint), output=tmp_path / "out"))
    manifest = load_manifest(bundle)
    assert manifest.witness is not None
    assert manifest.witness.asked
    (assumed,) = manifest.assumed
    assert assumed.startswith("every merge of the tokenizer: tokenizer.json states dropout 0.4")


_SAVE = """
import sys
from pathlib import Path
from tests.export.source.test_tokenizer_pipeline import NFKC, save, state
for family in sys.argv[2:]:
    state(save(family, Path(sys.argv[1], family)), "normalizer", NFKC)
"""


@today
@pytest.mark.skipif(not YESTERDAY.is_file(), reason=MISSING)
def test_saved_by_yesterdays_transformers(tmp_path) -> None:
    rebuilt = ("xlm-roberta", "camembert", "roberta", "qwen", "gemma")
    command = [str(YESTERDAY), "-c", _SAVE, str(tmp_path), *rebuilt, "modernbert"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for family in rebuilt:
        assert "which is not as tokenizer.json states it" in words(tmp_path / family), family
    assert words(tmp_path / "modernbert") == ""
