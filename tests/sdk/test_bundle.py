"""Bundle folders: what is listed, where the store is, replaying probes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import bundles

from embedge import BundleError, EdgeModel, IntegrityError, ManifestError
from embedge._locking import hold_file
from embedge.archive import add
from embedge.manifest import (
    PROBES_FILE,
    DenseSpec,
    Probe,
    Probes,
    load_manifest,
    load_probes,
)
from embedge.store import bundle_path, check_target, home, list_bundles, remove
from embedge.verify import verify


def test_a_file_that_the_manifest_does_not_list(load) -> None:
    dense = DenseSpec(file="modules/9.npz", in_features=8, out_features=8)
    with pytest.raises(
        IntegrityError, match=r"modules/9.npz is not among the files that the manifest"
    ) as caught:
        load(bundle={"changes": {"modules": (dense,)}})
    assert caught.value.file == "modules/9.npz"


def test_a_manifest_that_cannot_be_read_or_does_not_say_who_wrote_it(tiny, tmp_path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(
        ManifestError, match="manifest.json is a folder, pipe or device; expected a regular file"
    ):
        load_manifest(tmp_path)
    path = tiny() / "manifest.json"
    written = json.loads(path.read_text())
    for exporter in (None, {}, {"embedge": 3}):
        path.write_text(json.dumps(written | {"schema_version": 99, "exporter": exporter}))
        with pytest.raises(ManifestError, match="schema_version 99"):
            load_manifest(path.parent)


@pytest.mark.parametrize(
    ("platform", "variables", "parts"),
    [
        ("linux", {}, ("user", ".local", "share", "embedge")),
        ("linux", {"XDG_DATA_HOME": "/data"}, ("/", "data", "embedge")),
        ("darwin", {}, ("user", "Library", "Application Support", "embedge")),
        ("win32", {}, ("user", "AppData", "Local", "embedge")),
        ("win32", {"LOCALAPPDATA": "/local"}, ("/", "local", "embedge")),
        ("linux", {"EMBEDGE_HOME": "/store"}, ("/", "store")),
    ],
)
def test_the_store_is_where_the_platform_keeps_data(monkeypatch, platform, variables, parts) -> None:
    for name in ("EMBEDGE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("user"))
    assert home().parts == parts


def test_names_in_the_store(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "none"))
    assert list_bundles() == []
    assert bundle_path("org/model-1.5") == tmp_path / "none" / "org" / "model-1.5"
    for name in ("a b", "..", "org/.hidden", ""):
        with pytest.raises(BundleError, match="is no bundle name; expected at most 200 letters"):
            bundle_path(name)
    for name in ("con", "NUL", "org/com1.model", "model."):
        with pytest.raises(BundleError, match="Windows has no folder that is named"):
            bundle_path(name)
    assert bundle_path("connect/com10").name == "com10"


def test_a_store_that_is_a_file_or_cannot_be_made(tmp_path, monkeypatch, tiny) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "file"))
    for ask in (list_bundles, lambda: EdgeModel("model"), lambda: remove("model")):
        with pytest.raises(BundleError, match="the bundle store .*file is a file; expected a folder"):
            ask()
    with pytest.raises(BundleError, match="no bundle at 'a/b/c'"):
        EdgeModel("a/b/c")
    with pytest.raises(BundleError, match="cannot be written: .*file is a file; expected a folder"):
        add(str(tiny()))
    for store, words in ((tmp_path / "file" / "below", "is a file"), (tmp_path / ("x" * 300), "too long")):
        monkeypatch.setenv("EMBEDGE_HOME", str(store))
        with pytest.raises(BundleError, match=rf"cannot be written: .*{words}.* [Ee]xpected a"):
            add(str(tiny()))
    with pytest.raises(BundleError, match="file is a file; expected a folder"):
        check_target(tmp_path / "file" / "some" / "bundle", force=False)


def test_a_bundle_that_is_being_written_is_not_removed(tmp_path, monkeypatch, tiny) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    folder = add(tiny(), name="mine")
    with hold_file(folder.with_name(".mine.export-lock")) as is_held:
        assert is_held
        with pytest.raises(BundleError, match="mine is being written by another process. Wait until"):
            remove("mine")
    assert folder.is_dir()
    assert remove("mine") == folder
    assert not folder.exists()


def with_probes(folder: Path, *probes: Probe, tolerance: float = 1e-5) -> Path:
    (folder / PROBES_FILE).write_bytes(
        msgspec.json.encode(Probes(tolerances={"fp32": tolerance}, probes=probes))
    )
    bundles.rewrite(folder)
    return folder


def test_probes_that_cannot_be_read(tiny) -> None:
    folder = tiny()
    (folder / PROBES_FILE).write_bytes(b'{"tolerances": 3}')
    with pytest.raises(ManifestError, match=r"probes.json is not valid: .*Export the model again"):
        load_probes(folder)
    (folder / PROBES_FILE).unlink()
    with pytest.raises(ManifestError, match=r"probes.json cannot be read: No such file"):
        load_probes(folder)


def test_a_probe_of_another_shape_fails(tiny) -> None:
    (report,) = verify(with_probes(tiny(), Probe(task="embed", prompt="good", expected=(1.0, 2.0))))
    assert report.max_abs_diff == float("inf")
    assert not report.passed


def test_probes_of_pairs_scores_and_late_interaction(load, tiny) -> None:
    """Probes hold what comes before cut, normalisation and activation, whatever the bundle's defaults are."""
    raw = {"use_activation": False}
    cross = load("cross_encoder")
    from embedge import PoolingParams

    logit = float(cross.score("river", "good", pooling_params=PoolingParams(**raw)).numpy()[0])
    pair = Probe(task="score", prompt="river", document="good", expected=(logit,))
    same = Probe(task="classify", prompt="river", document="good", expected=(logit,))
    (report,) = verify(with_probes(tiny("cross_encoder"), pair, same))
    assert report.passed
    assert report.num_probes == 2
    late = load("late_interaction")
    value = float(late.score("river", "good").numpy()[0])
    probe = Probe(task="score", prompt="river", document="good", expected=(value,))
    (report,) = verify(with_probes(tiny("late_interaction"), probe))
    assert report.passed
    model = load(bundle={"changes": {"matryoshka": True, "prompts": {"query": "the "}}})
    row = model.embed("good", prompt_name="query", pooling_params=PoolingParams(normalize=False)).numpy()[0]
    probe = Probe(task="embed", prompt="good", prompt_name="query", expected=tuple(np.float64(row).tolist()))
    cut = {
        "matryoshka": (4, 8),
        "dimensions": 4,
        "prompts": {"query": "the "},
        "default_prompt_name": "query",
    }
    (report,) = verify(with_probes(tiny(changes=cut), probe))
    assert report.passed
