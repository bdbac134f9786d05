"""A bundle is opened once: what happens to its files afterwards, or while it is loaded, never mixes two models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import bundles

from embedge import BundleError, EdgeModel, IntegrityError
from embedge._contents.pinned import PinnedFile
from embedge._contents.regular import read_regular
from embedge.bundle import check_files, open_bundle
from embedge.manifest import FileRecord, dump_manifest, fingerprint, load_manifest

TEXTS = [f"the river {'is cold ' * (i % 4)}" for i in range(64)]
DATA = "onnx/model.onnx_data"
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")


@pytest.fixture
def outside(tiny) -> Path:
    folder = tiny()
    bundles.move_weights_outside(folder)
    return folder


def opened(folder: Path, **arguments) -> EdgeModel:
    """Small calls on two threads, large ones on workers, whose session is opened at the first large call."""
    return EdgeModel(folder, device="cpu", threads=2, max_batch_tokens=32, **arguments)


def replaced(folder: Path, other: Path) -> None:
    folder.rename(folder.with_name(folder.name + ".gone"))
    shutil.copytree(other, folder)


def rows(model: EdgeModel) -> np.ndarray:
    return model.embed(TEXTS).numpy()


def test_weights_beside_the_graph_are_the_graphs_own(outside, tiny) -> None:
    with opened(outside) as model, opened(tiny()) as whole:
        np.testing.assert_array_equal(model.embed(TEXTS[:2]).numpy(), whole.embed(TEXTS[:2]).numpy())
        np.testing.assert_array_equal(rows(model), rows(whole))


def test_a_bundle_that_is_replaced_while_it_is_open(outside, tiny) -> None:
    other = tiny(seed=1)
    with opened(outside) as model:
        small = model.embed(TEXTS[3]).numpy()
        expected = np.concatenate([model.embed(text).numpy() for text in TEXTS])
        replaced(outside, other)
        np.testing.assert_allclose(rows(model), expected, atol=1e-6)
        np.testing.assert_array_equal(model.embed(TEXTS[3]).numpy(), small)


_AT_THE_END = """
import atexit
atexit.register(lambda: print(model.embed(TEXTS).numpy().tolist()))  # before embedge has handlers, so after all of them
from embedge import EdgeModel
TEXTS = {texts!r}
model = EdgeModel({folder!r}, device="cpu", threads=2, max_batch_tokens=32)
"""


def test_a_session_that_is_opened_at_the_end_of_a_process_still_has_its_files(outside) -> None:
    code = _AT_THE_END.format(texts=TEXTS, folder=str(outside))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    with opened(outside) as model:
        np.testing.assert_allclose(np.array(json.loads(done.stdout)), rows(model), atol=1e-6)


@pytest.mark.parametrize("change", [lambda data: bytes(len(data)), lambda data: data[:40]])
def test_weights_that_are_overwritten_while_they_are_open(outside, change) -> None:
    with opened(outside) as model:
        small = model.embed(TEXTS[3]).numpy()
        data = (outside / DATA).read_bytes()
        (outside / DATA).write_bytes(change(data))
        with pytest.raises(IntegrityError, match=r"onnx_data (was altered|has 40 bytes)"):
            rows(model)
        np.testing.assert_array_equal(model.embed(TEXTS[3]).numpy(), small)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_process_opens_what_its_parent_had_opened(outside, tiny) -> None:
    code = """
import os, shutil, sys
from embedge import EdgeModel
folder, other = sys.argv[1:]
model = EdgeModel(folder, device="cpu", threads=1)
before = model.embed("the river").numpy().tobytes()
shutil.rmtree(folder)
shutil.copytree(other, folder)
child = os.fork()
if child == 0:
    os._exit(0 if model.embed("the river").numpy().tobytes() == before else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, outside, tiny(seed=1)], check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_one_or_the_other(tiny, tmp_path) -> None:
    """A link is put onto the other bundle at some moment of each load, which has the numbers of what it states."""
    made = [tiny(seed=seed) for seed in (0, 1)]
    for folder in made:
        bundles.move_weights_outside(folder)
    expected, taken = {}, 0.0
    for folder in made:
        began = time.monotonic()
        with EdgeModel(folder, device="cpu", threads=1) as model:
            taken = time.monotonic() - began
            expected[model.info.fingerprint] = model.embed("the river").numpy()
    link, new = tmp_path / "bundle", tmp_path / "next"
    link.symlink_to(made[0])

    def swap(turn: int) -> None:
        new.symlink_to(made[turn % 2])
        new.replace(link)

    for turn in range(1, 26):
        swapping = threading.Timer(turn / 25 * taken, swap, [turn])
        swapping.start()
        # read again where two bundles were met: it is replaced once, so that every load succeeds
        with EdgeModel(link, device="cpu", threads=1) as model:
            np.testing.assert_array_equal(model.embed("the river").numpy(), expected[model.info.fingerprint])
        swapping.join()


def test_a_folder_that_is_replaced_while_a_file_of_it_is_opened_is_no_link_that_leaves(
    tmp_path, monkeypatch
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
    link, realpath = tmp_path / "bundle", os.path.realpath
    link.symlink_to(tmp_path / "old")

    def then_swap(path):
        found = realpath(path)
        (tmp_path / "next").symlink_to(tmp_path / "new")
        (tmp_path / "next").replace(link)
        return found

    monkeypatch.setattr(os.path, "realpath", then_swap)
    assert read_regular(link, "manifest.json", 100) == b"old"


@needs_posix
@pytest.mark.parametrize("name", ["tokenizer.json", "onnx/model.onnx", DATA])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: os.mkfifo(path), "is a folder, pipe or device; expected a regular file"),
        (lambda path: path.mkdir(), "is a folder, pipe or device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link that leaves the bundle"),
        (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_of_the_bundle_is_refused_at_once(outside, name, make, words) -> None:
    (outside / name).unlink()
    make(outside / name)
    with pytest.raises(BundleError, match=words):
        EdgeModel(outside)
    with pytest.raises(BundleError, match=words):
        check_files(open_bundle(outside))


@needs_posix
def test_a_link_inside_of_the_bundle_is_followed(outside) -> None:
    (outside / DATA).rename(outside / "weights")
    (outside / DATA).symlink_to("../weights")
    with opened(outside) as model:
        assert rows(model).shape == (64, 8)


def stated(folder: Path, name: str, path: Path) -> None:
    """Have the manifest list a file of any path as the tokenizer's neighbour, its size right and its hash not."""
    manifest = load_manifest(folder)
    spec = msgspec.structs.replace(manifest.variants["fp32"], data_files=(name,))
    record = FileRecord(size_bytes=path.stat().st_size, sha256="0" * 64)
    manifest = msgspec.structs.replace(
        manifest, variants={"fp32": spec}, files=manifest.files | {name: record}
    )
    manifest = msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))
    (folder / "manifest.json").write_bytes(dump_manifest(manifest))


@pytest.mark.parametrize(
    "form", ["../{0}", "/{1}", "onnx/../../{0}", "./tokenizer.json", "a//b", "C:\\secret", "a\0b"]
)
def test_names_that_leave_the_bundle_never_tell_a_hash(outside, form) -> None:
    secret = outside.parent / f"{outside.name}.secret"
    secret.write_text("password")
    stated(outside, form.format(secret.name, str(secret)[1:]), secret)
    with pytest.raises(BundleError, match="leaves the bundle") as caught:
        EdgeModel(outside)
    assert "5e884898da28" not in str(caught.value)


def test_weights_in_a_file_that_the_manifest_does_not_list(outside) -> None:
    def elsewhere(manifest):
        spec = msgspec.structs.replace(manifest.variants["fp32"], data_files=())
        files = {name: record for name, record in manifest.files.items() if name != DATA}
        return msgspec.structs.replace(manifest, variants={"fp32": spec}, files=files)

    bundles.rewrite(outside, elsewhere)
    with pytest.raises(
        BundleError, match=r"keeps weights in 'model.onnx_data', which the manifest does not list"
    ):
        EdgeModel(outside)


def test_weights_that_lie_beyond_their_file(outside) -> None:
    data = (outside / DATA).read_bytes()
    (outside / DATA).write_bytes(data[:-4])
    bundles.rewrite(outside)
    with pytest.raises(
        BundleError, match=r"expects .* at bytes \d+ to \d+ of onnx/model.onnx_data, which has"
    ):
        EdgeModel(outside)


def test_a_file_whose_size_is_wrong_is_not_read(outside) -> None:
    with (outside / "tokenizer.json").open("r+b") as stream:
        stream.truncate(1 << 40)  # a hole; reading it would take minutes
    with pytest.raises(IntegrityError, match="has 1099511627776 bytes"):
        EdgeModel(outside)


def test_without_hashes_altered_weights_are_used(outside) -> None:
    with (outside / DATA).open("r+b") as stream:
        stream.write(bytes(64))
    with pytest.raises(IntegrityError, match="onnx_data was altered"):
        EdgeModel(outside)
    with opened(outside, verify_hashes=False) as model:
        assert rows(model).shape == (64, 8)


@needs_posix
def test_what_cannot_be_read_or_does_not_fit(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    file = PinnedFile(tmp_path, "a", size_bytes=5, sha256="0" * 64)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(BundleError, match="a cannot be read: Input/output error"):
        file.read()
    monkeypatch.undo()
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 43)
    with pytest.raises(BundleError, match="do not fit into memory. Use a smaller variant"):
        PinnedFile(tmp_path, "huge", size_bytes=1 << 43, sha256="0" * 64).read()
    with pytest.raises(BundleError, match="has more than 4 bytes, which no a has"):
        read_regular(tmp_path, "a", 4)
