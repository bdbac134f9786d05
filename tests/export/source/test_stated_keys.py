"""Keys of a checkpoint's module files: each is read, known to change no number, or refused by name."""

from __future__ import annotations

import json

import pytest
from tests.checkpoints.saving import edit_json, read_json, write_json
from tests.export.tiny import make_bert

from embedge.errors import ExportError
from embedge_export.source.fields import account_for
from embedge_export.source.module_files import read_modules
from embedge_export.source.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    chain_to,
    row_size,
    without_last_normalize,
)
from embedge_export.source.read import open_checkpoint
from embedge_export.source.settings import FILES, read_settings
from embedge_export.spec import ExportSpec

FILE = FILES[0]


def settings(folder, **stated):
    write_json(folder / FILE, stated)
    return read_settings(folder, "feature-extraction")


def test_nothing_stated_is_the_librarys_default(tmp_path):
    read = read_settings(tmp_path, "feature-extraction")
    assert (read.limit, read.do_lower_case, read.method_output_name) == (None, False, "last_hidden_state")
    assert (read.module_output_name, read.message_format, read.query_expansion) == (
        "token_embeddings",
        None,
        None,
    )
    assert read_settings(tmp_path, "fill-mask").method_output_name == "logits"


def test_what_is_stated_is_read(tmp_path):
    read = settings(
        tmp_path,
        transformer_task="feature-extraction",
        modality_config={
            "text": {"method": "forward", "method_output_name": "last_hidden_state"},
            "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"},
            "image+text": {"method": "forward", "method_output_name": "last_hidden_state"},
        },
        module_output_name="rows",
        processing_kwargs={"chat_template": {"add_generation_prompt": True}, "text": {"max_length": 9}},
        tokenizer_args={"model_max_length": 8, "trust_remote_code": True, "truncation_side": "left"},
        config_args={"num_hidden_layers": 1, "revision": "main"},
        query_length=32,
    )
    assert (read.max_length, read.limit, read.message_format) == (9, 9, "flat")
    assert read.processor_kwargs == {"model_max_length": 8, "truncation_side": "left"}
    assert read.config_kwargs == {"num_hidden_layers": 1}
    assert read.chat_template == {"add_generation_prompt": True}
    assert (read.module_output_name, read.query_length) == ("rows", 32)


HIDDEN = {"method": "forward", "method_output_name": ["hidden_states", -2]}
FEATURES = {"method": "get_text_features", "method_output_name": None}
IMAGES = {"image": {"method": "forward", "method_output_name": "pooler_output"}}


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"swirl": 3}, r"sentence_bert_config.json states swirl \(3\), which.*--ignore-key swirl"),
        ({"model_args": {"rotary_scaling_factor": 2}}, r"model_kwargs in .* states rotary_scaling_factor"),
        ({"processing_kwargs": {"max_length": 8}}, r"processing_kwargs in .* states max_length"),
        ({"processing_kwargs": {"text": {"stride": 8}}}, r"processing_kwargs.text in .* states stride"),
        ({"processing_kwargs": {"text": {"truncation": "only_second"}}}, r"states truncation 'only_second'"),
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, r"states add_special_tokens False"),
        ({"max_seq_length": "512"}, r"max_seq_length in .* is '512'"),
        ({"max_seq_length": 0}, r"max_seq_length in .* is 0"),
        ({"tokenizer_args": {"model_max_length": -1}}, r"model_max_length in .* is -1"),
        ({"do_lower_case": "yes"}, r"do_lower_case in .* is 'yes'"),
        ({"config_args": [1]}, r"config_kwargs in .* is \[1\]"),
        ({"transformer_task": "any-to-any"}, r"transformer_task 'any-to-any'"),
        ({"modality_config": {"text": HIDDEN}, "module_output_name": "token_embeddings"}, r"\['hidden_states', -2\]"),
        ({"modality_config": {"text": FEATURES}, "module_output_name": "x"}, r"the method 'get_text_features'"),
        ({"modality_config": IMAGES, "module_output_name": "x"}, r"expected text or message"),
        ({"modality_config": {"text": {**HIDDEN, "method_output_name": "pooler_output"}}}, r"no module_output_name"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(tmp_path, stated, message):
    with pytest.raises(ExportError, match=rf"(?s){message}"):
        settings(tmp_path, **stated)


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        ("1_Pooling", {"swirl": 1}, r"1_Pooling/config.json states swirl"),
        ("1_Pooling", {"include_prompt": "no"}, r"include_prompt in 1_Pooling/config.json is 'no'"),
        ("2_Dense", {"swirl": 1}, r"2_Dense/config.json states swirl"),
        ("2_Dense", {"bias": 1}, r"bias in 2_Dense/config.json is 1"),
        ("2_Dense", {"use_residual": None}, r"use_residual in 2_Dense/config.json is None"),
        ("2_Dense", {"module_input_name": "rows"}, r"a Dense module reads 'rows', which no module"),
        ("2_Dense", {"module_output_name": "cls_token_embeddings"}, r"other modules read as something else"),
    ],
)
def test_keys_of_modules(tmp_path, module, changes, message):
    make_bert(tmp_path / "m", dense=((32, 8, "torch.nn.Identity"),))
    edit_json(tmp_path / "m" / module / "config.json", **changes)
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": "custom_st.Dense"}, "custom_st.Dense is the checkpoint's own code"),
        ({"when": "never"}, "modules.json states when"),
        ({"name": "0"}, "names two modules '0'"),
    ],
)
def test_entries_of_modules_json(tmp_path, entry, message):
    make_bert(tmp_path / "m")
    modules = read_json(tmp_path / "m" / "modules.json")
    added = {"idx": 9, "name": "99", "path": "99_Other", "type": "sentence_transformers.models.Dropout"}
    write_json(tmp_path / "m" / "modules.json", [*modules, added | entry])
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))


def test_without_pooling_the_caller_is_asked(tmp_path):
    make_bert(tmp_path / "m")
    modules = read_json(tmp_path / "m" / "modules.json")
    write_json(tmp_path / "m" / "modules.json", modules[:1])
    with pytest.raises(ExportError, match=r"no Pooling module.*--pooling MEAN"):
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))
    checkpoint = open_checkpoint(ExportSpec(model=str(tmp_path / "m"), pooling=("MEAN",))).checkpoint
    assert checkpoint.pooling.modes == ("MEAN",)


def test_lengths_by_task_are_refused_where_they_mean_nothing(tmp_path):
    make_bert(tmp_path / "m")
    edit_json(tmp_path / "m" / FILE, document_length=64)
    with pytest.raises(ExportError, match="states document_length"):
        open_checkpoint(ExportSpec(model=str(tmp_path / "m")))


def test_a_key_may_be_passed_over(tmp_path):
    make_bert(tmp_path / "m")
    edit_json(tmp_path / "m" / "1_Pooling" / "config.json", swirl=1)
    read = read_modules(tmp_path / "m", ignore_keys=("swirl",))
    assert [type(module) for module in read.sequence][:1] == [Pooling]
    with pytest.raises(ExportError, match=r"a.json states b \('x+\.\.\.\), which.*expected some of c"):
        account_for({"a": 1, "b": "x" * 80, "c": 2}, "a.json", known=("c",), ignored={"a": "nothing"})


def test_chains(tmp_path):
    pooling = Pooling(modes=("MEAN", "CLS"), size=32)
    sizes = {"folder": tmp_path, "bias": True, "activation": "Tanh"}
    by_token = Dense(
        in_features=32,
        out_features=16,
        module_input_name="token_embeddings",
        module_output_name="other",
        **sizes,
    )
    after = Dense(in_features=64, out_features=8, **sizes)
    modules = (by_token, pooling, LayerNorm(folder=tmp_path, size=64), Normalize(), after, Normalize())
    chain = chain_to("sentence_embedding", modules)
    assert chain == modules[1:]
    assert row_size(chain, 32) == 8
    assert without_last_normalize(chain) == (modules[1:5], True)
    assert chain_to("token_embeddings", modules) == ()
    assert chain_to("other", modules) == (by_token,)
    assert chain_to("nothing", modules) is None
    assert chain_to("sentence_embedding", (Normalize(module_input_name="absent"), *modules)) == modules[1:]
    with pytest.raises(ExportError, match="reads a row that was pooled already"):
        chain_to("x", (pooling, Pooling(modes=("MAX",), module_input_name="sentence_embedding")))
    assert json.dumps(FILES).count("sentence_") == 7
