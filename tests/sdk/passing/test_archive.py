"""Bundles as archives, into the store and out of it: whole and checked, or a sentence and nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.export.hub_server import serve as serve_hub
from tests.sdk.passing.web import serve

from embedge import EdgeModel, store
from embedge._passing import downloading
from embedge.archive import add, pack
from embedge.cli.main import main
from embedge.errors import BundleError, EmbedgeError, IntegrityError, ManifestError, ParamsError
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(downloading, "_PAUSE_S", 0.001)
    return tmp_path / "home"


@pytest.fixture
def bundle(tmp_path) -> Path:
    return tiny_bundle(tmp_path / "made" / "tiny", "embed")


@pytest.fixture
def packed(bundle, tmp_path) -> Path:
    return pack(bundle, tmp_path / "tiny.embedge")


@pytest.fixture
def web(packed):
    with serve() as web:
        web.files["/tiny.embedge"] = packed.read_bytes()
        web.tags["/tiny.embedge"] = '"one"'
        yield web


def left(home: Path) -> list[str]:
    """Everything in the store that is no bundle's."""
    return sorted(
        path.name for path in home.rglob("*") if path.name.startswith(".") and path.name != ".downloads"
    )


def vector(model: object) -> list[float]:
    with EdgeModel(str(model)) as opened:
        return opened.embed("hello world").numpy()[0].tolist()


def test_an_archive_is_the_same_bytes_each_time_and_holds_what_the_manifest_lists(bundle, packed, tmp_path):
    bundle.joinpath("notes.txt").write_text("not of the bundle")
    os.utime(bundle / "manifest.json", (1, 1))
    assert pack(bundle, tmp_path / "again.embedge").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == ["manifest.json", *sorted(load_manifest(bundle).files)]


@pytest.mark.parametrize("suffix", [".zip", ""])
def test_an_archive_is_named_as_one_and_replaces_nothing(bundle, packed, tmp_path, suffix):
    with pytest.raises(BundleError, match=r"does not end in \.embedge"):
        pack(bundle, tmp_path / f"x{suffix}")
    with pytest.raises(BundleError, match="is there already"):
        pack(bundle, packed)
    assert pack(bundle, packed, overwrite=True) == packed


def test_an_altered_bundle_is_not_packed(bundle, tmp_path):
    file = bundle / "tokenizer.json"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"tokenizer\.json"):
        pack(bundle, tmp_path / "x.embedge")
    assert not list(tmp_path.glob("*.embedge*"))


def test_what_is_added_answers_as_what_was_packed(bundle, packed, web, home):
    expected = vector(bundle)
    name = load_manifest(bundle).name
    for what in (packed, bundle, f"{web.url}/tiny.embedge"):
        folder = add(what)
        assert folder == home / name
        assert vector(name) == expected
        assert left(home) == []
        store.remove(name)
    assert list(home.rglob("*")) == [home / ".downloads"]


def test_the_same_bundle_stays_and_another_is_refused(bundle, packed, home, tmp_path):
    folder = add(packed)
    before = folder.stat().st_ino
    assert add(packed).stat().st_ino == before
    other = tiny_bundle(tmp_path / "other", "embed", seed=1)
    with pytest.raises(BundleError, match="already holds a bundle"):
        add(other)
    assert load_manifest(add(other, force=True)).fingerprint == load_manifest(other).fingerprint
    assert left(home) == []


def test_a_place_in_the_store_that_holds_something_else(packed, home):
    home.mkdir()
    (home / "mine").write_text("a note")
    with pytest.raises(BundleError, match="mine is a file or link; expected a folder to write the bundle to"):
        add(packed, name="mine", force=True)
    (home / "yours").mkdir()
    (home / "yours" / "note").write_text("a note")
    with pytest.raises(BundleError, match="yours is not empty and no bundle; expected a new folder"):
        add(packed, name="yours", force=True)
    assert (home / "mine").read_text() == (home / "yours" / "note").read_text() == "a note"
    assert left(home) == []


def test_a_fingerprint_pins(bundle, packed, home):
    known = load_manifest(bundle).fingerprint
    with pytest.raises(BundleError, match="was expected"):
        add(packed, fingerprint="0" * 64)
    assert store.list_bundles() == []
    with pytest.raises(ParamsError, match="12 to 64"):
        add(packed, fingerprint="ABC")
    assert add(packed, fingerprint=known[:12]).is_dir()


def test_names_keep_their_organisation(packed, home):
    add(packed, name="one/tiny")
    assert vector("one/tiny") == vector("tiny")
    with pytest.raises(BundleError, match="no bundle at 'evil/tiny'"):
        EdgeModel("evil/tiny")
    add(packed, name="other/tiny")
    with pytest.raises(BundleError, match="several bundles .*one/tiny, other/tiny"):
        EdgeModel("tiny")
    assert [store.name_of(folder) for folder in store.list_bundles()] == ["one/tiny", "other/tiny"]
    store.remove("one/tiny")
    assert not (home / "one").exists()
    assert vector("tiny") == vector("other/tiny")


@pytest.mark.parametrize("name", ["a/b/c", "../x", "x/../y", ".x", "x/", "", "x" * 201])
def test_names_that_leave_the_store_are_refused(packed, home, name):
    with pytest.raises(BundleError, match="is no bundle name"):
        add(packed, name=name)
    assert left(home) == []


@pytest.mark.parametrize("kind", [KeyError, ValueError, RuntimeError, EOFError, OSError])
def test_what_progress_raises_is_its_callers_and_leaves_nothing(bundle, packed, home, kind):
    error = kind("the caller's own")

    def progress(*_: int) -> None:
        raise error

    for call in (lambda: add(packed, progress=progress), lambda: add(bundle, progress=progress)):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value is error
    with pytest.raises(kind):
        pack(bundle, packed.with_name("other.embedge"), progress=progress)
    assert not list(packed.parent.glob("*other*"))
    assert left(home) == []
    assert store.list_bundles() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_is_not_waited_for(home, tmp_path):
    os.mkfifo(tmp_path / "pipe.embedge")
    with pytest.raises(BundleError, match="is no archive of a bundle: it is no regular file"):
        add(tmp_path / "pipe.embedge")


def altered(packed: Path, change) -> Path:
    """The archive once more, with entries changed."""
    with zipfile.ZipFile(packed) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change(entries)
    target = packed.with_name("altered.embedge")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files.update({"../evil": b"x"}), "does not list"),
        (lambda files: files.update({"/etc/evil": b"x"}), "does not list"),
        (lambda files: files.update({"extra.txt": b"x"}), "does not list"),
        (lambda files: files.pop("tokenizer.json"), "lacks tokenizer.json"),
        (lambda files: files.update({"tokenizer.json": b"{}"}), "is not the file that the manifest lists"),
        (lambda files: files.update({"tokenizer.json": files["tokenizer.json"] + b" "}), "more"),
        (lambda files: files.update({"manifest.json": b"{}"}), "manifest"),
        (lambda files: files.pop("manifest.json"), "has no manifest.json"),
    ],
)
def test_an_archive_of_something_else_leaves_nothing(packed, home, tmp_path, change, words):
    with pytest.raises(EmbedgeError, match=words) as caught:
        add(altered(packed, change))
    assert "Traceback" not in str(caught.value)
    assert store.list_bundles() == []
    assert left(home) == []
    assert not (tmp_path / "evil").exists()


def compressed(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        archive.writestr(name, content, zipfile.ZIP_DEFLATED)


def doubled(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for name, content in [*files.items(), ("tokenizer.json", b"{}")]:
        archive.writestr(name, content)


def crowded(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for number in range(10_001):
        archive.writestr(str(number), b"")


def stretched(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    archive.writestr("manifest.json", files["manifest.json"] + b" " * 8_000_000)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (compressed, "is compressed or encrypted"),
        (doubled, "has two entries of one name"),
        (crowded, "has 10001 entries"),
        (stretched, "has more than 8000000 bytes, which none has"),
    ],
)
def test_an_archive_that_another_program_wrote(bundle, packed, home, write, words):
    files = {"manifest.json": (bundle / "manifest.json").read_bytes()}
    files |= {name: (bundle / name).read_bytes() for name in load_manifest(bundle).files}
    with zipfile.ZipFile(packed, "w") as archive:
        write(archive, files)
    with pytest.raises(BundleError, match=words):
        add(packed)
    assert store.list_bundles() == []
    assert left(home) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
@pytest.mark.parametrize("change", ["gone", "pipe"])
def test_a_folder_that_lacks_a_file(bundle, home, change):
    file = bundle / "tokenizer.json"
    file.unlink()
    if change == "pipe":
        os.mkfifo(file)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        add(bundle)
    assert store.list_bundles() == []
    assert left(home) == []


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.9, -1])
def test_half_an_archive_is_refused(packed, home, cut):
    content = packed.read_bytes()
    half = content[: int(len(content) * cut) if isinstance(cut, float) else cut]
    packed.write_bytes(half)
    with pytest.raises(BundleError, match="is no archive of a bundle"):
        add(packed)
    assert store.list_bundles() == []


def test_every_altered_byte_is_found(packed, home):
    """A sample of them; what is no part of a file, such as a time, may differ."""
    content = packed.read_bytes()
    expected = None
    for place in range(0, len(content), max(1, len(content) // 60)):
        packed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            folder = add(packed, force=True)
        except (BundleError, IntegrityError, ManifestError):
            continue
        found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        expected = expected or found
        assert found == expected


def test_a_download_goes_on_where_it_was_broken_off(web, home, bundle):
    web.break_after = [1000, 500]
    told = []
    folder = add(f"{web.url}/tiny.embedge", progress=lambda done, total: told.append((done, total)))
    assert web.ranges == ["", "bytes=1000-", "bytes=1500-"]
    assert load_manifest(folder).fingerprint == load_manifest(bundle).fingerprint
    size = len(web.files["/tiny.embedge"])
    assert (size, size) in told
    assert left(home) == []


@pytest.mark.parametrize("content", [b"<html>Sign in first</html>", None])
def test_a_whole_download_that_is_no_bundle_is_named_by_its_url_and_not_kept(web, home, content):
    whole = web.files["/tiny.embedge"]
    web.files["/tiny.embedge"] = content or whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    with pytest.raises(BundleError, match=re.escape(f"{web.url}/tiny.embedge is no")):
        add(f"{web.url}/tiny.embedge")
    assert list((home / ".downloads").iterdir()) == []
    web.files["/tiny.embedge"] = whole
    add(f"{web.url}/tiny.embedge")


def test_another_file_by_then_is_fetched_from_its_beginning(web, home, tmp_path):
    web.break_after = [1000] * 5
    with pytest.raises(BundleError, match="goes on with it|broke off"):
        add(f"{web.url}/tiny.embedge")
    other = tiny_bundle(tmp_path / "other", "embed", seed=2)
    web.files["/tiny.embedge"] = pack(other, tmp_path / "other.embedge").read_bytes()
    web.tags["/tiny.embedge"] = '"two"'
    folder = add(f"{web.url}/tiny.embedge")
    assert load_manifest(folder).fingerprint == load_manifest(other).fingerprint


def test_a_server_that_says_no_or_nothing(web, home):
    with pytest.raises(BundleError, match="answers 404"):
        add(f"{web.url}/nothing.embedge")
    with pytest.raises(BundleError, match="cannot be fetched"):
        add("http://127.0.0.1:9/x.embedge")
    with pytest.raises(BundleError, match="is not encrypted"):
        add("http://models.example/x.embedge")
    assert store.list_bundles() == []


@pytest.mark.parametrize(
    "url", ["http://[::1/x.embedge", "https://localhost:port/x.embedge", "https://localhost/a b"]
)
def test_what_is_no_url(home, url, capsys):
    assert main(["add", url]) == 1
    error = capsys.readouterr().err
    assert "is no URL" in error
    assert error.count("\n") == 1


def test_a_server_may_send_elsewhere_but_not_where_it_could_be_changed_on_the_way(web, home, bundle):
    web.moved["/latest"] = "/tiny.embedge"
    web.moved["/away"] = "http://models.example/tiny.embedge"
    assert load_manifest(add(f"{web.url}/latest")).fingerprint == load_manifest(bundle).fingerprint
    with pytest.raises(BundleError, match=r"http://models\.example/tiny\.embedge is not encrypted"):
        add(f"{web.url}/away", force=True)
    with pytest.raises(
        BundleError, match="cannot be fetched"
    ):  # it may come by any way, and there is no such host
        add(f"{web.url}/away", fingerprint=load_manifest(bundle).fingerprint)


def test_a_download_that_the_time_of_its_last_change_tells_from_another(web, home, bundle):
    del web.tags["/tiny.embedge"]
    web.changed["/tiny.embedge"] = "Wed, 21 Oct 2015 07:28:00 GMT"
    web.break_after = [1000]
    assert load_manifest(add(f"{web.url}/tiny.embedge")).fingerprint == load_manifest(bundle).fingerprint
    assert web.ranges == ["", "bytes=1000-"]


@pytest.mark.parametrize(
    ("facts", "ranges"), [("as they were", ["bytes={size}-", ""]), ("damaged", [""]), ("gone", [""])]
)
def test_what_an_earlier_process_left_is_whole_or_begun_anew(web, home, bundle, facts, ranges):
    web.break_after = [1000] * 5
    with pytest.raises(BundleError, match="broke off"):
        add(f"{web.url}/tiny.embedge")
    web.ranges.clear()
    (part,), (stated,) = ((home / ".downloads").glob(each) for each in ("*.part", "*.json"))
    part.write_bytes(web.files["/tiny.embedge"])  # it came whole, and the process ended before it was read
    if facts == "damaged":
        stated.write_text("{")
    elif facts == "gone":
        stated.unlink()
    assert load_manifest(add(f"{web.url}/tiny.embedge")).fingerprint == load_manifest(bundle).fingerprint
    assert web.ranges == [each.format(size=len(web.files["/tiny.embedge"])) for each in ranges]


def test_what_is_none_of_these(home, tmp_path):
    for what, words in {
        "nothing here": "is no file or folder here",
        str(tmp_path / "x.embedge"): "there is no",
        str(tmp_path): "is no bundle",
    }.items():
        with pytest.raises(BundleError, match=words):
            add(what)


def add_from_hub(url: str, what: str, tmp_path: Path) -> tuple[str, str]:
    told = {"HF_ENDPOINT": url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "embedge", "add", what],
        capture_output=True, text=True, check=False, env=os.environ | told,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr


def test_a_hub_that_has_a_bundle(bundle, home, tmp_path):
    with serve_hub() as hub:
        hub.add("org/tiny-bundle", bundle)
        folder, _ = add_from_hub(hub.url, "org/tiny-bundle", tmp_path)
        assert Path(folder) == home / "org" / "tiny-bundle"
        assert vector("org/tiny-bundle") == vector(bundle)
        commit = hub.heads["org/tiny-bundle", "main"]
        assert add_from_hub(hub.url, f"org/tiny-bundle@{commit}", tmp_path)[0] == folder
        _, error = add_from_hub(hub.url, "org/nothing", tmp_path)
        assert error.count("\n") == 1
        assert "cannot be fetched" in error
        checkpoint = tmp_path / "checkpoint"
        checkpoint.mkdir()
        checkpoint.joinpath("config.json").write_text("{}")
        hub.add("org/checkpoint", checkpoint)
        assert "embedge export org/checkpoint" in add_from_hub(hub.url, "org/checkpoint", tmp_path)[1]


def test_the_commands(bundle, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pack", str(bundle)]) == 0
    assert capsys.readouterr().out == "tiny.embedge\n"
    assert main(["add", "tiny.embedge", "--name", "org/tiny"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{home / 'org' / 'tiny'}\n"
    assert load_manifest(bundle).fingerprint in err
    assert main(["list", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["org/tiny"]
    assert main(["rm", "tiny"]) == 0
    assert main(["rm", "tiny"]) == 1
    assert "no bundle is named 'tiny'" in capsys.readouterr().err
    for folder in (str(bundle), os.path.relpath(bundle)):
        assert main(["rm", folder]) == 1
    assert "is a folder outside of the store" in capsys.readouterr().err
    assert bundle.is_dir()
