"""`embedge export` as a user meets it."""

import os
import shlex
import subprocess
import sys

import pytest
from tests.checkpoints import make

from embedge.cli.main import build_parser, main

STAGES = ["source", "graph", "heads", "write", "verify", "witness", "judge", "report", "done"]


def test_the_command_reports_stages_and_prints_the_folder(tiny_bert, tmp_path, capsys):
    target = tmp_path / "out"
    assert (
        main(["export", str(tiny_bert), "-o", str(target), "--matryoshka", "8,16", "--prompt", "query=q: "])
        == 0
    )
    printed = capsys.readouterr()
    assert printed.out == f"{target}\n"
    stages = [line.split()[0] for line in printed.err.splitlines()]
    assert stages == STAGES


@pytest.mark.parametrize("name", ["deberta-v2-st", "cross-encoder-bert-1"])
def test_other_libraries_leave_nothing_on_the_screen_or_disk(name, tmp_path):
    """No bar and no warning of torch, transformers and sentence-transformers, and no folder of torch's compiler."""
    checkpoint = make(name, tmp_path / "m")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    surroundings = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    command = ["export", str(checkpoint), "-o", str(tmp_path / "out"), "--variants", "fp32"]
    done = subprocess.run(
        [sys.executable, "-m", "embedge", *command],
        capture_output=True,
        text=True,
        check=True,
        env=surroundings | {"TMPDIR": str(temporary)},
    )
    assert list(temporary.iterdir()) == []
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert [line.split()[0] for line in done.stderr.splitlines()] == STAGES


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "out"), "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("embedge: ")
    assert "has no config.json" in printed.err
    assert "Traceback" not in printed.err


def test_an_empty_config_is_not_called_missing(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "out"), "--quiet"]) == 1
    assert "states nothing in its config.json; expected" in capsys.readouterr().err


def test_help_has_groups_and_three_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help-all"])
    printed = capsys.readouterr().out
    titles = ["the checkpoint, and what", "words of rerankers", "graphs:", "other ways", "examples:"]
    assert [title for title in titles if title in printed] == titles
    examples = [line.split() for line in printed.partition("examples:")[2].splitlines() if line.strip()]
    assert len(examples) == 3
    parser = build_parser()
    for _, *words in (shlex.split(" ".join(words)) for words in examples):
        args = parser.parse_args(words)
        assert args.model or args.only_verify


@pytest.mark.parametrize("flags", ["--matryoshka x", "--prompt x", "--pooling median", "--task sing"])
def test_bad_usage_exits_with_2(flags, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", "model", *flags.split()])
    assert "Traceback" not in capsys.readouterr().err


def test_the_parser_loads_no_heavy_library():
    heavy = ["torch", "transformers", "optimum", "onnx", "onnxruntime"]
    code = f"import sys, embedge_export.cli, embedge_export.spec; print(set({heavy}) & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
