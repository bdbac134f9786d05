"""manifest.json: every byte of it counts, and whatever it holds ends in one of our sentences."""

from __future__ import annotations

import hashlib
import json
import random

import msgspec
import pytest

from embedge import BundleError, EdgeModel, ManifestError
from embedge.bundle import check_files, open_bundle
from embedge.manifest import Manifest, dump_manifest, fingerprint, load_manifest


def test_every_flipped_bit_of_a_manifest_is_noticed(tiny) -> None:
    path = tiny() / "manifest.json"
    written = path.read_bytes()
    load_manifest(path.parent)
    unnoticed = []
    for position in range(len(written)):
        for bit in (1 << (position % 8), 1 << ((position + 3) % 8), 0xFF):
            path.write_bytes(written[:position] + bytes([written[position] ^ bit]) + written[position + 1 :])
            try:
                load_manifest(path.parent)
                unnoticed.append((position, bit))
            except ManifestError as error:
                assert "\n" not in str(error)  # noqa: PT017
    assert unnoticed == []


def test_every_flipped_byte_of_a_bundle_is_noticed(tiny) -> None:
    folder = tiny("embed", with_dense=True)
    bundle = open_bundle(folder)
    draw = random.Random(0)
    for name in bundle.manifest.files:
        path = folder / name
        written = path.read_bytes()
        for position in draw.sample(range(len(written)), min(len(written), 60)):
            path.write_bytes(written[:position] + bytes([written[position] ^ 1]) + written[position + 1 :])
            with pytest.raises(BundleError, match="was altered"):
                check_files(bundle, [name])
        path.write_bytes(written)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"name"', '"name": "other", "name"', 1),
        lambda text: text.replace("{", "{ ", 1),
        lambda text: text + "\n",
        lambda text: json.dumps(json.loads(text)),
        lambda text: text.replace('"num_texts": 1', '"num_texts": 9', 1),
    ],
)
def test_another_form_of_the_same_facts_is_a_change(tiny, change) -> None:
    path = tiny() / "manifest.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(
        ManifestError, match="was changed after export: its content does not match its checksum"
    ):
        load_manifest(path.parent)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b'{"schema_version": "\xff"}', b"[" * 100_000, b'{"schema_version": 1e999}', b"null", b"3",
     b'{"schema_version": 3, "a": "\x1b[31m"}', b'{"schema_version": 99999999999999999999999}', b"{\"\x1b[2J\": "],
)  # fmt: skip
def test_bytes_that_are_no_manifest(tiny, content) -> None:
    path = tiny() / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(
        ManifestError, match=r"manifest.json (is not a valid manifest|has schema_version)"
    ) as caught:
        EdgeModel(path.parent)
    assert str(caught.value).isprintable()


def test_a_manifest_that_no_file_system_would_end(tiny) -> None:
    path = tiny() / "manifest.json"
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ManifestError, match="has more than 8000000 bytes"):
        load_manifest(path.parent)


def some_changes(value, draw: random.Random):
    """The value with one of its parts replaced, doubled, moved or removed."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        return {**value, key: some_changes(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        index = draw.randrange(len(value))
        return [*value[:index], some_changes(value[index], draw), *value[index + 1 :]]
    return draw.choice(
        [
            None,
            True,
            0,
            -1,
            1 << 70,
            1e308,
            "",
            "../x",
            "\x1b[31m",
            "a" * 5000,
            [],
            {},
            [value] * 3,
            {"type": value},
        ]
    )


def test_random_changes_with_hashes_that_fit_end_in_our_words(tiny) -> None:
    """Who makes a bundle can make its hashes fit, too."""
    written = json.loads((tiny() / "manifest.json").read_text())
    written.pop("checksum")
    draw = random.Random(1)
    folder = tiny()
    loaded = 0
    for _ in range(300):
        changed = some_changes(written, draw)
        try:
            manifest = msgspec.convert(changed, Manifest)
        except (msgspec.ValidationError, TypeError):
            continue
        manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
        (folder / "manifest.json").write_bytes(dump_manifest(manifest))
        try:
            with EdgeModel(folder, device="cpu", threads=1) as model:
                model.encode(["good"])
            loaded += 1
        except Exception as error:
            from embedge import EmbedgeError

            if not isinstance(error, EmbedgeError):
                raise AssertionError(f"{type(error).__name__} from {changed}") from error
    assert loaded


def later(path, may_be_unknown: list[str], **fields: object) -> None:
    """Write a manifest as a later version would: with fields that are unknown here, and a checksum that fits."""
    manifest = load_manifest(path.parent)
    stated = json.loads(path.read_bytes()) | {"may_be_unknown": may_be_unknown} | fields
    stated["fingerprint"] = fingerprint(manifest)
    stated["checksum"] = "0" * 64
    content = msgspec.json.format(msgspec.json.encode(stated), indent=2) + b"\n"
    path.write_bytes(content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode()))


def test_a_later_field_that_cannot_change_a_number_is_passed_over(tiny) -> None:
    folder = tiny()
    known = load_manifest(folder)
    later(folder / "manifest.json", ["colour"], colour={"of": ["the", "sky"]})
    with EdgeModel(folder) as model:
        assert model.info.fingerprint == known.fingerprint
    content = (folder / "manifest.json").read_bytes()
    for before, after in (
        (b'"sky"', b'"sea"'),
        (b'"colour": {', b'"colour":  {'),
        (b'"max_seq_len"', b'"max_seq_lem"'),
    ):
        assert before in content
        (folder / "manifest.json").write_bytes(content.replace(before, after))
        with pytest.raises(ManifestError):
            load_manifest(folder)


def test_a_later_field_that_may_change_one_is_refused(tiny) -> None:
    folder = tiny()
    later(folder / "manifest.json", ["colour"], colour=1, shape=2)
    with pytest.raises(ManifestError, match="shape"):
        load_manifest(folder)
    known = tiny(
        "embed", changes={"may_be_unknown": ("pooling",)}
    )  # a known one counts, whatever is said of it
    assert load_manifest(known).pooling is not None


def test_a_bundle_has_a_version_of_its_own(tiny) -> None:
    one, two = (tiny("embed", changes={"version": version}) for version in ("1.0", "1.1"))
    assert load_manifest(one).version == "1.0"
    assert load_manifest(one).fingerprint != load_manifest(two).fingerprint
