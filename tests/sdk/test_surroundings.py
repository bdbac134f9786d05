"""What the system may lack or name oddly: a home, a console, names that are text; answers or sentences."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from embedge import BundleError, EdgeModel, store
from embedge._calls.options import ShowOptions
from embedge._calls.progress import ProgressBar
from embedge.cli.main import main


@pytest.fixture
def homeless(monkeypatch) -> None:
    """A user of a container whose number has no name."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("HOME", "XDG_DATA_HOME", store.HOME_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(Path, "expanduser", lambda path: unknown() if str(path).startswith("~") else path)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home(tiny, capsys) -> None:
    folder = tiny()
    with EdgeModel(folder, device="cpu") as model:
        assert model.embed("good").numpy().shape == (1, 8)
    with pytest.raises(
        BundleError, match="no place for the bundle store: .*home directory. Set EMBEDGE_HOME"
    ):
        EdgeModel("a-name")
    with pytest.raises(BundleError, match="no bundle at '~/x': Could not determine home directory. Expected"):
        EdgeModel("~/x")
    assert main(["encode", str(folder), "good", "--json"]) == 0
    assert main(["doctor"]) == 0
    assert "no place for the bundle store" in capsys.readouterr().out
    for command in (["list"], ["encode", "a-name", "x"], ["bench", str(folder), "--count", "2", "--save"]):
        assert main(command) == 1
        assert "no place for the bundle store" in capsys.readouterr().err


@pytest.mark.usefixtures("homeless")
def test_an_export_without_a_home() -> None:
    from embedge.errors import ExportError
    from embedge_export.spec import expanded

    assert expanded("a/b") == Path("a/b")
    with pytest.raises(ExportError, match="~/out is at no known place: Could not determine home"):
        expanded(Path("~/out"))


class Narrow:
    """A terminal of another character set, or one that was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        text.encode("ascii")

    def flush(self) -> None:
        raise ValueError("I/O operation on closed file")


@pytest.mark.parametrize("stderr", [None, Narrow()])
def test_progress_that_cannot_be_shown(load, monkeypatch, stderr) -> None:
    model = load()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert len(model.embed(["good"] * 3, use_tqdm=True)) == 3
    with ProgressBar(2, ShowOptions(use_tqdm=True), "embed") as progress:
        monkeypatch.setattr(progress, "_drawn", 0.0)
        progress.update(2)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_text(tiny, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv(store.HOME_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"t\xfe.txt")
    Path(odd).write_text("the river is long and the water is very cold in the city\n")
    folder = tiny().rename(tmp_path / os.fsdecode(b"b\xff"))
    assert main(["encode", str(folder), odd, "-o", "rows.jsonl"]) == 0
    assert json.loads(Path("rows.jsonl").read_text().splitlines()[0])["text"].startswith("the river")
    assert main(["encode", str(folder), odd, "-o", "rows.npy"]) == 0
    capsys.readouterr()
    assert main(["encode", str(folder), odd, "-o", os.fsdecode(b"o\xfd.npy")]) == 1
    assert "is no valid text; expected a name in UTF-8" in capsys.readouterr().err
    assert main(["search", str(folder), "river", "--in", odd, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == str(folder)


def test_no_memory_on_the_command_line(tiny, capsys, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(EdgeModel, "__init__", full)
    assert main(["encode", str(tiny()), "good"]) == 1
    assert (
        capsys.readouterr().err == "embedge: the machine has no memory left for this. Pass less at a time.\n"
    )
