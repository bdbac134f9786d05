"""The GPU's results: tables and the page follow from the file, targets are judged by it, losses are shown."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import others, tables, targets

FILE = tables.RESULTS / "gpu.json"
RESULTS = json.loads(FILE.read_text())


def outcomes(results, two=None) -> dict[str, targets.Outcome]:
    return {each.measure: each for each in targets.evaluate(results, two)}


def changed(path: tuple[str, ...], value: object) -> dict:
    results = copy.deepcopy(RESULTS)
    place = results
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return results


def test_the_results_page_and_the_guide_show_the_results_and_nothing_else() -> None:
    two = tables.second(FILE)
    assert FILE.with_suffix(".md").read_text() == tables.render(RESULTS, two)
    page = tables.PAGE.read_text()
    shown = page.split(tables.BEGIN)[1].split(tables.END)[0].strip()
    assert shown == tables.section(RESULTS, two, "gpu")
    for suffix in (".png", ".svg"):
        assert FILE.with_suffix(suffix).stat().st_size > 10_000


def test_parts_that_were_measured_apart_are_named() -> None:
    for later, words in (
        ([], "of one run."),
        (["fp8"], "of one run. Measured later, on such a card: fp8."),
        (
            ["decoder", "shares", "windows"],
            "Measured later, on such a card: Qwen3, kernels' shares of a run and Modern",
        ),
    ):
        results = changed(("later",), later)
        assert words in tables.render(results, None)
        assert words in tables.section(results, None, "gpu")
        assert ("Measured later" in tables.render(results, None)) == bool(later)


def test_every_target_of_the_card_is_there() -> None:
    assert [each.target for each in targets.evaluate(RESULTS, None)] == [
        ">= 4x", ">= 2.6x", ">= 1.9x", ">= 45 %", ">= 50 %", ">= 85 %",
        ">= 45 %", ">= 40 %", ">= 85 %", ">= 55 %", ">= 55 %", ">= 85 %",
        ">= 3x", ">= 70 %", "<= 2 ms", ">= 0.9999", ">= 1.8x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "measure", "met"),
    [
        (("query", "p50"), 2.01, "one query, text to vector, p50", False),
        (("query", "p50"), 1.99, "one query, text to vector, p50", True),
        (
            ("fidelity", "fp16_cosine_min"),
            0.99989999,
            "smallest cosine to the float32 reference, BERT-base float16",
            False,
        ),
        (("torch", "bert-base", "64x128"), 1e5, "device only, 64 x 128, against torch float16 SDPA", True),
        (("torch", "bert-base", "64x128"), 1e7, "device only, 64 x 128, against torch float16 SDPA", False),
        (("ceiling", targets.CEILING), 5000.0, "share of the card's matrix-product rate, 256 x 128", False),
        (
            ("decoder", "fp16", "tokens_per_s", "64x128"),
            440e3,
            "share of the card's matrix-product rate, Qwen3, 0.6 B, 64 x 128",
            True,
        ),
        (
            ("windows", "fp16", "tokens_per_s", "ragged"),
            8e5,
            "ragged batch, real tokens/s against 64 x 128, ModernBERT-base",
            False,
        ),
    ],
)
def test_targets_are_met_or_missed_by_the_figures(path, value, measure, met) -> None:
    assert outcomes(changed(path, value))[measure].met is met


def test_two_gpus_are_read_from_their_own_file() -> None:
    measure = "two GPUs against one, text to vectors"
    assert outcomes(RESULTS)[measure].met is None
    assert outcomes(RESULTS, {"two": {"skipped": "1 GPU here"}})[measure].met is None
    for gain, met in ((1.79, False), (1.9, True)):
        assert outcomes(RESULTS, {"two": {"gain": gain}})[measure].met is met


def test_what_failed_is_shown_as_such() -> None:
    results = changed(("query",), {"error": "TimeoutExpired"})
    del results["torch"], results["sentence_transformers"]
    results["families"]["qwen3, fp16"] = {"form": "standard", "error": "no kernel"}
    page = tables.render(results, None)
    assert "| one query, text to vector, p50 | <= 2 ms | – | not measured |" in page
    assert "failed: no kernel" in page
    assert "torch float16 SDPA |" not in page.split("## The device alone")[1]


def test_parts_are_measured_by_name_and_all_where_none_is_named(capsys) -> None:
    assert command.arguments(["--tokenizer", "t.json"]).parts == []
    assert command.arguments(["--tokenizer", "t.json", "two", "query"]).parts == ["two", "query"]
    with pytest.raises(SystemExit):
        command.arguments(["--tokenizer", "t.json", "nope"])
    assert "'nope' is no part; expected some of machine, ceiling" in capsys.readouterr().err


def test_the_share_is_of_the_cards_own_rate() -> None:
    results = changed(("ceiling", targets.CEILING), 349.0)
    # 12 layers of 24 * 768 ** 2 + 4 * 128 * 768 operations per token
    assert targets.share(results, "64x128", 1e6) == pytest.approx(50.0, abs=0.1)


def test_a_causal_token_attends_to_half_and_one_in_a_window_to_it() -> None:
    config = others.CONFIGS["modernbert, base"]
    weights = (
        2 * 22 * (4 * config["hidden_size"] ** 2 + 3 * config["hidden_size"] * config["intermediate_size"])
    )
    wide, windowed = (4 * 768 * layers for layers in (8, 14))
    assert others.flop_per_token("modernbert, base", 100) == weights + (wide + windowed) * 100
    assert others.flop_per_token("modernbert, base", 512) == weights + wide * 512 + windowed * 129
    per_pair = 4 * 16 * 128 * 28
    grown = others.flop_per_token("qwen3, 0.6 B", 512) - others.flop_per_token("qwen3, 0.6 B", 256)
    assert grown == per_pair * 128


class Measuring:
    """`python -m benchmarks.gpu` where a card is said to be, and parts give what the test says."""

    def __init__(self, folder, monkeypatch) -> None:
        self.file = folder / "gpu.json"
        self.card, self.onnxruntime, self.failing = "a card", "1.0", set()
        self._patch = monkeypatch
        monkeypatch.setattr(command, "missing", lambda _: None)
        monkeypatch.setattr(command.subprocess, "run", self._part)

    def _part(self, arguments, **_):
        part = arguments[-1]
        if part in self.failing:
            raise command.subprocess.TimeoutExpired(arguments, 1.0)
        facts = {"cards": [self.card], "onnxruntime": self.onnxruntime, "form": "packed"}
        figures = facts if part == "machine" else {"rate": self.card}
        return command.subprocess.CompletedProcess([], 0, stdout=json.dumps(figures) + "\n")

    def __call__(self, *parts: str) -> dict:
        given = ["--tokenizer", "tokenizer.json", "--output", str(self.file)]
        self._patch.setattr("sys.argv", ["benchmarks.gpu", *given, *parts])
        command.main()
        return self.written()

    def written(self) -> dict:
        return json.loads(self.file.read_text())


@pytest.fixture
def measuring(tmp_path, monkeypatch) -> Measuring:
    return Measuring(tmp_path, monkeypatch)


def test_a_part_measured_again_is_said_to_be_later(measuring) -> None:
    assert "later" not in measuring()
    assert measuring("fp8")["later"] == ["fp8"]
    assert measuring("ceiling", "fp8")["later"] == ["ceiling", "fp8"]
    assert "later" not in measuring()


def test_parts_alone_say_which_machine_they_are_of(measuring) -> None:
    machine = {"cards": ["a card"], "onnxruntime": "1.0", "form": "packed"}
    assert measuring("two") == {"machine": machine, "two": {"rate": "a card"}}
    assert "later" not in measuring("machine")


def test_a_part_that_fails_leaves_its_old_figures(measuring) -> None:
    before = measuring()
    measuring.failing = {"fp8"}
    with pytest.raises(SystemExit, match="failed: fp8, whose old figures are still in .*gpu.json$"):
        measuring("fp8", "ceiling")
    assert measuring.written() == before | {"later": ["ceiling"]}


def test_a_part_that_was_never_measured_and_fails_is_not_said_to_be_later(measuring) -> None:
    measuring("two")
    measuring.failing = {"fp8"}
    with pytest.raises(SystemExit, match="^failed: fp8$"):
        measuring("fp8")
    assert "error" in measuring.written()["fp8"]
    assert "later" not in measuring.written()


def test_a_whole_run_that_is_cut_off_leaves_the_old_file(measuring, monkeypatch) -> None:
    before = measuring()
    measuring.failing = {"fp8"}
    with pytest.raises(SystemExit, match="failed: fp8, of which there are no figures now"):
        measuring()
    assert "error" in measuring.written()["fp8"]
    measuring.failing = set()
    assert measuring() == before

    def cut_off(arguments, **_):
        if arguments[-1] == "fp8":
            raise KeyboardInterrupt
        return measuring._part(arguments)

    monkeypatch.setattr(command.subprocess, "run", cut_off)
    measuring.card = "another"
    with pytest.raises(KeyboardInterrupt):
        measuring()
    assert measuring.written() == before


@pytest.mark.parametrize(
    ("fact", "value", "said"),
    [
        ("card", "another", "with the card a card, and here is another"),
        ("onnxruntime", "1.1", "onnxruntime 1.0, and"),
    ],
)
def test_figures_of_two_kinds_of_machine_are_not_mixed(fact, value, said, measuring) -> None:
    before = measuring()
    setattr(measuring, fact, value)
    with pytest.raises(SystemExit, match=said):
        measuring("fp8")
    assert measuring.written() == before


@pytest.mark.parametrize("content", ["", "null", "[1]", "{}", '{"machine": {"cards": []}}'])
def test_a_file_that_is_none_of_it_is_left(content, measuring) -> None:
    measuring.file.write_text(content)
    with pytest.raises(SystemExit, match="gpu.json is no file of this benchmark"):
        measuring("fp8")
    assert measuring.file.read_text() == content


def test_a_machine_that_does_not_answer_leaves_the_file(measuring) -> None:
    before = measuring()
    measuring.failing = {"machine"}
    with pytest.raises(SystemExit, match="nothing was measured: TimeoutExpired"):
        measuring()
    assert measuring.written() == before


@pytest.mark.parametrize(
    ("tokenizer", "packages", "said"),
    [
        ("nope.json", {}, "nope.json is no file; expected the tokenizer.json of all-MiniLM-L6-v2"),
        ("tokenizer.json", {"torch": None}, "torch is not installed; `pip uninstall onnxruntime`, then"),
        ("tokenizer.json", {}, "onnxruntime 1.0 here has no CUDA provider"),
    ],
)
def test_what_a_machine_lacks_is_said_first_and_the_file_left(
    tokenizer, packages, said, tmp_path, monkeypatch
):
    (tmp_path / "tokenizer.json").touch()
    file = tmp_path / "gpu.json"
    file.write_text("{}")
    plain = SimpleNamespace(__version__="1.0", get_available_providers=lambda: ["CPUExecutionProvider"])
    there = {"onnxruntime": plain, "torch": SimpleNamespace(), "transformers": SimpleNamespace()} | packages
    for name, module in there.items():
        monkeypatch.setitem(command.sys.modules, name, module)
    monkeypatch.setattr(command.importlib.util, "find_spec", there.get)
    given = ["--tokenizer", str(tmp_path / tokenizer), "--output", str(file)]
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu", *given])
    with pytest.raises(SystemExit) as caught:
        command.main()
    assert said in str(caught.value)
    assert str(caught.value).startswith("nothing was measured: ")
    assert file.read_text() == "{}"
