"""What a caller may get wrong: one sentence that says so, in Python and on the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedge import (
    BundleError,
    EdgeModel,
    IntegrityError,
    ManifestError,
    ParamsError,
    PoolingParams,
    PromptError,
    ProviderUnavailableError,
)
from embedge.cli.main import main

COMMAND = (sys.executable, "-m", "embedge")


@pytest.fixture
def bundle(tiny, tmp_path) -> Path:
    return shutil.copytree(tiny(), tmp_path / "bundle")


def refused(capsys, *argv: object, status: int = 1) -> str:
    """Run a command that has to fail with one sentence; return it."""
    assert main([str(a) for a in argv]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("embedge: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("embedge: ").strip()


def edit_manifest(**fields: object) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        path = bundle / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def shorten(name: str) -> Callable[[Path], None]:
    return lambda bundle: os.truncate(bundle / name, (bundle / name).stat().st_size - 3)


def alter(name: str) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)

    return change


DAMAGES = [
    (shutil.rmtree, BundleError, "no bundle at", ""),
    (remove("manifest.json"), BundleError, "is no bundle: it has no manifest.json", ""),
    (edit_manifest(schema_version=7), ManifestError, "has schema_version 7; this embedge reads 6", ""),
    (edit_manifest(surprise=1), ManifestError, "unknown field `surprise`", ""),
    (edit_manifest(max_seq_len="long"), ManifestError, "not a valid manifest", ""),
    (edit_manifest(name="other"), ManifestError, "was changed after export", ""),
    (shorten("manifest.json"), ManifestError, "not a valid manifest", ""),
    (remove("onnx/model.onnx"), IntegrityError, "model.onnx is missing; the manifest expects", "onnx/model.onnx"),
    (shorten("onnx/model.onnx"), IntegrityError, "bytes; the manifest expects", "onnx/model.onnx"),
    (alter("onnx/model.onnx"), IntegrityError, "was altered: its sha256 is", "onnx/model.onnx"),
    (remove("tokenizer.json"), IntegrityError, "tokenizer.json is missing", "tokenizer.json"),
    (shorten("tokenizer.json"), IntegrityError, "bytes; the manifest expects", "tokenizer.json"),
    (alter("tokenizer.json"), IntegrityError, "was altered: its sha256 is", "tokenizer.json"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "error", "message", "file"), DAMAGES)
def test_a_damaged_bundle(bundle, capsys, damage, error, message, file) -> None:
    hashes = {
        name: r["sha256"] for name, r in json.loads((bundle / "manifest.json").read_text())["files"].items()
    }
    damage(bundle)
    with pytest.raises(error) as caught:
        EdgeModel(bundle)
    said = str(caught.value)
    assert message in said
    assert "\n" not in said
    if file:
        assert caught.value.file == file
        assert caught.value.expected_sha256 == hashes[file]
        assert hashes[file] in said
    for command in (["encode", bundle, "text"], ["verify", bundle]):
        assert message in refused(capsys, *command)


@pytest.mark.parametrize("damage", [remove, shorten, alter])
def test_damaged_probes_stop_verify_alone(bundle, capsys, damage) -> None:
    damage("probes.json")(bundle)
    with EdgeModel(bundle) as model:
        assert model.embed("the river").numpy().shape == (1, 8)
    assert "probes.json" in refused(capsys, "verify", bundle)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (None, ParamsError, "model=None names no bundle; expected a folder, or a name"),
        (7, ParamsError, "model=7 names no bundle"),
        (b"x", ParamsError, "model=b'x' names no bundle"),
        ("", ParamsError, "model='' names no bundle"),
        ("x" * 5000, BundleError, "name too long"),
        ("no\0pe", BundleError, "no bundle at"),
        ("~nobody-of-that-name/x", BundleError, "Expected a bundle's folder"),
        ("nope", BundleError, "or of a checkpoint on the hub, with: embedge export ORG/nope"),
        ("./nope/at/all", BundleError, "embedge export MODEL -o"),
    ],
)
def test_a_model_that_is_not_there(model, error, message) -> None:
    with pytest.raises(error) as caught:
        EdgeModel(model)
    assert message.lower() in str(caught.value).lower()


PROMPTS = [
    (None, "prompts is None; expected text", None),
    (b"bytes", "prompts is bytes b'bytes'; expected text", None),
    (7, "prompts is int 7; expected text", None),
    (["fine", None], "prompt 1 is None; expected text", 1),
    (["fine", b"bytes"], "prompt 1 is bytes b'bytes'", 1),
    (["fine", 7], "prompt 1 is int 7", 1),
    (["fine", 0.5], "prompt 1 is float 0.5", 1),
    (["fine", []], "prompt 1 is an empty list of token ids; expected at least one", 1),
    ([54], "prompt 0 holds token id 54; this model's vocabulary has ids 0 to 53", 0),
    (["fine", [5, -1]], "prompt 1 holds token id -1; this model's vocabulary has ids 0 to 53", 1),
    (["fine", [5, 10**30]], f"prompt 1 holds token id {10**30}", 1),
    (["fine", {"prompt_token_ids": []}], "prompt 1 is an empty list of token ids", 1),
    (["fine", "river " * 40], "prompt 1 has 42 tokens; the model's limit is 32", 1),
    (["fine", [5] * 33], "prompt 1 has 33 tokens; the model's limit is 32", 1),
    (["fine", "\ud800"], "prompt 1 is no valid text", 1),
]  # fmt: skip


@pytest.mark.parametrize(("prompts", "message", "index"), PROMPTS, ids=lambda value: str(value)[:24])
def test_a_bad_prompt_fails_the_call_and_is_named(load, prompts, message, index) -> None:
    model = load()
    with pytest.raises(PromptError) as caught:
        model.embed(prompts)
    assert message in str(caught.value)
    assert caught.value.index == index
    assert model.embed(["fine", [5] * 32, "river " * 30]).numpy().shape == (3, 8)


def test_unknown_keywords(load, bundle) -> None:
    model = load()
    for call in (
        lambda: PoolingParams(surprise=1),
        lambda: model.embed("text", surprise=1),
        lambda: model.encode("text", surprise=1),
        lambda: EdgeModel(bundle, surprise=1),
    ):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'surprise'|'surprise'"):
            call()


def test_dimensions_of_a_model_that_has_one_size(load) -> None:
    with pytest.raises(ParamsError, match='Model "tiny-embed" does not support matryoshka'):
        load().embed("text", pooling_params=PoolingParams(dimensions=4))


def test_cuda_on_a_machine_without(bundle, capsys) -> None:
    from embedge.runtime import import_onnxruntime

    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ProviderUnavailableError, match="not CUDAExecutionProvider. Install onnxruntime-gpu"):
        EdgeModel(bundle, device="cuda")
    assert "Install onnxruntime-gpu" in refused(capsys, "encode", bundle, "text", "--device", "cuda")


@pytest.mark.parametrize(
    ("output", "message"),
    [("no/such/folder/x.npy", "lies in no folder that exists"), (".", "is a folder")],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(
    tmp_path, capsys, output, message
) -> None:
    assert message in refused(capsys, "encode", "no-bundle-either", "text", "-o", tmp_path / output)


def test_text_is_cut_at_line_feeds_only(bundle, capsys, monkeypatch) -> None:
    data = "\ufeffone\x0cline\u2028still\u0085the same\r\n\ntwo\n".encode()
    done = subprocess.run(
        [*COMMAND, "encode", bundle, "-", "--json"], input=data, capture_output=True, check=True
    )
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    assert texts == ["one\x0cline\u2028still\u0085the same", "", "two"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirect", ["> /dev/full", "--json > /dev/full", "-o /dev/full"])
def test_a_full_disk(bundle, redirect) -> None:
    done = subprocess.run(
        f"{' '.join(COMMAND)} encode {bundle} text {redirect}",
        shell=True, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device. Free some space" in done.stderr


def test_a_failed_write_leaves_what_was_there(bundle, tmp_path, capsys, monkeypatch) -> None:
    target = tmp_path / "out" / "x.npy"
    target.parent.mkdir()
    target.write_bytes(b"older")

    def full(part: Path, to: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert "x.npy: No space left on device" in refused(capsys, "encode", bundle, "text", "-o", target)
    assert target.read_bytes() == b"older"
    assert [path.name for path in target.parent.iterdir()] == ["x.npy"]


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are closed by a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(bundle, closed) -> None:
    command = f"{' '.join(COMMAND)} encode {bundle} text {closed}"
    done = subprocess.run(command, shell=True, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves(bundle) -> None:
    command = f"{' '.join(COMMAND)} encode {bundle} -"
    done = subprocess.run(
        ["bash", "-c", f"yes river | head -9000 | {command} | head -1; echo ${{PIPESTATUS[*]}}"],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    shown, statuses = done.stdout.splitlines()
    assert shown == "river"
    assert statuses.split()[2:] == ["1", "0"]
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_ctrl_c_is_one_sentence(bundle, capsys, monkeypatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EdgeModel, "encode", interrupt)
    assert "interrupted; no file was left half written" in refused(
        capsys, "encode", bundle, "text", status=130
    )
