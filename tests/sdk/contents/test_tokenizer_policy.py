"""What tokenizer.json may hold: those of exports, and nothing that takes time or memory without end."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from tests import bundles
from tests.sdk.text import test_cuts

from embedge import BundleError, EdgeModel
from embedge._contents.patterns import UnsafePatternError, cost_of
from embedge._contents.tokenizer_policy import checked_tokenizer
from embedge._testing.tiny_model import VOCABULARY, tokenizer_json

NAME = "tokenizer.json"
CLASSES = (
    *(("word_piece", name) for name in ("Bert", "MPNet")),
    *(("byte_bpe", name) for name in ("roberta", "modernbert", "qwen", "qwen-embedding", "llama")),
    *(("unigram", name) for name in ("XLMRoberta", "Camembert", "Albert", "DebertaV2", "T5")),
    *(("byte_fallback", name) for name in ("mistral", "gemma")),
)


def check_unchanged(content: str) -> None:
    """It passes, and tokenizers reads of what is passed on what it reads of the file."""
    from tokenizers import Tokenizer

    passed = checked_tokenizer(content.encode(), NAME, vocab_size=1 << 20)
    stated = Tokenizer.from_str(content)
    stated.no_truncation()
    stated.no_padding()
    assert json.loads(Tokenizer.from_buffer(passed).to_str()) == json.loads(stated.to_str()) | {
        "decoder": None
    }


@pytest.mark.parametrize("name", [*test_cuts.CUT, *test_cuts.FROM_THE_RIGHT, *test_cuts.WHOLE])
def test_tokenizers_of_every_kind_pass(name) -> None:
    check_unchanged(({**test_cuts.CUT, **test_cuts.FROM_THE_RIGHT, **test_cuts.WHOLE})[name]())


@pytest.mark.parametrize(("make", "name"), CLASSES)
def test_tokenizers_of_published_classes_pass(make, name) -> None:
    pytest.importorskip("transformers")
    from tests.checkpoints import vocabularies

    check_unchanged(getattr(vocabularies, make)(name).backend_tokenizer.to_str())


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": None}},
        {
            "post_processor": {
                "type": "Sequence",
                "processors": [{"type": "ByteLevel", "trim_offsets": False}],
            }
        },
        {"post_processor": None, "normalizer": {"type": "Sequence", "normalizers": []}},
    ],
)
def test_rare_components_pass(changes) -> None:
    file = json.loads(tokenizer_json(special_tokens=True)) | changes
    passed = checked_tokenizer(json.dumps(file).encode(), NAME, vocab_size=len(VOCABULARY))
    assert {key: json.loads(passed)[key] for key in changes} == changes


def test_every_component_of_the_tokenizers_package_is_known() -> None:
    """A new one shows here: it needs a look before it is let in."""
    from tokenizers import models, normalizers, pre_tokenizers, processors

    from embedge._contents import tokenizer_grammar

    listed = {
        kind
        for module in (models, normalizers, pre_tokenizers, processors)
        for kind in dir(module)
        if kind[0].isupper()
    }
    abstract = {"Normalizer", "PreTokenizer", "PostProcessor", "Model", "Sequence", "NORMALIZERS"}
    assert {kind for kind in listed - abstract if not hasattr(tokenizer_grammar, kind)} == set()


def edited(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda file: file.update(fields)


def normalizers(*parts: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    return edited(normalizer={"type": "Sequence", "normalizers": list(parts)})


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(expression: str) -> Callable[[dict[str, Any]], Any]:
    return edited(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": expression},
            "behavior": "Isolated",
            "invert": False,
        }
    )


def model(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda file: file["model"].update(fields)


def template(**fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda file: file["post_processor"].update(fields)


def table(*texts: str) -> Callable[[dict[str, Any]], Any]:
    content = struct.pack("<I", 0) + b"\0".join(text.encode() for text in texts)
    return normalizers({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()})


def nested(levels: int) -> dict[str, Any]:
    inner = nested(levels - 1) if levels else {"type": "NFC"}
    return {"type": "Sequence", "normalizers": [inner]}


def add_token(file: dict[str, Any]) -> None:
    file["added_tokens"].append({**file["added_tokens"][0], "id": 900, "content": "[NEW]"})


TEXT_A = {"Sequence": {"id": "A", "type_id": 0}}
TEXT_B = {"Sequence": {"id": "B", "type_id": 0}}
HOSTILE = {
    "an unknown component": (edited(normalizer={"type": "Shout"}), "Shout"),
    "an unknown key": (edited(surprise=1), "unknown field `surprise`"),
    "an unknown key of a component": (edited(normalizer={"type": "NFC", "times": 9}), "unknown field `times`"),
    "a model without its vocabulary": (model(vocab=[]), "Expected `object`"),
    "words without end": (
        edited(model={
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": {},
            "max_input_chars_per_word": 10**9,
        }),
        "<= 1000",
    ),
    "pieces dropped by chance": (edited(model={"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.5}), "<= 0"),
    "a token without a row": (model(vocab={"[UNK]": 0, "the": 5000}), "token id 5000"),
    "a negative id": (model(vocab={"[UNK]": -1}), "token id -1"),
    "an added token without a row": (add_token, "token id 900"),
    "a template's token without a row": (
        template(special_tokens={"[CLS]": {"id": "[CLS]", "ids": [4000], "tokens": ["[CLS]"]}}),
        "token id 4000",
    ),
    "a processor's token without a row": (
        edited(post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 777]}), "token id 777",
    ),
    "a special token that is none": (
        template(pair=[TEXT_A, TEXT_B, {"SpecialToken": {"id": "[X]", "type_id": 0}}]), "'[X]', which is no special",
    ),
    "a text twice in its template": (template(single=[TEXT_A, TEXT_A]), "has the texts ['A', 'A']"),
    "a pair of one": (template(pair=[TEXT_A]), "template for a pair has the texts"),
    "two texts for one": (template(single=[TEXT_A, TEXT_B]), "template for a single has the texts"),
    "a piece of nothing": (template(single=[{}]), "neither a text nor a special token"),
    "ids without tokens": (
        template(special_tokens={
            "[CLS]": {"id": "[CLS]", "ids": [2, 2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
        }),
        "2 ids and 1 tokens",
    ),
    "a template without end": (template(single=[TEXT_A] * 1000), "length <= 64"),
    "replaced by more": (normalizers(replace("e" * 9, String="e")), "many times as long"),
    "replaced again and again": (normalizers(*[replace("ee", String="e")] * 4), "many times as long"),
    "put at every place": (normalizers(replace("eeeeeeee", Regex="x?")), "many times as long"),
    "taken apart again and again": (
        normalizers(*[replace("ﷺ", String="e"), {"type": "NFKD"}] * 3), "many times as long",
    ),
    "a table that makes it longer": (table("a", "b" * 3000), "many times as long"),
    "a table cut short": (
        edited(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}), "table of characters",
    ),
    "a table that is none": (edited(normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}), ""),
    "sequences within sequences": (edited(normalizer=nested(6)), "more than 4 deep"),
    "deep sequences": (edited(normalizer=nested(300)), ""),
    "many normalizers": (normalizers(*[nested(0)] * 64, {"type": "NFC"}), "length <= 64"),
    "many within": (
        normalizers(*[{"type": "Sequence", "normalizers": [{"type": "Strip"}] * 40}] * 2), "80 parts of one kind",
    ),
    "a repetition repeated": (split("(a+)+b"), "is itself one of several"),
    "an expression to replace": (normalizers(replace("x", Regex="(a*)*b")), "is itself one of several"),
    "no pattern": (normalizers({"type": "Replace", "pattern": {}, "content": ""}), "neither text nor"),
    "two patterns": (normalizers(replace("", Regex="a", String="b")), "neither text nor"),
    "no JSON": (None, "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_export_writes_is_refused(name) -> None:
    change, words = HOSTILE[name]
    file = json.loads(tokenizer_json(special_tokens=True))
    checked_tokenizer(json.dumps(file).encode(), NAME, vocab_size=len(VOCABULARY))
    if change is not None:
        change(file)
    content = json.dumps(file).encode() if change else b"{"
    with pytest.raises(BundleError, match="tokenizer.json is none that embedge exported") as caught:
        checked_tokenizer(content, NAME, vocab_size=len(VOCABULARY))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_large_files_are_refused_unread() -> None:
    with pytest.raises(BundleError, match="it has 134217729 bytes, more than 134217728"):
        checked_tokenizer(bytes((1 << 27) + 1), NAME, vocab_size=9)


def test_what_only_cuts_pads_or_decodes_is_not_passed_on() -> None:
    file = json.loads(tokenizer_json(special_tokens=True))
    padding = {
        "strategy": {"Fixed": 1 << 62},
        "direction": "Right",
        "pad_to_multiple_of": 1 << 60,
        "pad_id": 0,
    }
    file |= {
        "padding": padding,
        "decoder": {"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": "x" * 9999},
    }
    passed = json.loads(checked_tokenizer(json.dumps(file).encode(), NAME, vocab_size=len(VOCABULARY)))
    assert passed == file | {"padding": None, "decoder": None, "truncation": None}


def test_of_a_key_named_twice_only_what_was_looked_at_is_passed_on() -> None:
    content = tokenizer_json(special_tokens=True)
    hostile = (
        b'{"normalizer":{"type":"Replace","pattern":{"Regex":"'
        + b"(" * 50
        + b'"},"content":""},'
        + content[1:]
    )
    assert checked_tokenizer(hostile, NAME, vocab_size=len(VOCABULARY)) == checked_tokenizer(
        content, NAME, vocab_size=len(VOCABULARY)
    )


def test_a_bundle_is_refused_unless_its_maker_is_trusted(tiny) -> None:
    folder = tiny()
    path = folder / NAME
    file = json.loads(path.read_bytes())
    HOSTILE["replaced by more"][0](file)
    path.write_text(json.dumps(file))
    bundles.rewrite(folder)
    with pytest.raises(BundleError, match="many times as long.*open it with trust='any'"):
        EdgeModel(folder)
    with EdgeModel(folder, trust="any") as opened:
        assert opened.embed("good").numpy().shape == (1, 8)


PUBLISHED = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "CLIP": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "Bloom": r" ?[^(\s|[.,!?…。，、।۔،])]+",
    "DeepSeek": "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek's scripts": "[一-龥぀-ゟ゠-ヿ]+",
    "Falcon": "[0-9][0-9][0-9]",
    "molecules": r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>|\*|\$|\%[0-9]{2}|[0-9])",
    "spaces": r" {2,}",
    "SigLIP": r"[!\"\#\$%\&'\(\)\*\+,\-\.:;=\?@\[\\\]\^_`\{\|\}\~]",
    "options": r"(?i)a(?-i:b)(?<name>c)(?>d)(?<=e)(?<!f)\x{1F600}é\h{3}?",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_expressions_of_published_tokenizers_are_safe(name) -> None:
    from tokenizers import Regex

    Regex(PUBLISHED[name])
    cost_of(PUBLISHED[name])


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("(a|a)*b", "is itself one of several"),
        ("(a?)+", "is itself one of several"),
        ("(?:a{2,3}){2,}", "is itself one of several"),
        ("((a{1000}){1000}){1000}", "is itself one of several"),
        ("(a+){9}", "is itself one of several"),
        ("a{2}+", "is repeated"),
        ("a**", "is repeated"),
        (".*.*=", "too many repetitions"),
        (r"[\s\S]*[^a]+", "too many repetitions"),
        (r"\w+\s*\w+\s*x", "too many repetitions"),
        ("(?=a*)(?<=b*)c*d*", "too many repetitions"),
        ("(a|b)" * 14, "more than 10000 ways"),
        ("a{1001}", "of more than 1000"),
        ("a{2,5000}", "of more than 1000"),
        (r"(a)\1", "unknown escape"),
        (r"\g<0>", "unknown escape"),
        (r"(?<n>a)\k<n>", "unknown escape"),
        ("(?~a)", "a group of an unknown kind"),
        ("(?(1)a)", "a group of an unknown kind"),
        ("(?x) a", "a group of an unknown kind"),
        ("a(?i)b|c", "a group of an unknown kind"),
        ("(" * 20, "more than 16 deep"),
        ("(a", "is not closed"),
        ("a)", "was not opened"),
        ("[a", "is not closed"),
        ("[]a]", "is empty"),
        ("+a", "nothing is repeated"),
        ("a\\", "unknown escape"),
        ("a" * 9000, "more than 8192"),
    ],
)
def test_expressions_that_can_take_for_ever_are_refused(expression, words) -> None:
    with pytest.raises(UnsafePatternError, match=words):
        cost_of(expression)


@pytest.mark.parametrize(
    ("expression", "least"),
    [
        ("abc", 3),
        ("a?b", 1),
        ("a|bc", 1),
        ("(?=abc)d", 1),
        (r"\bx{3,5}$", 3),
        ("[a-c[d]]{2}", 2),
        ("a{,3}", 0),
        ("{", 1),
    ],
)
def test_the_least_that_an_expression_matches(expression, least) -> None:
    assert cost_of(expression).least == least
