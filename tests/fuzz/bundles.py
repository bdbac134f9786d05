"""Cases that change a bundle's files: manifest.json, tokenizer.json, graphs, and single bytes of any."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import bytes_changed, changed
from tests.fuzz.places import DiffersError, Place

from embedge import EdgeModel
from embedge.bundle import check_files, open_bundle
from embedge.manifest import MANIFEST_FILE, TOKENIZER_FILE

GRAPH_FILE = "onnx/model.onnx"


class Manifests:
    """manifest.json: changed facts, signed or not, and changed bytes."""

    def __init__(self, scratch: Path) -> None:
        self._places = [
            Place(scratch / "plain"),
            Place(scratch / "dense", pooling=("CLS", "MEAN"), with_dense=True),
        ]

    def run(self, index: int, rng: random.Random) -> None:
        place = rng.choice(self._places)
        sound = (place.sound / MANIFEST_FILE).read_bytes()
        try:
            if (way := rng.randrange(10)) < 7:
                place.sign(changed(place.manifest, rng))
                place.check_numbers()
            elif way == 7:
                place.write(MANIFEST_FILE, json.dumps(changed(place.manifest, rng)).encode())
                place.compare()
            else:
                place.write(MANIFEST_FILE, bytes_changed(sound, rng))
                place.compare()
        finally:
            place.restore()


class Tokenizers:
    """tokenizer.json: changed components, components of other families, and changed bytes."""

    def __init__(self, scratch: Path) -> None:
        self._place = Place(scratch)
        self._sound = (self._place.sound / TOKENIZER_FILE).read_bytes()

    def run(self, index: int, rng: random.Random) -> None:
        try:
            if rng.randrange(5):
                file = json.loads(self._sound)
                for _ in range(rng.randrange(3)):
                    _give_component(file, rng)
                content = json.dumps(changed(file, rng) if rng.randrange(4) else file).encode()
            else:
                content = bytes_changed(self._sound, rng)
            self._place.write(TOKENIZER_FILE, content)
            self._place.sign()
            self._place.check_numbers()
        finally:
            self._place.restore()


_NORMALIZERS: tuple[dict[str, Any], ...] = (
    *(
        {"type": name}
        for name in ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "ByteLevel")
    ),
    {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": "x"},
    {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 900},
    {
        "type": "Precompiled",
        "precompiled_charsmap": "AAEAAP///////////////////////////////////////////////w==",
    },
)
_PRE_TOKENIZERS: tuple[dict[str, Any], ...] = (
    *({"type": name} for name in ("BertPreTokenizer", "UnicodeScripts", "Whitespace", "WhitespaceSplit")),
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "CharDelimiterSplit", "delimiter": "a"},
    {"type": "Digits", "individual_digits": True},
    {"type": "FixedLength", "length": 3},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Punctuation", "behavior": "Isolated"},
    {"type": "Split", "pattern": {"Regex": r"\s+(?!\S)|\s+|\p{L}+"}, "behavior": "Isolated", "invert": False},
    {"type": "Split", "pattern": {"Regex": "(?:.|.)*=(?<x>.)"}, "behavior": "Removed", "invert": True},
)
_MODELS: tuple[dict[str, Any], ...] = (
    {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["river", -2.0]], "byte_fallback": False},
    {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
     "vocab": {"[UNK]": 1, "the": 2, "##r": 3}},
    {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
     "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
     "vocab": {"[UNK]": 1, "t": 2, "h": 3, "th": 4}, "merges": [["t", "h"]]},
)  # fmt: skip


def _give_component(file: dict[str, Any], rng: random.Random) -> None:
    kind = rng.choice(["normalizer", "pre_tokenizer", "model"])
    if kind == "model":
        file["model"] = json.loads(json.dumps(rng.choice(_MODELS)))
        return
    known = _NORMALIZERS if kind == "normalizer" else _PRE_TOKENIZERS
    members = "normalizers" if kind == "normalizer" else "pretokenizers"
    parts = [json.loads(json.dumps(rng.choice(known))) for _ in range(rng.choice([1, 1, 2, 5, 30]))]
    file[kind] = parts[0] if len(parts) == 1 else {"type": "Sequence", members: parts}


class Flips:
    """Each byte of each file of a bundle, one bit of it turned; of manifest.json every bit."""

    def __init__(self, scratch: Path) -> None:
        self._place = Place(scratch, with_dense=True)
        files = sorted(path for path in self._place.sound.rglob("*") if path.is_file())
        self._names = [path.relative_to(self._place.sound).as_posix() for path in files]
        self._cases = [
            (name, at, bit)
            for name, path in zip(self._names, files, strict=True)
            for at in range(path.stat().st_size)
            for bit in (range(8) if name == MANIFEST_FILE else (at % 8,))
        ]

    def __len__(self) -> int:
        return len(self._cases)

    def run(self, index: int, rng: random.Random) -> None:
        name, at, bit = self._cases[index]
        content = bytearray((self._place.sound / name).read_bytes())
        content[at] ^= 1 << bit
        try:
            self._place.write(name, bytes(content))
            EdgeModel(self._place.folder, device="cpu", threads=1).close()
            check_files(open_bundle(self._place.folder))  # those that a model does not read
        finally:
            self._place.restore()
        raise DiffersError(f"bit {bit} of byte {at} of {name} was turned, and nobody saw it")
