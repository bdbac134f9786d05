"""Every value of a checkpoint's JSON files replaced by one of another type: refused, never a traceback."""

import itertools
import json

import pytest
from tests.checkpoints import make

from embedge.errors import ExportError
from embedge_export.dry_run import plan_export
from embedge_export.source.torch_model import quiet
from embedge_export.spec import ExportSpec

VALUES = (None, "x", -1, [], {}, 1e30, True, ["x"], {"x": 1})
PER_KEY = 3
# read by the tokenizers library and transformers alone
LEFT_OUT = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json"}


def changed(path):
    """The file's values, each replaced by some others, and once left out; then the file as something else."""
    value = json.loads(path.read_bytes())
    turns = itertools.cycle(VALUES)
    if isinstance(value, dict):
        for key in value:
            for other in itertools.islice(turns, PER_KEY):
                yield value | {key: other}
            yield {name: kept for name, kept in value.items() if name != key}
    yield from ([], "x", None, 3, [3], [{}])


@pytest.mark.parametrize("name", ["dense-tanh", "matryoshka-list", "classifier-single-label", "colbert"])
def test_a_plan_is_made_or_refused(name, tmp_path):
    folder = make(name, tmp_path / "m")
    refused = 0
    for path in sorted(folder.rglob("*.json")):
        if path.name in LEFT_OUT:
            continue
        content = path.read_bytes()
        for value in changed(path):
            path.write_text(json.dumps(value))
            try:
                with quiet():
                    plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))
            except ExportError:
                refused += 1
        path.write_bytes(content)
    assert refused > 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "file", "changes", "message"),
    [
        ("bert-st", "config.json", {"hidden_size": "x"}, r"config\.json"),
        (
            "bert-st",
            "config.json",
            {"vocab_size": None},
            r"vocab_size.* None",
        ),
        (
            "bert-st",
            "config.json",
            {"architectures": 3},
            r"architectures in config\.json is 3; expected a list",
        ),
        (
            "dense-tanh",
            "2_Dense/config.json",
            {"in_features": "9"},
            r"in_features in 2_Dense/config\.json is '9'",
        ),
        (
            "default-prompt",
            "config_sentence_transformers.json",
            {"prompts": {"query": 3}},
            r"prompts in config_sentence_transformers\.json is \{'query': 3\}; expected an object whose values are",
        ),
        (
            "matryoshka-list",
            "config.json",
            {"matryoshka_dimensions": ["8"]},
            r"Matryoshka size '8' does not fit",
        ),
    ],
)
def test_the_message_has_the_value_and_what_was_expected(name, file, changes, message, tmp_path):
    folder = make(name, tmp_path / "m")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    with pytest.raises(ExportError, match=message):
        plan_export(ExportSpec(model=str(folder), output=tmp_path / "out"))
