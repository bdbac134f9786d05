"""Pages under docs/: their blocks run one after the other, as a reader would run them."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from embedge.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
TINY = {
    "sentence-transformers/all-MiniLM-L6-v2": "bert-st",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "cross-encoder-bert-1",
}
"""What stands in place of the models that a page names: no test asks a model hub."""


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(
    int(metadata.version("sentence-transformers").partition(".")[0]) < 6,
    reason="the page is for sentence-transformers 6",
)
@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    from tests.checkpoints import make

    monkeypatch.chdir(tmp_path)
    models = {name: str(make(tiny, tmp_path / tiny)) for name, tiny in TINY.items()}
    namespace: dict[str, object] = {}
    ran = []
    for language, block in blocks(page):
        for name, folder in models.items():
            block = block.replace(f'"{name}"', repr(folder))
        if language == "python":
            exec(compile(block, page.name, "exec"), namespace)
            ran.append(language)
            continue
        assert language == "console"
        for line in block.splitlines():
            program, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
            if program == "pip":
                continue
            assert program == "embedge"
            assert main(arguments) == 0, line
            ran.append(line)
    assert {"python", "$ embedge verify my-bundle"} <= set(ran)
    assert len(re.findall(r"^largest difference \d", capsys.readouterr().out, flags=re.MULTILINE)) == 2
