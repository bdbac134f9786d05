"""Every block of README and docs/ runs; every link and target that they name exists."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from tests.conftest import judge_as_for_users
from tests.docs.reading import BLOCK, ROOT, blocks, commands, pages, read

from embedge import EdgeModel
from embedge.testing import tiny_bundle

TINY = {
    "sentence-transformers/all-MiniLM-L6-v2": "bert-st",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "cross-encoder-bert-1",
}
"""What stands in place of the checkpoints that a page names: no test asks a model hub."""
BUNDLES = {
    "reranker": "cross_encoder",
    "sentiment": "classify",
    "entities": "token_classify",
    "colbert": "late_interaction",
    "splade": "sparse",
}
"""Small bundles that a reader's store holds beside all-MiniLM-L6-v2."""
NAMES = [page.relative_to(ROOT).as_posix() for page in pages()]
ELSEWHERE = ("docs/frameworks.md",)
"""Pages whose blocks another environment runs: tests/frameworks."""


@pytest.fixture(scope="module")
def store(minilm_bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    folder.joinpath("all-MiniLM-L6-v2").symlink_to(minilm_bundle)
    for name, kind in BUNDLES.items():
        tiny_bundle(folder / name, kind)
    return folder


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A reader's working directory with a few files of texts."""
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, text in {
        "billing.md": "# Billing\n\nThe invoice is due on Friday.\n\nRefunds take ten days after the parcel came.\n",
        "account.md": "# Account\n\nReset your password in the settings.\n",
    }.items():
        notes.joinpath(name).write_text(text)
    tmp_path.joinpath("reviews.csv").write_text("id,text\n7,What a day\n8,Never again\n9,What a day\n")
    tmp_path.joinpath("texts.txt").write_text("The invoice is due.\nCats sleep most of the day.\n")
    tmp_path.joinpath("pairs.csv").write_text("question,answer\ncapital of France,Paris is the capital.\n")
    return tmp_path


@pytest.mark.skipif(
    int(metadata.version("sentence-transformers").partition(".")[0]) < 6,
    reason="the pages are for sentence-transformers 6",
)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_every_block_runs(name, desk, store, minilm_checkpoint, monkeypatch) -> None:
    from tests.checkpoints import make

    if name == "README.md":  # what it exports is what it asks
        store = desk / "store"
        judge_as_for_users(monkeypatch)
        stand_ins = {"sentence-transformers/all-MiniLM-L6-v2": str(minilm_checkpoint)}
    else:
        asked = ROOT.joinpath(name).read_text("utf-8")
        stand_ins = {model: str(make(tiny, desk / tiny)) for model, tiny in TINY.items() if model in asked}
    monkeypatch.setenv("EMBEDGE_HOME", str(store))
    read(ROOT / name, stand_ins)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_is_of_a_known_kind_and_closed(name) -> None:
    text = ROOT.joinpath(name).read_text("utf-8")
    assert text.count("```") == 2 * len(BLOCK.findall(text))
    assert {block.language for block in blocks(ROOT / name)} <= {"python", "console", "text"}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name) -> None:
    page = ROOT / name
    prose = BLOCK.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not target.startswith(("https://", "http://", "mailto:")):
            assert page.parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name) -> None:
    makefile = ROOT.joinpath("Makefile").read_text("utf-8")
    page = ROOT / name
    asked = set(re.findall(r"`make ([a-z-]+)`", page.read_text("utf-8")))
    for block in blocks(page):
        if block.language == "console":
            asked |= {arguments[1] for arguments in commands(block) if arguments[0] == "make"}
    if name == "README.md":
        assert asked >= {"demo", "test", "docs"}
    for target in asked:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_a_page_that_lies_is_found(tmp_path) -> None:
    page = tmp_path / "page.md"
    for text, error in {
        "```python\nprint(1)\n```\n\n```text\n2\n```\n": "something else",
        "```console\n$ embedge inspect nothing-there\n```\n": "inspect",
        "```console\n$ unheard-of\n```\n": "unheard-of",
    }.items():
        page.write_text(text)
        with pytest.raises(AssertionError, match=error):
            read(page, {})
    page.write_text("<!-- not run: needs a GPU -->\n```python\nraise ValueError\n```\n")
    read(page, {})


def test_bundles_of_the_store_open(store) -> None:
    for name in BUNDLES:
        with EdgeModel(store / name) as model:
            assert model.info.name
