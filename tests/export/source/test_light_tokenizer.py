"""Tokenizers loaded without transformers: byte for byte what transformers 5 loads, or refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.checkpoints import CHECKPOINTS, make
from tests.checkpoints.saving import edit_json, read_json, write_json
from tests.export.source.test_tokenizer_loading import FAMILIES
from tests.export.source.test_tokenizer_pipeline import DIGITS, NFKC, files_of, save, state
from tests.installed import TRANSFORMERS_5
from tests.parity.asked import PAIRS, TEXTS

from embedge.errors import ExportError, MissingExtraError
from embedge_export.families.table import FAMILIES as ARCHITECTURES
from embedge_export.source.chat_template import read_chat, read_template
from embedge_export.source.files import read_files
from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.read import open_checkpoint
from embedge_export.source.tokenizer import describe_tokenizer
from embedge_export.source.tokenizer_classes import ALIASES, BY_MODEL_TYPE, CLASSES, GENERIC, NOT_BELIEVED
from embedge_export.source.tokenizer_loading import load_tokenizer, told_apart
from embedge_export.spec import ExportSpec
from embedge_export.texts.tokenizer_traps import TRAPS

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not TRANSFORMERS_5, reason="the light exporter reads as transformers 5 does"),
]
SPECIALS = ("pad_token_id", "eos_token_id", "mask_token_id", "unk_token_id")
STATED = (
    "truncation_side",
    "model_max_length",
    "split_special_tokens",
    "chat_template",
    "special_tokens_map",
)
ASKED = [*((text,) for text in [*TEXTS[::9], *TRAPS]), *PAIRS[::6], ("", "b"), ("a", "")]


def both(folder: Path) -> tuple[Any, LightTokenizer]:
    files = files_of(folder)
    return load_tokenizer(files, {}), load_tokenizer(files, {}, light=True)


def assert_alike(theirs: Any, ours: LightTokenizer) -> None:
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    assert ours.class_name == type(theirs).__name__
    for name in (*SPECIALS, *STATED):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.special_tokens_map) == list(theirs.special_tokens_map)
    assert set(ours.model_input_names) == set(theirs.model_input_names)
    assert len(ours) == len(theirs)
    for sides in ASKED:
        for limit in (7, 40):
            expected = dict(theirs(*sides, truncation=True, max_length=limit))
            assert ours(*sides, truncation=True, max_length=limit) == expected


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_of_every_family(tmp_path, family, side) -> None:
    folder = save(family, tmp_path)
    edit_json(folder / "tokenizer_config.json", truncation_side=side)
    assert_alike(*both(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_whose_file_states_another_pipeline(tmp_path, family) -> None:
    folder = state(state(save(family, tmp_path), "normalizer", NFKC), "pre_tokenizer", DIGITS)
    theirs, ours = both(folder)
    assert_alike(theirs, ours)
    assert told_apart(ours, files_of(folder)) == told_apart(theirs, files_of(folder))


MASK = {"content": "[MASK]", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}),
    ("bert", {"split_special_tokens": True, "model_max_length": 33}),
    ("bert", {"extra_special_tokens": ["<a>", "<b>"]}),
    ("bert", {"extra_special_tokens": {"image_token": "<image>"}, "audio_token": "<audio>"}),
    ("bert", {"additional_special_tokens": ["<a>"], "model_input_names": ["input_ids", "attention_mask"]}),
    ("bert", {"added_tokens_decoder": {"6": MASK | {"special": True}, "99999": MASK | {"content": "<far>"}}}),
    ("bert", {"mask_token": {"__type": "AddedToken", **MASK, "content": "<m>"}, "bos_token": None}),
    ("bert", {"tokenizer_class": "PreTrainedTokenizerFast"}),
    ("bert", {"tokenizer_class": "ElectraTokenizerFast"}),
    ("bert", {"tokenizer_class": None, "chat_template": [{"name": "default", "template": "{{ messages }}"}]}),
    ("mpnet", {"mask_token": "<another>", "do_lower_case": False}),
    ("roberta", {"add_prefix_space": True, "trim_offsets": False, "mask_token": "<another>"}),
    ("camembert", {"extra_special_tokens": ["<x>"], "add_prefix_space": False}),
    ("albert", {"do_lower_case": False, "keep_accents": True}),
    ("deberta-v2", {"do_lower_case": True, "split_by_punct": True, "add_prefix_space": False}),
    ("t5", {"extra_special_tokens": ["<x>"]}),
    ("t5", {"extra_ids": 7}),
    ("mistral", {"legacy": True, "add_bos_token": False, "add_eos_token": True}),
    ("mistral", {"add_prefix_space": False}),
    ("gemma", {"add_eos_token": False, "padding_side": "left"}),
    ("qwen", {"add_prefix_space": True, "pad_token": "<pad>"}),
    ("llama", {"tokenizer_class": "LlamaTokenizerFast"}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "stated"), OPTIONS)
def test_what_tokenizer_config_states(tmp_path, family, stated) -> None:
    folder = save(family, tmp_path)
    edit_json(folder / "tokenizer_config.json", **stated)
    assert_alike(*both(folder))


def test_a_class_that_is_not_believed(tmp_path) -> None:
    """Qwen2's own is taken for it, which makes another pipeline than the file's."""
    folder = state(save("qwen", tmp_path), "pre_tokenizer", DIGITS)
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    write_json(folder / "config.json", {"model_type": "qwen2"})
    files = msgspec.structs.replace(files_of(folder), config={"model_type": "qwen2"})
    theirs, ours = load_tokenizer(files, {}), load_tokenizer(files, {}, light=True)
    assert ours.class_name == "Qwen2Tokenizer"
    assert_alike(theirs, ours)


def test_files_of_older_checkpoints(tmp_path) -> None:
    folder = save("bert", tmp_path)
    write_json(folder / "special_tokens_map.json", {"mask_token": MASK, "sep_token": "[SEP]"})
    write_json(folder / "added_tokens.json", {"<new>": 5000, "<other>": 5001})
    (folder / "chat_template.jinja").write_text("{{ bos_token }}", "utf-8")
    assert_alike(*both(folder))


def test_limits_of_the_file_itself(tmp_path) -> None:
    folder = save("modernbert", tmp_path)
    file = read_json(folder / "tokenizer.json")
    file["truncation"] = {"direction": "Left", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    file["post_processor"] = None
    write_json(folder / "tokenizer.json", file)
    theirs, ours = both(folder)
    assert ours.truncation_side == "left"
    assert_alike(theirs, ours)


WITHOUT_POOLING = ("prm-lm", "qwen3-reranker", "remote-code-bert", "splade-published")
# of the others some other has the same tokenizer
SAME = ("bidirectional-", "colbert-", "dense-", "matryoshka-", "pool-", "rope-qwen")


@pytest.mark.parametrize(
    "name", [name for name in CHECKPOINTS if not name.endswith(("-st", "-old")) and not name.startswith(SAME)]
)
def test_of_every_tiny_checkpoint(tmp_path, name) -> None:
    spec = ExportSpec(
        model=str(make(name, tmp_path / "checkpoint")),
        **({"trust_remote_code": True} if name.startswith("remote") else {}),
        **({"pooling": ("MEAN",)} if name in WITHOUT_POOLING else {}),
    )
    files = read_files(spec)
    if not (files.transformer / "tokenizer_config.json").is_file():
        pytest.skip("static embeddings have no class")
    source = open_checkpoint(spec)
    theirs, checkpoint = source.tokenization, source.checkpoint
    tokenizer = load_tokenizer(files, checkpoint.code, light=True)
    chat = None if theirs.chat is None else read_chat(files, tokenizer)
    if chat is not None and checkpoint.message is not None:
        assert read_template(chat, ("text",)) == checkpoint.message
    ours = describe_tokenizer(tokenizer, checkpoint, chat)
    assert ours.file == theirs.file
    assert ours.spec == theirs.spec
    assert ours.max_seq_len == theirs.max_seq_len
    for sides in ASKED:
        if len(sides) == 1 or "score" in checkpoint.tasks:
            assert ours.encode(*sides) == theirs.encode(*sides)
    assert told_apart(tokenizer, files) == checkpoint.tokenizer_words


@pytest.fixture(scope="module")
def some(tmp_path_factory) -> list[tuple[Any, LightTokenizer]]:
    return [
        both(save(family, tmp_path_factory.mktemp(family)))
        for family in ("bert", "roberta", "deberta-v2", "qwen-embedding")
    ]


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(st.text(max_size=60) | st.sampled_from([*TEXTS, *TRAPS]), min_size=1, max_size=2),
    limit=st.integers(5, 60),
    side=st.sampled_from(["left", "right"]),
)
def test_pairs_and_limits(some, sides, limit, side) -> None:
    for theirs, ours in some:
        theirs.truncation_side = ours.truncation_side = side
        expected = dict(theirs(*sides, truncation=True, max_length=limit))
        assert ours(*sides, truncation=True, max_length=limit) == expected


def test_the_table_is_that_of_transformers() -> None:
    from transformers.models.auto import tokenization_auto as auto

    generic = (GENERIC, "PythonBackend")
    for name in ARCHITECTURES:
        assert BY_MODEL_TYPE.get(name) == auto.TOKENIZER_MAPPING_NAMES.get(name), name
        assert (name in NOT_BELIEVED) == (name in auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS), name
    for name, meant in {**ALIASES, **dict(zip(CLASSES, CLASSES, strict=True))}.items():
        found = auto.tokenizer_class_from_name(name)
        assert found.__name__ == meant or (meant in generic and found.__name__ in generic), name
        if meant in CLASSES:
            assert set(found.model_input_names) == set(CLASSES[meant].model_input_names), name


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"tokenizer_class": "FunnelTokenizer"}, "its class is FunnelTokenizer"),
        ({"auto_map": {"AutoTokenizer": ["a.B", None]}}, "code or files of the tokenizer's own"),
        ({"tokenizer_class": "RobertaTokenizer"}, "for BPE, and the checkpoint has one for WordPiece"),
    ],
)  # fmt: skip
def test_what_only_transformers_knows(tmp_path, edit, words) -> None:
    folder = save("bert", tmp_path)
    edit_json(folder / "tokenizer_config.json", **edit)
    with pytest.raises(MissingExtraError, match=rf"{words}.*pip install 'embedge\[export-torch\]'"):
        load_tokenizer(files_of(folder), {}, light=True)


def test_without_tokenizer_json_and_with_a_damaged_one(tmp_path) -> None:
    folder = save("bert", tmp_path)
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}, "added_tokens": []}', "utf-8")
    with pytest.raises(ExportError, match="the tokenizer cannot be loaded"):
        load_tokenizer(files_of(folder), {}, light=True)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(MissingExtraError, match="has no tokenizer.json"):
        load_tokenizer(files_of(folder), {}, light=True)


_LOAD = """
import sys
from pathlib import Path
from embedge_export.source.files import Files
from embedge_export.source.repository import Repository
from embedge_export.source.tokenizer_loading import load_tokenizer, told_apart
folder = Path(sys.argv[1])
files = Files(repository=Repository(folder=folder, name="tiny"), modules=None, config={}, stated={})
tokenizer = load_tokenizer(files, {}, light=True)
told_apart(tokenizer, files)
print(tokenizer("a fox")["input_ids"], [name for name in ("torch", "transformers", "jinja2") if name in sys.modules])
"""


def test_nothing_of_transformers_is_imported(tmp_path) -> None:
    folder = save("bert", tmp_path)
    command = [sys.executable, "-c", _LOAD, str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.strip() == f"{both(folder)[0]('a fox')['input_ids']} []"
