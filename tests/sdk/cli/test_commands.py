"""Commands over tiny bundles, and how they end when something else goes wrong."""

from __future__ import annotations

import builtins
import io
import json
import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
from tests import bundles

from embedge.bundle import Bundle
from embedge.cli._console import size
from embedge.cli.inspect import _tell_of_changed_sizes
from embedge.cli.main import build_parser, main
from embedge.manifest import FileRecord, load_manifest


def run(capsys, *argv: object) -> str:
    assert main([str(a) for a in argv]) == 0
    return capsys.readouterr().out


def test_inspect_as_json_is_the_manifest(tiny, capsys) -> None:
    folder = tiny(changes={"matryoshka": (4, 8)})
    shown = json.loads(run(capsys, "inspect", folder, "--json"))
    assert shown["matryoshka"] == [4, 8]
    assert shown["name"] == "tiny-embed"


def test_inspect_says_which_files_are_not_what_the_manifest_states(tiny, capsys) -> None:
    folder = tiny()
    assert main(["inspect", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    file = next(folder.rglob("*.onnx"))
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:100])
    (folder / "tokenizer.json").unlink()
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().err
    assert f"{file.name} has 100 bytes, not the {size:,} stated" in said
    assert "tokenizer.json is not there; `embedge verify` looks at everything" in said
    (folder / "tokenizer.json").symlink_to(file)
    assert main(["inspect", str(folder)]) == 0
    assert "tokenizer.json is no plain file" in capsys.readouterr().err


def test_inspect_looks_at_nothing_outside_of_a_bundle_and_shows_no_codes(tiny, capsys) -> None:
    record = FileRecord(sha256="0" * 64, size_bytes=3)
    files = {"../../etc/hostname": record, "a\x1b[31mred.txt": record}
    folder = tiny()
    manifest = load_manifest(folder)
    bundle = Bundle(folder=folder, manifest=msgspec.structs.replace(manifest, files=manifest.files | files))
    _tell_of_changed_sizes(bundle)
    said = capsys.readouterr().err
    assert "../../etc/hostname would lie outside of the bundle" in said
    assert "\x1b[31m" not in said
    assert "red.txt is not there" in said


@pytest.mark.parametrize(
    ("kind", "changes", "lines"),
    [
        ("embed", {"matryoshka": (4, 8)}, ["matryoshka", "4, 8", "8 components, compared by cosine"]),
        ("embed", {"matryoshka": True}, ["any size"]),
        (
            "embed",
            {"prompts": {"query": "q", "other": "o"}, "default_prompt_name": "query"},
            ["other, query (default)"],
        ),
        ("classify", {}, ["negative, neutral, positive (softmax)", "pooling", "none"]),
        ("reward", {}, ["STEP", "bad, good"]),
    ],
)
def test_inspect_shows_what_decides_the_answers(tiny, capsys, kind, changes, lines) -> None:
    shown = run(capsys, "inspect", tiny(kind, changes=changes))
    for line in lines:
        assert line in shown


def test_a_report_is_shown_where_there_is_a_display(tiny, capsys, monkeypatch) -> None:
    folder = tiny()
    assert main(["inspect", str(folder), "--report"]) == 1
    assert "has no report.html; expected one written by the exporter" in capsys.readouterr().err
    (folder / "report.html").write_text("<p>report")
    bundles.rewrite(folder)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(folder / "report.html") in run(capsys, "inspect", folder, "--report")
    assert opened == []
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    run(capsys, "inspect", folder, "--report")
    monkeypatch.setattr(sys, "platform", "darwin")
    run(capsys, "inspect", folder, "--report")
    assert opened == [(folder / "report.html").resolve().as_uri()] * 2


def test_sizes_in_words() -> None:
    assert size(1500) == "1.5 kB"
    assert size(2_500_000) == "2.5 MB"


def test_ctrl_c_is_one_sentence(tiny, capsys, monkeypatch) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("embedge.cli.inspect.run_inspect", interrupted)
    assert main(["inspect", str(tiny())]) == 130
    assert capsys.readouterr().err.startswith("embedge: interrupted; no file was left half written")


class Broken(io.StringIO):
    def __init__(self, error) -> None:
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(), ""),
        (OSError(28, "No space left on device"), "embedge: No space left on device. Free some space"),
        (OSError(5, "I/O error", "disk"), "embedge: disk: I/O error. Check the path and its permissions."),
    ],
)
def test_results_that_cannot_be_written(tiny, capsys, monkeypatch, error, words) -> None:
    folder = str(tiny())
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert main(["inspect", folder, "--json"]) == 1
    assert capsys.readouterr().err.startswith(words)


def test_a_program_without_standard_streams(tiny, tmp_path, monkeypatch) -> None:
    target = tmp_path / "rows.npy"
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    folder = tiny()
    status = main(["encode", str(folder), "good", "-o", str(target)])
    sys.stdout.close()
    sys.stderr.close()
    assert status == 0
    assert np.load(target).shape == (1, 8)


def test_vectors_may_go_to_a_pipe(tiny, tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert main(["encode", str(tiny()), "good", "bad", "-o", str(pipe)]) == 0
    reader.join()
    assert np.lib.format.read_array(io.BytesIO(got[0])).shape == (2, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_reader_that_is_gone_is_no_traceback(tiny) -> None:
    command = [sys.executable, "-m", "embedge", "inspect", str(tiny()), "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_export_without_its_extra_says_what_to_install(capsys, monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("embedge_export"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["export", "some/model", "--anything"]) == 1
    assert "pip install 'embedge[export]'" in capsys.readouterr().err


def test_another_missing_module_is_not_mistaken_for_the_exporter(monkeypatch) -> None:
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "embedge_export.cli":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ModuleNotFoundError, match="torch"):
        main(["list"])


@pytest.mark.parametrize(
    "line",
    [
        ["search", "B", "--in", "a.md", "b.md", "--", "Q"],
        ["search", "B", "--top", "3", "Q"],
        ["search", "B", "Q", "--in", "a.md"],
        ["encode", "B", "--json", "Q"],
        ["classify", "B", "--json", "Q"],
        ["rerank", "B", "--top", "1", "--json", "Q", "D"],
    ],
    ids=" ".join,
)
def test_texts_may_stand_after_options(line) -> None:
    """A positional that may be empty is taken for empty as soon as an option stands before it."""
    args = vars(build_parser().parse_args(line))
    assert any(value in ("Q", ["Q"], ["Q", "D"]) for value in args.values())
