"""sentence_bert_config.json: what it states is done as sentence-transformers does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import make
from tests.checkpoints.reference import answers
from tests.checkpoints.saving import edit_json
from tests.parity.asked import TEXTS, load

from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

ATOL = 1e-5
FILE = "sentence_bert_config.json"
NAMES = ["settings-max-length", "settings-tokenizer", "settings-config", "settings-side", "settings-lower"]
STATED: dict[str, dict[str, Any]] = {
    "the limit of the call goes before that of the tokenizer": {
        "max_seq_length": 40,
        "tokenizer_args": {"model_max_length": 30},
        "processing_kwargs": {"text": {"max_length": 20}},
    },
    "what is common goes before what is of texts": {
        "processing_kwargs": {"text": {"max_length": 40}, "common": {"max_length": 12}, "image": {"size": 8}},
    },
    "the limit of the tokenizer goes before the older one": {
        "max_seq_length": 40,
        "processor_kwargs": {"model_max_length": 20, "truncation_side": "left"},
    },
    "words that change no number": {
        "max_seq_length": 24,
        "unpad_inputs": False,
        "model_args": {"torch_dtype": "float32", "attn_implementation": "eager", "add_pooling_layer": False},
        "tokenizer_args": {"padding_side": "right"},
        "config_args": {"output_attentions": False},
        "processing_kwargs": {"text": {"padding": True, "truncation": True, "pad_to_multiple_of": 8}},
    },
    "another configuration": {
        "config_kwargs": {"num_hidden_layers": 1, "hidden_act": "relu"},
        "max_seq_length": 64,
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_settings(exported, name) -> None:
    checkpoint, bundle = exported(name)
    with load(bundle) as model:
        expected = np.stack(answers(name, checkpoint, TEXTS))
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("words", STATED)
def test_settings_together(tmp_path, words) -> None:
    checkpoint = make("settings-lower", tmp_path / "m")
    edit_json(checkpoint / FILE, do_lower_case=..., **STATED[words])
    _agrees(tmp_path, checkpoint)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "xlnet"])
def test_the_file_under_an_older_name(tmp_path, name) -> None:
    checkpoint = make("settings-lower", tmp_path / "m")
    (checkpoint / FILE).unlink()
    (checkpoint / f"sentence_{name}_config.json").write_text('{"max_seq_length": 18, "do_lower_case": false}')
    _agrees(tmp_path, checkpoint)


def _agrees(folder, checkpoint) -> None:
    bundle = export(ExportSpec(model=str(checkpoint), output=folder / "bundle"))
    with load(bundle) as model:
        expected = np.stack(answers("settings-lower", checkpoint, TEXTS))
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=ATOL, rtol=0)
