"""Help, usage, completion and errors in the command line's own words."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from embedge import EdgeModel, PoolerConfig, PoolingParams, archive
from embedge.cli._examples import EXAMPLES
from embedge.cli._words import FLAGS, in_words
from embedge.cli.completion import SHELLS
from embedge.cli.main import build_parser, main
from embedge.corpus import Vectors, encode_files
from embedge.errors import did_you_mean

COMMANDS = next(iter(a.choices for a in build_parser()._actions if isinstance(a.choices, dict)))
SCREEN = 48
"""Lines of a large terminal, of 100 columns."""


def failed(capsys, *argv: object) -> str:
    """What a command says that fails, or that is used wrongly."""
    with contextlib.suppress(SystemExit):
        assert main(list(map(str, argv))) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_screen_and_has_examples(name, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit, match="0"):
        main([*([name] if name else []), "--help"])
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("usage: embedge")
    assert "examples:" in printed or not name
    for action in COMMANDS[name]._actions if name else ():
        assert action.help, f"{name} {action.dest}"


def test_the_command_alone_shows_its_help(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert "\ncommands:\n" in capsys.readouterr().out


def test_all_flags_of_a_large_command_can_be_seen(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help-all"])
    printed = capsys.readouterr().out
    assert all(flag in printed for flag in COMMANDS["export"].flags)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_can_be_typed(name) -> None:
    for line in EXAMPLES[name]:
        inner = re.search(r"\$\((.*)\)", line)
        program, *words = shlex.split(inner[1] if inner else line, comments=True)
        if ">" in words:
            words = words[: words.index(">")]
        assert program == "embedge"
        assert build_parser().parse_args(words).command.prog == f"embedge {name}"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("encod x y", "'encode'"),
        ("encode b text --truncat 3", "'--truncate'"),
        ("encode b text --dimension 3", "'--dimensions'"),
        ("export m --variant int8", "'--variants'"),
        ("export m --pooling cl", "'CLS'"),
        ("export m --optimize-for gpu", "'cuda'"),
        ("--vresion", "'--version'"),
        ("encode b text --demensions 3", "'--dimensions'"),
        ("encode b text --promt-name=query", "'--prompt-name'"),
        ("encode b text --precision flaot16", "'float16'"),
        ("verify b --signatur-file x", "'--signature'"),
        ("export m --matryoska 3", "'--matryoshka'"),
        ("completion bsh", "'bash'"),
        ("embed b text", "'encode'"),
        ("remove b", "'rm'"),
    ],
)
def test_usage_is_one_line_and_a_near_name_is_offered(line, meant, capsys) -> None:
    usage, problem = failed(capsys, *line.split()).splitlines()
    assert re.fullmatch(r"usage: embedge .*\(embedge.* --help\)", usage)
    assert problem.endswith(f"Did you mean {meant}?")


def test_near_names_of_bundles_variants_and_prompts_are_offered(tiny, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path))
    shutil.copytree(tiny(changes={"prompts": {"query": "a ", "passage": "the "}}), tmp_path / "minilm")
    assert failed(capsys, "encode", "mini-lm", "text").endswith("Did you mean 'minilm'?\n")
    assert failed(capsys, "encode", "org/minilm2", "text").endswith("Did you mean 'minilm'?\n")
    assert failed(capsys, "encode", "minilm", "text", "--variant", "fp23").endswith("Did you mean 'fp32'?\n")
    assert failed(capsys, "encode", "minilm", "text", "--prompt-name", "pasage").endswith(
        "Did you mean 'passage'?\n"
    )
    assert failed(capsys, "encode", "minilm", "text", "--device", "cuds").endswith("Did you mean 'cuda'?\n")
    assert failed(capsys, "encode", "minilm", "text", "--device", "gpu").endswith("Did you mean 'cuda'?\n")
    assert failed(capsys, "rm", "mini-lm").endswith("expected one of minilm. Did you mean 'minilm'?\n")
    assert did_you_mean("zzz", ["query"]) == ""


@pytest.mark.parametrize(
    ("line", "words", "not_words"),
    [
        ("rm nothing", "no bundle is named 'nothing' in the store ", "export"),
        ("rm nothing", "; the store is empty.\n", "expected"),
        ("encode x.embedge text", "x.embedge is an archive; ", "manifest"),
        ("pack x.embedge", "with: embedge add x.embedge\n", "manifest"),
        ("pack B -o none/x.embedge", "there is no folder none for x.embedge; ", "part"),
        ("encode https://h/x text", "is a URL; expected a bundle's folder", "export"),
        (
            "inspect gone.embedge",
            "there is no file gone.embedge; expected a bundle's folder, or a name",
            "export",
        ),
        ("encode folder/gone.embedge text", "with: embedge add folder/gone.embedge.\n", "export"),
        ("pack y.embedge", "with: embedge add y.embedge. Did you mean 'x.embedge'?\n", "export"),
        (
            "add y.embedge",
            "; expected an archive that embedge pack wrote. Did you mean 'x.embedge'?\n",
            "export",
        ),
        ("encode nothing text", "in the store", "there: "),
        ("encode nothing text", ", which is empty. Make", "none"),
        (
            "encode nothing text",
            "Make one of a folder, or of a checkpoint on the hub, with: embedge export ORG/nothing\n",
            "add",
        ),
        ("add ftp://h/x.embedge", "ftp://h/x.embedge cannot be fetched; expected a URL of https.", "no ftp:"),
        ("add http://h/x.embedge", "and pass it as --fingerprint\n", "fingerprint ."),
        ("add B --fingerprint abc", "--fingerprint abc is no fingerprint; ", "none"),
        ("search B question", "there is nothing to search: no --in is given, ", "ends in ''"),
        ("search B --in README.md question", "QUESTION. --in takes every word up to the next flag", "=="),
        ("list x", "'x' is one argument too many.", "known"),
        (
            "encode B text --in notes.txt",
            "'--in' is not known here. Files come after the bundle, without",
            "variant",
        ),
        (
            "classify B text --in notes.txt",
            "'--in' is not known here. It is a flag of embedge search.",
            "variant",
        ),
        ("bench B --device cuda", "'--device' is not known here. bench measures the CPU alone.", "mean"),
        ("bench B --seconds abc", "'abc' is no number", "invalid"),
        (
            "bench B -o x.png",
            "-o x.png is neither .html nor .svg; expected a name as in bench.svg",
            "cannot",
        ),
        ("bench B --variant fp16_cuda", "Export the checkpoint with --optimize-for cuda to have it", "runs"),
        (
            "encode B gone.txt",
            "there is no file gone.txt. Check the path, or pass --text to take its name as a text.",
            "embedge add",
        ),
        ("search B text --frobnicate", "'--frobnicate' is not known here.", "mean"),
        ("search B --device cpu", "are required: QUESTION", "takes every word"),
        ("bench B --dimensions 3", "It is a flag of embedge encode.", "mean"),
        ("bench B --nonsense", "'--nonsense' is not known here.", "flag of"),
        (
            "encode B text --variant fp16_cuda",
            "Export the checkpoint with --optimize-for cuda to have it",
            "mean",
        ),
        (
            "encode B text --variant int8",
            "Export the checkpoint with --variants fp32,int8 to have it",
            "mean",
        ),
        (
            "encode B text --variant bf16_cuda",
            "Export the checkpoint with --variants fp32,bf16_cuda to",
            "mean",
        ),
        ("encode B text --variant fp32_openvino", "with --optimize-for openvino to have it", "mean"),
        ("encode B text --variant nonsense", "expected one of fp32, or 'auto'", "Export"),
        ("encode B text --truncate x", "'x' is no whole number", "invalid"),
        ("serve B --port 123456", "--port 123456 is not possible", "port="),
        ("serve B --max-inputs 0", "--max-inputs 0 is not possible", "max_inputs"),
        ("serve B --host 192.0.2.1", "--host 192.0.2.1 can be reached from other machines", "host="),
    ],
)
def test_what_is_done_wrongly_is_told_with_what_helps(
    line, words, not_words, tiny, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "store"))
    monkeypatch.delenv("EMBEDGE_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.embedge").touch()
    said = failed(capsys, *[str(tiny()) if word == "B" else word for word in line.split()])
    assert words in said
    assert not_words not in said.splitlines()[-1].replace(str(tmp_path), "")


@pytest.mark.parametrize(
    "command", [name for name, each in COMMANDS.items() if "BUNDLE" in str(each.format_usage())]
)
def test_every_command_says_of_an_archive_what_to_do(command, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("EMBEDGE_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.embedge").touch()
    (tmp_path / "notes.txt").write_text("a paragraph of words " * 9)
    others = {"search": ["text", "--in", "notes.txt"], "encode": ["text"], "classify": ["text"]}
    others |= {"score": ["a", "b"], "rerank": ["a", "b"]}
    for name in ("there.embedge", "gone.embedge"):
        said = failed(capsys, command, name, *others.get(command, []))
        assert name in said
        assert command == "rm" or f"embedge add {name}" in said


def parameters() -> set[str]:
    """Of everything that a command calls."""
    calls = (
        *(EdgeModel.__init__, EdgeModel.encode, EdgeModel.embed, EdgeModel.classify, EdgeModel.score),
        *(EdgeModel.rerank, encode_files, Vectors.search, Vectors.quantize, Vectors.duplicates),
        *(Vectors.similar, PoolingParams, PoolerConfig, archive.pack, archive.add),
    )
    return {name for call in calls for name in inspect.signature(call).parameters}


_ONLY_IN_PYTHON = """
    self model prompts query documents data_1 data_2 bundle what questions inputs output other queries cancel
    deadline_s progress use_tqdm pooling_params pooler_config pooling_plugin compat runner profile
    probes cuda_graphs enable_prefix_caching device_memory_bytes provider_options retry_smaller_batches verify_hashes
    max_model_len pooling_type logit_bias step_tag_id returned_token_ids
    requires_token_ids skip_reading_prefix_cache extra_kwargs output_kind truncation_side truncate
    query_prompt_name document_prompt_name max_batch_tokens
"""
ONLY_IN_PYTHON = set(_ONLY_IN_PYTHON.split())
"""Parameters that no flag stands for."""


def test_every_parameter_is_a_flag_or_only_in_python() -> None:
    flags = {flag for command in COMMANDS.values() for flag in command.flags}
    assert parameters() - ONLY_IN_PYTHON <= set(FLAGS)
    assert set(FLAGS.values()) <= flags
    assert not ONLY_IN_PYTHON & set(FLAGS)


@pytest.mark.parametrize("parameter", FLAGS)
def test_every_parameter_is_named_by_its_flag(parameter) -> None:
    flag = FLAGS[parameter]
    for given, words in (
        (
            f"{parameter}=-7 is out of range; expected an int >= 1, or None",
            f"{flag} -7 is out of range; expected an int >= 1",
        ),
        (f"{parameter}='x y' is not known", f"{flag} 'x y' is not known"),
        (f"use {parameter}='any', or None", f"use {flag} any"),
        (f"pass {parameter}=True.", f"pass {flag}."),
        (f"pass {parameter}=.", f"pass {flag}."),
        (f"pass {parameter}= or none", f"pass {flag} or none"),
        (f"expected None, -1, or 3; {parameter}=...", f"expected -1, or 3; {flag}"),
    ):
        assert in_words(given, [flag]) == words
    assert in_words(f"{parameter}=3 is wrong", ["--other"]) == f"{parameter}=3 is wrong"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("encode B food --truncate 0", "--truncate 0 "),
        ("encode B food --truncate 1", "--truncate 1 is out of range; expected -1, or 2 to 32"),
        ("encode B food --truncate -2", "--truncate -2 "),
        ("encode B food --dimensions 9", "does not support matryoshka"),
        ("encode B food --prompt-name nope", "--prompt-name nope is not stored in bundle 'tiny-embed'; it has none. "),
        ("encode B food --prompt-name nope", "Pass the text itself as --prompt\n"),
        ("encode B food --variant int9", "--variant int9 is not in bundle"),
        ("encode B food --device tpu", "--device tpu is not known"),
        ("encode B food --tower query", "--tower query is not one of bundle"),
        ("classify B food --logits", "cannot classify"),
        ("score B food the --truncate 99", "--truncate 99 is out of range; expected -1, or 2 to 32"),
        ("score B food the --instruction x", "takes no instruction"),
        ("rerank B food the --top 0", "--top 0 is out of range"),
        ("verify B --signature x", "--signature and --public-key go together"),
        ("verify B --variant int9", "int9"),
        ("bench B --threads 0", "--threads 0 is out of range"),
        ("search B food --in README.md --top 0", "--top 0 shows nothing"),
        ("encode B README.md -o v.npy --precision int4", "'int4' is not known"),
    ],
)  # fmt: skip
def test_errors_speak_of_flags(line, words, tiny, capsys) -> None:
    said = failed(capsys, *line.replace("B", str(tiny()), 1).split())
    assert words in said
    found = re.findall(r"\b([a-z]+(?:_[a-z]+)*)=", said) + re.findall(
        r"\b[a-z]+_[a-z_]+\b", said.partition(":")[2]
    )
    assert not set(found) & parameters(), said
    assert "None" not in said


def completed(script: str, words: list[str], home) -> list[str]:
    """What bash offers for the last of the words."""
    program = (
        f"{script}\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
        '_embedge; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {"PATH": os.pathsep.join([str(home), os.environ["PATH"]]), "EMBEDGE_HOME": str(home)}
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, env=env, cwd=home
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes(tiny, tmp_path, capsys) -> None:
    shutil.copytree(tiny(), tmp_path / "minilm")
    program = tmp_path / "embedge"
    paths = os.pathsep.join(sys.path)
    program.write_text(f"#!/bin/sh\nPYTHONPATH='{paths}' exec '{sys.executable}' -m embedge \"$@\"\n")
    program.chmod(0o755)
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "texts.jsonl").touch()
    assert completed(script, ["embedge", "re"], tmp_path) == ["rerank"]
    assert set(completed(script, ["embedge", "encode", "minilm", "--pre"], tmp_path)) == {"--precision"}
    assert completed(script, ["embedge", "encode", "--precision", "u"], tmp_path) == ["uint8", "ubinary"]
    assert completed(script, ["embedge", "encode", "minilm", "tex"], tmp_path) == ["texts.jsonl"]
    assert completed(script, ["embedge", "encode", "-o", "tex"], tmp_path) == ["texts.jsonl"]
    assert "minilm" in completed(script, ["embedge", "inspect", "mini"], tmp_path)
    assert completed(script, ["embedge", "completion", "f"], tmp_path) == ["fish"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_flag_and_are_read_by_their_shells(shell, capsys) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in COMMANDS.values():
        for flag in command.flags:
            assert (
                f"-l {flag[2:]}" if shell == "fish" and flag.startswith("--") else flag.lstrip("-")
            ) in script
    if shutil.which(shell) is not None:
        check = ["-n"] if shell != "fish" else ["--no-execute"]
        subprocess.run([shell, *check, "/dev/stdin"], input=script, text=True, check=True)
