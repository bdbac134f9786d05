"""Tokenizers of either generation of transformers, loaded by either: token ids are those of the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.checkpoints.saving import edit_json, read_json, write_json
from tests.checkpoints.vocabularies import byte_bpe, byte_fallback, unigram, word_piece
from tests.installed import TRANSFORMERS_5
from tests.parity.asked import PAIRS, TEXTS

from embedge._text.pairs import encode_pairs
from embedge._text.tokenizer import PromptTokenizer
from embedge.errors import ExportError
from embedge.manifest import HeadSpec
from embedge_export.families.family import Family
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.classifier import Classifier
from embedge_export.source.files import Files
from embedge_export.source.repository import Repository
from embedge_export.source.tokenizer import Tokenization, describe_tokenizer
from embedge_export.source.tokenizer_loading import load_tokenizer

LONG = " ".join(["the quick brown fox jumps over the lazy dog and into the river"] * 30)
ODD = [
    "",
    " ",
    "  a  b ",
    "[SEP] </s> <eos> <|im_end|> [MASK] <mask>",
    "naïve\u00a0ÅÄ\u2028🙂",
    "a\n\n\tb",
    LONG,
]
FAMILIES = {
    "bert": (word_piece, "Bert"),
    "electra": (word_piece, "Electra"),
    "mpnet": (word_piece, "MPNet"),
    "roberta": (byte_bpe, "roberta"),
    "modernbert": (byte_bpe, "modernbert"),
    "llama": (byte_bpe, "llama"),
    "qwen": (byte_bpe, "qwen"),
    "qwen-embedding": (byte_bpe, "qwen-embedding"),
    "xlm-roberta": (unigram, "XLMRoberta"),
    "camembert": (unigram, "Camembert"),
    "albert": (unigram, "Albert"),
    "deberta-v2": (unigram, "DebertaV2"),
    "t5": (unigram, "T5"),
    "mistral": (byte_fallback, "mistral"),
    "gemma": (byte_fallback, "gemma"),
}
LIMIT = 48


def saved(family: str, folder: Path, **stated: object) -> Path:
    make, kind = FAMILIES[family]
    make(kind).save_pretrained(str(folder))
    edit_json(folder / "tokenizer_config.json", model_max_length=LIMIT, **stated)
    return folder


def loaded(folder: Path, ignore_keys: tuple[str, ...] = (), *, light: bool = False) -> Tokenization:
    """The folder's tokenizer, as an export of a classifier reads it."""
    repository = Repository(folder=folder, name="tiny")
    files = Files(repository=repository, modules=None, config={}, stated={})
    tokenizer = load_tokenizer(files, {}, ignore_keys, light=light)
    head = HeadSpec(labels=("a", "b"), activation="softmax", score_activation="softmax")
    checkpoint = Checkpoint(
        repository=repository,
        transformer=folder,
        what=Classifier(head=head),
        family=Family(pooling="CLS"),
        model_type="tiny",
        architecture="Tiny",
        tasks=("classify",),
        hidden_size=8,
        vocab_size=100_000,
        weights={},
    )
    return describe_tokenizer(tokenizer, checkpoint)


def of_bundle(tokenization: Tokenization) -> PromptTokenizer:
    return PromptTokenizer(
        tokenization.file, tokenization.spec, vocab_size=100_000, max_seq_len=tokenization.max_seq_len
    )


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_token_ids_are_the_librarys(tmp_path, family, side) -> None:
    import transformers

    # without it, transformers 4 gives ALBERT's pairs segment ids, and 5 none
    stated = {"model_input_names": ["input_ids", "attention_mask"]} if family == "albert" else {}
    folder = saved(family, tmp_path, truncation_side=side, **stated)
    library = transformers.AutoTokenizer.from_pretrained(str(folder))
    tokenization = loaded(folder)
    assert tokenization.max_seq_len == LIMIT
    ours = of_bundle(tokenization)
    texts = [text for text in [*TEXTS, *ODD] if library(text)["input_ids"]]
    expected = library(texts, truncation=True)["input_ids"]
    assert [e.token_ids for e in ours.encode(texts, [-1] * len(texts))] == expected
    assert [tokenization.encode(text)["input_ids"] for text in texts] == expected
    if family in ("llama", "qwen", "qwen-embedding", "mistral", "gemma"):
        return  # no cross-encoders; and some put special tokens between the sides as no pair of theirs was seen
    pairs = [*PAIRS, (LONG, "fox"), ("fox", LONG), (LONG, LONG)]
    queries, documents = map(list, zip(*pairs, strict=True))
    theirs = library(queries, documents, truncation=True)
    encoded = encode_pairs(ours, queries, documents, [-1] * len(pairs))
    assert [e.token_ids for e in encoded] == theirs["input_ids"]
    zeros = [[0] * len(ids) for ids in theirs["input_ids"]]
    segments = theirs.get("token_type_ids", zeros)
    assert [e.type_ids or [0] * len(e.token_ids) for e in encoded] == segments


def without_flags(folder: Path) -> Path:
    """The files as transformers 5 writes them, whichever wrote them."""
    config = read_json(folder / "tokenizer_config.json")
    for key in ("add_bos_token", "add_eos_token", "added_tokens_decoder", "additional_special_tokens"):
        config.pop(key, None)
    config["tokenizer_class"] = config["tokenizer_class"].removesuffix("Fast")
    write_json(folder / "tokenizer_config.json", config)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    (folder / "added_tokens.json").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("as_backend", [False, True])
def test_the_closing_token_that_only_tokenizer_json_states(tmp_path, as_backend) -> None:
    folder = without_flags(saved("gemma", tmp_path))
    if as_backend:
        names = ["input_ids", "attention_mask"]
        edit_json(
            folder / "tokenizer_config.json", tokenizer_class="TokenizersBackend", model_input_names=names
        )
    tokenization = loaded(folder)
    vocabulary = json.loads(tokenization.file)["model"]["vocab"]
    assert tokenization.spec.prefix_ids == (vocabulary["<bos>"],)
    assert tokenization.spec.suffix_ids == (vocabulary["<eos>"],)
    ours = of_bundle(tokenization)
    for text in ["a fox", LONG]:
        (encoded,) = ours.encode([text], [-1])
        assert encoded.token_ids[-1] == vocabulary["<eos>"]
        assert tokenization.encode(text)["input_ids"] == encoded.token_ids


def test_flags_do_not_add_what_tokenizer_json_does_not_have(tmp_path) -> None:
    folder = saved("llama", tmp_path, add_eos_token=True)
    assert loaded(folder).spec.suffix_ids == ()


@pytest.mark.parametrize("extra", [["<a>", "<b>"], {"first_token": "<a>", "second_token": "<b>"}])
def test_extra_special_tokens_as_a_list_or_by_name(tmp_path, extra) -> None:
    folder = saved("xlm-roberta", tmp_path)
    edit_json(folder / "tokenizer_config.json", extra_special_tokens=extra)
    tokenization = loaded(folder)
    ours = of_bundle(tokenization)
    (encoded,) = ours.encode(["the <a> fox <b>"], [-1])
    ids = tokenization.tokenizer.convert_tokens_to_ids(["<a>", "<b>"])
    assert set(ids) <= set(encoded.token_ids)
    assert tokenization.encode("the <a> fox <b>")["input_ids"] == encoded.token_ids


def test_a_class_of_transformers_5_that_4_does_not_have(tmp_path) -> None:
    folder = without_flags(saved("modernbert", tmp_path))
    edit_json(folder / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    tokenization = loaded(folder)
    assert len(tokenization.spec.prefix_ids) == len(tokenization.spec.suffix_ids) == 1


def test_segment_ids_that_nothing_states(tmp_path) -> None:
    folder = saved("bert", tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    if not TRANSFORMERS_5:
        with pytest.raises(ExportError, match="does not state model_input_names.*transformers 5 gives none"):
            loaded(folder)
    else:
        assert not loaded(folder).spec.segments
    edit_json(
        folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask", "token_type_ids"]
    )
    assert loaded(folder).spec.segments


def test_special_tokens_in_texts_are_split_where_that_is_stated(tmp_path) -> None:
    folder = saved("bert", tmp_path, split_special_tokens=True)
    tokenization = loaded(folder)
    assert tokenization.spec.split_special_tokens
    text = "a [SEP] b [MASK]"
    (encoded,) = of_bundle(tokenization).encode([text], [-1])
    assert encoded.token_ids == tokenization.encode(text)["input_ids"]
    assert len(encoded.token_ids) > 8


def test_dropout_of_merges_is_for_training(tmp_path) -> None:
    folder = saved("roberta", tmp_path)
    stated = read_json(folder / "tokenizer.json")
    stated["model"]["dropout"] = 0.5
    write_json(folder / "tokenizer.json", stated)
    tokenization = loaded(folder)
    assert json.loads(tokenization.file)["model"]["dropout"] is None
    text = TEXTS[3]
    (encoded,) = of_bundle(tokenization).encode([text], [-1])
    assert {tuple(tokenization.encode(text)["input_ids"]) for _ in range(5)} == {tuple(encoded.token_ids)}


def test_a_key_that_no_version_of_transformers_reads_is_refused(tmp_path) -> None:
    folder = saved("bert", tmp_path, reverse_words=True)
    with pytest.raises(ExportError, match=r"tokenizer_config.json states reverse_words \(True\)"):
        loaded(folder)
    assert loaded(folder, ("reverse_words",)).spec.segments


def test_every_ignored_key_has_a_reason() -> None:
    from embedge_export.source import tokenizer_config

    assert not set(tokenizer_config._IGNORED) & set(tokenizer_config._BY_TRANSFORMERS)
    assert all(tokenizer_config._IGNORED.values())


@pytest.mark.skipif(not TRANSFORMERS_5, reason="about transformers 5")
def test_classes_that_give_segment_ids_are_those_of_transformers_5(tmp_path) -> None:
    import transformers

    from embedge_export.source.tokenizer_config import _SEGMENTED

    folder = saved("bert", tmp_path)
    for name in ("Bert", "DistilBert", "Electra", "MPNet", "MobileBert", "ConvBert", "SqueezeBert"):
        edit_json(folder / "tokenizer_config.json", tokenizer_class=f"{name}Tokenizer")
        given = transformers.AutoTokenizer.from_pretrained(str(folder)).model_input_names
        assert ("token_type_ids" in given) == (name in _SEGMENTED), name
