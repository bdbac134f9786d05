"""The table of defaults against transformers, of whichever generation is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.families.groups import LOCAL
from tests.families.tiny import TINY, config
from tests.installed import TRANSFORMERS_5

from embedge.errors import ExportError, MissingExtraError
from embedge_export.families.completion import complete
from embedge_export.families.defaults import DEFAULTS
from embedge_export.families.parts import UnsupportedError
from embedge_export.families.spelling import in_new_words, steady_length
from embedge_export.families.table import FAMILIES
from embedge_export.source.config_keys import HARMLESS, HARMLESS_AT, known_keys
from embedge_export.source.own_config import read_own_config
from embedge_export.source.transformer import config_facts, read_config
from embedge_export.spec import ExportSpec

LIGHT = ExportSpec(model="tiny", reference="numpy")
OTHERWISE = {"modernbert-decoder", "olmo3"} if not TRANSFORMERS_5 else set()
"""What transformers 5 reads otherwise: OLMo 3's rope_theta for some layers alone, so that others than its default are
refused; the window of ModernBERT's decoder, which transformers 4 saves and does not read, and a local_rope_theta that
is not stated.
"""
NAMES = [name for name in DEFAULTS if name in {*LOCAL, "nomic_bert"} - OTHERWISE]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
CHANGES: dict[str, tuple[dict[str, Any], ...]] = {
    "bert": (
        {"num_labels": 3}, {"id2label": {"0": "no"}, "label2id": {"no": 0}}, {"position_embedding_type": "absolute"},
    ),
    "deberta": (
        {"pos_att_type": "p2c|c2p", "max_relative_positions": 12},
        {"position_biased_input": False, "type_vocab_size": 2},
    ),
    "deberta-v2": (
        {"pos_att_type": "p2c|c2p", "share_att_key": True},
        {"norm_rel_ebd": "layer_norm", "position_biased_input": False},
    ),
    "gemma": ({"hidden_activation": "gelu"}, {"hidden_act": "gelu", "rope_theta": 500.0}),
    "phi3": ({"sliding_window": 8}, {"original_max_position_embeddings": 64}),
    "distilbert": ({"dim": 64, "n_layers": 3},),
    "gemma2": (
        {"attn_logit_softcapping": None, "hidden_activation": "gelu"}, {"num_hidden_layers": 5},
        {"final_logit_softcapping": None, "layer_types": None, "sliding_window": 3},
    ),
    "gemma3_text": (
        {"sliding_window": 7, "use_bidirectional_attention": True},
        {"sliding_window_pattern": 2, "num_hidden_layers": 4},
        {"rope_theta": 5000.0, "rope_local_base_freq": 300.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "granite": ({"attention_multiplier": 0.3, "mlp_bias": True}, {"rope_theta": 500.0, "is_causal": False}),
    "llama": (
        {"head_dim": 16}, {"rope_theta": 500.0}, {"rope_scaling": YARN, "rope_theta": 500.0},
        {"num_key_value_heads": None}, {"is_causal": False},
        {"attention_bias": True, "mlp_bias": True}, {"rope_scaling": {"type": "linear", "factor": 2.0}},
    ),
    "ministral": ({"sliding_window": None, "layer_types": None}, {"layer_types": None, "num_hidden_layers": 3}),
    "ministral3": ({"rope_parameters": None}, {"sliding_window": 4}),
    "mistral": ({"sliding_window": None}, {"head_dim": None}),
    "modernbert": (
        {"global_attn_every_n_layers": 2, "num_hidden_layers": 5}, {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": YARN}, {"global_rope_theta": 5.0, "local_rope_theta": 6.0},
    ),
    "modernbert-decoder": (
        {"layer_types": None, "num_hidden_layers": 5, "global_attn_every_n_layers": 2},
        {"norm_bias": True, "mlp_bias": True, "attention_bias": True, "classifier_bias": False},
    ),
    "olmo2": ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"num_key_value_heads": None}),
    "olmo3": (
        {"layer_types": None, "num_hidden_layers": 5}, {"rope_scaling": YARN, "rope_theta": 500_000.0},
        {"rope_parameters": {"full_attention": {"rope_theta": 7.0, "rope_type": "default"}}},
    ),
    "qwen2": ({"sliding_window": 8}, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "smollm3": (
        {"no_rope_layers": None, "num_hidden_layers": 5, "no_rope_layer_interval": 2},
        {"use_sliding_window": True, "sliding_window": 7, "layer_types": None},
    ),
    "qwen3": ({"use_sliding_window": True, "max_window_layers": 1, "rope_theta": 1e6},),
}  # fmt: skip


class Watched(dict[str, Any]):
    """A configuration that notes what is asked of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def items(self) -> Any:
        self.asked |= set(self)
        return super().items()

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def read(name: str, facts: dict[str, Any]) -> tuple[list[Any], set[str]]:
    """What a family's readers make of a configuration, and the keys that they ask for."""
    watched = Watched(in_new_words(facts))
    made: list[Any] = [steady_length(facts)]
    family = FAMILIES[name]
    assert family.encoder is not None
    for reader in (family.encoder, *([] if family.head is None else [family.head])):
        kinds = ("",) if reader is family.encoder else ("sequence", "token", "vocabulary")
        made.extend(_tried(reader, watched, kind) for kind in kinds)
    made.append(family.word_logits(watched))
    return made, watched.asked


def _tried(reader: Any, config: dict[str, Any], kind: str) -> Any:
    try:
        return reader(config, kind) if kind else reader(config)
    except UnsupportedError as error:
        return str(error)


def check(name: str, folder: Path) -> None:
    import transformers.masking_utils  # noqa: F401  # which reads is_causal, of whichever class

    stated = json.loads((folder / "config.json").read_text("utf-8"))
    theirs = config_facts(read_config(folder, trust_remote_code=False))
    ours = read_own_config(stated, LIGHT, has_code=False)
    expected, asked = read(name, theirs)
    made, _ = read(name, ours)
    assert made == expected
    theirs, ours = in_new_words(theirs), in_new_words(ours)
    read_here = {*DEFAULTS[name].values, "id2label", "is_causal", "rope_parameters", "layer_types"}
    stated_there = {key for key in asked & read_here if theirs.get(key) is not None}
    assert {key: ours.get(key) for key in stated_there} == {key: theirs[key] for key in stated_there}


def state(folder: Path, **stated: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(stated), "utf-8")
    return folder


def test_every_built_family_of_transformers_has_a_row() -> None:
    built = {name for name, family in FAMILIES.items() if family.encoder is not None}
    assert set(DEFAULTS) == built - {"new"}, "and 'new' comes with code"
    assert list(DEFAULTS) == sorted(DEFAULTS)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_configuration_is_the_class_s_own(name: str, tmp_path: Path) -> None:
    if name in LOCAL:
        check(name, state(tmp_path, model_type=name))


@pytest.mark.parametrize("name", [name for name in NAMES if name in LOCAL])
def test_a_saved_configuration_is_read_alike(name: str, tmp_path: Path) -> None:
    config(name).save_pretrained(tmp_path)
    check(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "index"),
    [(name, index) for name in CHANGES if name in NAMES for index in range(len(CHANGES[name]))],
)
def test_what_is_stated_decides_as_it_does_there(name: str, index: int, tmp_path: Path) -> None:
    if name == "gemma" and not TRANSFORMERS_5:
        pytest.skip("hidden_act gelu is taken for what is meant from transformers 5 on")
    if name == "modernbert" and "factor" in str(CHANGES[name][index]) and not TRANSFORMERS_5:
        pytest.skip("transformers 4 refuses what 5 passes over")
    if "is_causal" in CHANGES[name][index] and not TRANSFORMERS_5:
        pytest.skip("masks ask for is_causal from transformers 5 on")
    sizes = {**TINY[name].sizes, **TINY[name].options}
    sizes.pop("reference_compile", None)
    check(name, state(tmp_path, **({"model_type": name, "vocab_size": 64, **sizes} | CHANGES[name][index])))


@pytest.mark.parametrize("name", [name for name in NAMES if name in LOCAL])
def test_what_is_read_is_what_transformers_knows(name: str) -> None:
    """A key of the table that the class does not know would be taken for one that counts."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    row, kind = DEFAULTS[name], CONFIG_MAPPING[name]
    assert kind.__name__ == f"{row.classes}Config"
    elsewhere = {
        *HARMLESS, *HARMLESS_AT, "rope_parameters", "layer_types", "global_attn_every_n_layers", "head_dim",
        "sliding_window_pattern",
    }  # fmt: skip
    assert set(row.values) - known_keys(kind) <= elsewhere


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_key_of_the_table_is_passed_over(name: str) -> None:
    """Each default is asked for by a reader, or stands there for what is asked."""
    row = DEFAULTS[name]
    stated = {
        "model_type": name,
        "relative_attention": True,
        "pos_att_type": "c2p|p2c",
        "position_buckets": 256,
    }
    _, asked = read(name, complete(stated, row))
    elsewhere = {
        "pad_token_id", "tie_word_embeddings", "max_position_embeddings", "rope_parameters", "layer_types",
        "global_attn_every_n_layers", "sliding_window_pattern", "max_window_layers", "no_rope_layer_interval",
        "use_sliding_window", "sliding_window", "local_attention", "head_dim", "num_key_value_heads",
        "num_hidden_layers", "vocab_size", "partial_rotary_factor", "original_max_position_embeddings",
    }  # fmt: skip
    assert set(row.values) - asked <= elsewhere


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_switch_that_a_reader_asks_for_is_carried_or_refused(name: str) -> None:
    """One that is accepted and then dropped would be taken for its default."""
    row = DEFAULTS[name]
    _, asked = read(name, complete({"model_type": name}, row))
    carried = 0
    for key in sorted(asked - {"global_rope_theta", "id2label", "layer_types", "rope_parameters"}):
        for value in (False, True):
            try:
                facts = read_own_config({"model_type": name, key: value}, LIGHT, has_code=False)
            except (ExportError, MissingExtraError):
                continue
            carried += 1
            assert bool(in_new_words(facts).get(key)) is value, key
    assert carried or name in (
        "distilbert",
        "gte",
        "jina_embeddings_v3",
        "nomic_bert",
    )  # whose readers ask for no switch


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"model_type": "bert", "novelty": 3}, "novelty (3), which embedge does not know"),
        (
            {"model_type": "bert", "hidden_size": "768"},
            "hidden_size in config.json is '768'; expected a whole number",
        ),
        ({"model_type": "bert", "is_encoder_decoder": True}, "is_encoder_decoder (True)"),
        ({"model_type": "distilbert", "dim": 32, "hidden_size": 64}, "which mean the same"),
        ({"model_type": "electra", "quantization_config": {"bits": 4}}, "the weights are quantised"),
        ({"model_type": "camembert", "vocab_size": 9, "pad_token_id": 9}, "expected less than vocab_size 9"),
        ({"model_type": "bert", "id2label": ["no", "yes"]}, "expected an object with the keys 0, 1"),
        (
            {"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": None},
            "max_window_layers in config.json is None; expected a whole number",
        ),
        ({"model_type": "llama", "is_causal": None}, "is_causal null"),
        *(
            (
                {"model_type": name, "rope_parameters": {"full_attention": {"rope_theta": 7.0}}},
                "reads one rotation",
            )
            for name in ("llama", "qwen3", "eurobert", "gte")
        ),
        *(
            (
                {"model_type": name, "rope_parameters": {"rope_theta": 7.0}},
                "states 'rope_theta' for all layers",
            )
            for name in ("gemma3_text", "modernbert")
        ),
        (
            {"model_type": "gemma3_text", "rope_parameters": {"full_attention": {**YARN, "truncate": False}}},
            "states truncate",
        ),
        (
            {"model_type": "olmo3", "rope_theta": 10_000.0},
            "states rope_theta 10000.0, which transformers 5 reads for",
        ),
        (
            {"model_type": "modernbert-decoder", "sliding_window": 8, "transformers_version": "4.57.6"},
            "was saved by transformers 4.57.6 and states sliding_window 8, which transformers 4 saves",
        ),
        (
            {"model_type": "modernbert-decoder", "local_rope_theta": 1e4, "global_rope_theta": 1.6e5},
            "states local_rope_theta 10000.0 and global_rope_theta 160000.0, of which transformers 4 takes the second",
        ),
        (
            {"model_type": "gemma", "hidden_act": "gelu", "transformers_version": "4.57.6"},
            "which computes gelu there, and which transformers 5 takes for gelu_pytorch_tanh",
        ),
        ({"model_type": "nonsense"}, "is not an architecture that embedge knows"),
    ],
)
def test_what_cannot_be_honoured_is_refused(stated: dict[str, Any], words: str) -> None:
    with pytest.raises(ExportError) as caught:
        read_own_config(stated, LIGHT, has_code=False)
    assert words in str(caught.value)


def test_who_knows_better_may_say_so() -> None:
    spec = ExportSpec(model="tiny", reference="numpy", ignore_keys=("novelty",))
    assert "novelty" not in read_own_config({"model_type": "bert", "novelty": 3}, spec, has_code=False)


GELUS = {"gelu": "gelu_tanh", "gelu_python": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


@pytest.mark.parametrize("word", GELUS)
def test_each_word_for_gemma_s_activation_is_what_its_library_computes(word: str, tmp_path: Path) -> None:
    """transformers 4.48 to 4.57 computed gelu as it stands, 5 takes it for what the first releases meant."""
    import torch
    import transformers

    stated = {"model_type": "gemma", "hidden_act": word, **TINY["gemma"].sizes, **TINY["gemma"].options}
    folder = state(tmp_path, vocab_size=64, **stated)
    settings = read_config(folder, trust_remote_code=False)
    model = transformers.GemmaModel._from_config(settings, attn_implementation="eager")
    numbers = torch.linspace(-3, 3, 50)
    approximate = "none" if (word == "gelu" and not TRANSFORMERS_5) or word == "gelu_python" else "tanh"
    expected = torch.nn.functional.gelu(numbers, approximate=approximate)
    assert torch.allclose(model.layers[0].mlp.act_fn(numbers), expected, atol=1e-6)
    family = FAMILIES["gemma"].encoder
    assert family is not None
    theirs = family(in_new_words(config_facts(settings)))
    ours = family(in_new_words(read_own_config({**stated, "vocab_size": 64}, LIGHT, has_code=False)))
    assert ours.layers[0].feed_forward.activation == GELUS[word]
    assert theirs.layers[0].feed_forward.activation == ("gelu" if approximate == "none" else "gelu_tanh")


@pytest.mark.skipif(not TRANSFORMERS_5, reason="which computes it as it was saved")
def test_a_gelu_that_meant_something_else_is_refused_with_torch_too(tmp_path: Path) -> None:
    from embedge_export.source.config_keys import check_keys

    stated = {"model_type": "gemma", "hidden_act": "gelu", "transformers_version": "4.57.6"}
    settings = read_config(state(tmp_path, **stated), trust_remote_code=False)
    with pytest.raises(ExportError, match="State gelu_python in config.json for the first"):
        check_keys(stated, settings, translated=())


@pytest.mark.parametrize("name", ["lfm2", "embedding_gemma2_text"])
def test_what_is_not_known_is_refused_by_name(name: str) -> None:
    with pytest.raises(ExportError, match=f"model_type '{name}' is not an architecture that embedge knows"):
        read_own_config({"model_type": name}, LIGHT, has_code=False)


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_what_is_only_traced_names_the_extra(name: str) -> None:
    with pytest.raises(MissingExtraError, match="torch and transformers alone"):
        read_own_config({"model_type": name}, LIGHT, has_code=False)
    with pytest.raises(MissingExtraError, match="its own Python code"):
        read_own_config({"model_type": "new"}, LIGHT, has_code=True)
