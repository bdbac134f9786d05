"""config.json in the words of transformers 5: the same numbers in either environment, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.architectures import make
from tests.export.graph.test_graphs import largest_difference, run, token_batch, torch_rows
from tests.export.tiny import write_json
from tests.export.tiny_kinds import modules
from tests.installed import TRANSFORMERS_5

from embedge.cli.main import main
from embedge.errors import ExportError
from embedge.manifest import load_manifest
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.table import FAMILIES
from embedge_export.graph.route import build_from_weights, choose_route, describe
from embedge_export.pipeline import export
from embedge_export.source.config_keys import HARMLESS, HARMLESS_AT, known_keys
from embedge_export.source.config_words import in_old_words
from embedge_export.source.read import open_checkpoint
from embedge_export.source.torch_model import load_model
from embedge_export.spec import ExportSpec

OLD = (
    "rope_theta", "rope_scaling", "rope_local_base_freq", "global_rope_theta", "local_rope_theta", "layer_types",
    "global_attn_every_n_layers", "partial_rotary_factor", "rope_parameters",
)  # fmt: skip
THETA = {"rope_type": "default", "rope_theta": 500.0}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONG = {
    "rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 64, "factor": 2.0,
    "short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [2.0, 3.0, 4.0, 5.0],
}  # fmt: skip
NESTED = {FULL: THETA, SLIDING: {"rope_type": "default", "rope_theta": 300.0}}


def saved_by_5(folder: Path, family: str, **words: Any) -> Path:
    """A checkpoint of a family whose config.json has these words, and none of the older ones."""
    make(folder, family, "embed")
    restate(folder, lambda stated: {k: v for k, v in stated.items() if k not in OLD} | words)
    return folder


def restate(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "config.json"
    path.write_text(
        json.dumps(change(json.loads(path.read_text("utf-8"))) | {"transformers_version": "5.24.0"})
    )


CASES = [
    *((family, {"rope_parameters": THETA}) for family in ("gemma", "gemma2", "llama", "mistral")),
    *((family, {"rope_parameters": THETA}) for family in ("phi3", "qwen2", "qwen3")),
    *(("llama", {"rope_parameters": rope}) for rope in (LINEAR, LLAMA3, YARN)),
    ("qwen3", {"rope_parameters": YARN | {"truncate": False, "beta_fast": 16.0}}),
    ("qwen3", {"rope_parameters": YARN | {"attention_factor": 1.5}}),
    ("mistral", {"rope_parameters": LINEAR, "sliding_window": 8}),
    ("gemma3_text", {"rope_parameters": NESTED, "layer_types": [FULL, SLIDING], "sliding_window": 8}),
    ("gemma3_text", {"rope_parameters": NESTED | {FULL: LINEAR}, "layer_types": [SLIDING, FULL]}),
    ("modernbert", {"rope_parameters": NESTED, "layer_types": [FULL, SLIDING]}),
    ("modernbert", {"rope_parameters": {FULL: LINEAR, SLIDING: LINEAR}, "layer_types": [FULL, FULL]}),
]  # fmt: skip
NEW_ONLY = [
    ("modernbert", {"rope_parameters": NESTED, "layer_types": [SLIDING, FULL]}),
    ("modernbert", {"rope_parameters": NESTED | {FULL: LINEAR}, "layer_types": [FULL, SLIDING]}),
    ("gemma3_text", {"rope_parameters": NESTED | {SLIDING: LINEAR}, "layer_types": [FULL, SLIDING]}),
    *((family, {"rope_parameters": THETA, "is_causal": False}) for family in ("gemma", "llama", "qwen2", "phi3")),
    ("mistral", {"rope_parameters": THETA, "is_causal": False, "sliding_window": 8}),
    (
        "qwen3",
        {
            "rope_parameters": THETA, "is_causal": False, "layer_types": [FULL, SLIDING],
            "use_sliding_window": True, "sliding_window": 8,
        },
    ),
    ("gemma3_text", {"rope_parameters": NESTED, "is_causal": False, "layer_types": [FULL, SLIDING]}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "words"), [*CASES, *NEW_ONLY])
def test_the_numbers_of_today_or_a_refusal(family: str, words: dict[str, Any], tmp_path: Path) -> None:
    spec = ExportSpec(model=str(saved_by_5(tmp_path / "m", family, **words)))
    if not TRANSFORMERS_5 and (family, words) in NEW_ONLY:
        with pytest.raises(ExportError, match=r"config.json states .*, which transformers 4.* does not know"):
            open_checkpoint(spec)
        return
    checkpoint = open_checkpoint(spec).checkpoint
    config = load_model(checkpoint).config
    rope = words["rope_parameters"]
    theta = rope.get(FULL, rope)["rope_theta"]
    if TRANSFORMERS_5:
        read = config.rope_parameters
        assert read.get(FULL, read)["rope_theta"] == theta
    else:
        assert getattr(config, "global_rope_theta", None) or config.rope_theta == theta
    if FAMILIES[family].encoder is None:
        return
    assert choose_route(checkpoint, spec).route == "built from the weights"
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path, batch)
    expected = torch_rows(load_model(checkpoint), batch)
    assert largest_difference(built, expected, batch) <= FAMILIES[family].max_abs_diff


@pytest.mark.parametrize("has_modules", [False, True])
@pytest.mark.parametrize(
    ("family", "words"), [("qwen3", {"rope_parameters": YARN}), ("modernbert", CASES[-2][1])]
)
def test_the_bundle_has_them_and_the_library_says_so(
    has_modules: bool, family: str, words: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved_by_5(tmp_path / "m", family, **words)
    if has_modules:
        modules(folder, ("1_Pooling", "Pooling"))
        pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
        write_json(folder / "1_Pooling" / "config.json", pooling)
    bundle = export(ExportSpec(model=str(folder), output=tmp_path / "out", pooling=("MEAN",)))
    assert load_manifest(bundle).source.ignored_keys == ()


@pytest.mark.skipif(
    not TRANSFORMERS_5, reason="transformers 4 reads rope_scaling, and does not know the flag"
)
@pytest.mark.parametrize("rope", [LONG, {"rope_type": "dynamic", "rope_theta": 500.0, "factor": 2.0}])
def test_rotations_that_depend_on_the_longest_text_hold_up_to_its_limit(
    rope: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved_by_5(tmp_path / "m", "llama", rope_parameters=rope)
    checkpoint = open_checkpoint(ExportSpec(model=str(folder), max_seq_len=64)).checkpoint
    batch = token_batch()
    built = run(*build_from_weights(describe(checkpoint)), tmp_path, batch)
    assert largest_difference(built, torch_rows(load_model(checkpoint), batch), batch) <= 1e-4
    with pytest.raises(ExportError, match=r"change where a text of a batch is longer than \d+ tokens"):
        open_checkpoint(ExportSpec(model=str(folder), max_seq_len=200))


def test_an_unknown_key_is_refused_by_name_and_may_be_answered_for(tmp_path: Path, capsys: Any) -> None:
    folder = make(tmp_path / "m", "bert", "embed")
    restate(folder, lambda stated: stated | {"use_parallel_residual": True})
    flags = ["export", str(folder), "-o", str(tmp_path / "out"), "--quiet", "--pooling", "CLS"]
    assert main(flags) == 1
    message = capsys.readouterr().err
    assert re.search(
        r"states use_parallel_residual .*, which transformers [\d.]+ does not know for model_type 'bert' "
        r"\(the checkpoint was saved by transformers 5\.24\.0\).*no number, pass --ignore-key use_parallel_residual",
        message,
    )
    assert not (tmp_path / "out").exists()
    assert main([*flags, "--ignore-key", "use_parallel_residual"]) == 0
    assert load_manifest(tmp_path / "out").source.ignored_keys == ("use_parallel_residual",)


@pytest.mark.parametrize(
    ("family", "key", "value", "message"),
    [
        ("bert", "quantization_config", {"bits": 4}, "the weights are quantised"),
        ("modernbert", "layer_norm_eps", 1e-3, r"states layer_norm_eps \(0.001\), which"),
        ("qwen2", "use_mrope", True, r"states use_mrope \(True\), which"),
        ("bert", "position_embedding_type", "rope", r"states position_embedding_type \(.rope.\), which"),
        ("gemma", "use_bidirectional_attention", True, "depend on its neighbours"),
        ("llama", "use_bidirectional_attention", True, r"states use_bidirectional_attention \(True\), which"),
    ],
)
def test_values_that_nothing_honours(
    family: str, key: str, value: object, message: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "m", family, "embed")
    restate(folder, lambda stated: stated | {key: value})
    if key == "position_embedding_type" and not TRANSFORMERS_5:
        pytest.skip("transformers 4 knows it")
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(folder)))


def test_keys_that_say_nothing_or_cannot_change_numbers(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "bert", "embed")
    harmless = {key: "1" for key in HARMLESS if key not in ("auto_map", "architectures", "model_type")}
    # read by somebody, who expects more of them than "1"
    typed = (
        "gradient_checkpointing",
        "is_matryoshka",
        "matryoshka_dimensions",
        "sentence_transformers",
        "dtype",
        "torch_dtype",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "_num_labels",
    )
    known = known_keys(type(load_model(open_checkpoint(ExportSpec(model=str(folder))).checkpoint).config))
    stated = {key: value for key, value in harmless.items() if key not in known and key not in typed}
    extra = {key: values[0] for key, values in HARMLESS_AT.items()} | {"made_up": None, "also": [], "too": {}}
    restate(folder, lambda config: stated | extra | {"is_causal": False} | config)
    open_checkpoint(ExportSpec(model=str(folder)))


def test_an_adapter_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "bert", "embed")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    message = r"holds an adapter \(adapter_config.json\).*merge_and_unload"
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(folder)))
    (folder / "config.json").unlink()
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(folder)))


def test_words_that_mean_something_else_are_not_translated() -> None:
    known = {"rope_theta"}
    assert in_old_words({"rope_parameters": LINEAR}, known).translated == ()
    assert in_old_words({"rope_parameters": "x"}, known).translated == ()
    assert in_old_words({"rope_parameters": {"rope_type": "default"}}, known).translated == ()
    assert in_old_words({"rope_parameters": THETA}, known).words == {"rope_theta": 500.0}
    assert in_old_words(
        {"layer_types": [FULL, SLIDING, SLIDING, FULL]}, {"global_attn_every_n_layers"}
    ).words == {"global_attn_every_n_layers": 3}
    assert np.isclose(
        in_old_words({"rope_parameters": YARN}, {*known, "rope_scaling"}).words["rope_theta"], 500
    )


def test_a_key_beside_the_one_that_is_read_may_say_the_same(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "modernbert", "embed")
    restate(folder, lambda stated: stated | {"layer_norm_eps": stated["norm_eps"]})
    open_checkpoint(ExportSpec(model=str(folder)))
