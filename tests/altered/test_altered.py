"""Values that no checkpoint should state: refused in a sentence, or the library's numbers."""

from __future__ import annotations

import json

import pytest
from tests.altered import tokenizers
from tests.altered.trial import attempt
from tests.altered.values import Alteration, alterations, keys, sample
from tests.export.architectures import make
from tests.installed import TRANSFORMERS_5

from embedge_export.source.config_keys import _DTYPES

FAMILIES = ("albert", "bert", "gemma3_text", "llama", "modernbert")
"""One of each make of readers; `python -m tests.altered` tries all of all families."""
PER_FAMILY = 3
PER_TOKENIZER = 12
LONG = {"rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 64}
REFUSED = [
    ("bert", "layer_norm_eps", None),
    ("bert", "layer_norm_eps", -1),
    ("bert", "num_attention_heads", 0),
    ("bert", "num_hidden_layers", 10**12),
    ("bert", "num_hidden_layers", True),
    ("bert", "chunk_size_feed_forward", 5),
    ("bert", "hidden_act", None),
    ("bert", "vocab_size", 1e30),
    ("gemma3_text", "num_hidden_layers", 10**12),
    ("bert", "dtype", "float31"),
    ("bert", "dtype", "auto"),
    ("bert", "torch_dtype", "cuda"),
    ("llama", "rope_parameters", "x"),
    ("llama", "rope_parameters", LONG),
    ("llama", "rope_scaling", "x"),
    ("modernbert", "rope_parameters", 0),
    ("llama", "rope_scaling", {"rope_type": "longrope", "factor": 2.0}),
    ("llama", "rms_norm_eps", None),
    ("modernbert", "local_attention", "x"),
]


@pytest.mark.parametrize("reference", ["torch", "numpy"])
@pytest.mark.parametrize(("family", "key", "value"), REFUSED)
def test_these_are_refused_by_either_route(reference, family, key, value, tmp_path):
    folder = make(tmp_path / "m", family, "embed")
    outcome = attempt(Alteration(family, key, value), folder, tmp_path, reference)
    assert outcome.verdict == "refused", outcome.words
    assert outcome.words.strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_is_refused_or_has_the_numbers_of_the_library(family, tmp_path):
    folder = make(tmp_path / "m", family, "embed")
    before = (folder / "config.json").read_bytes()
    for alteration in sample(family, folder, PER_FAMILY):
        outcome = attempt(alteration, folder, tmp_path, "numpy")
        assert outcome.is_right, outcome
    assert (folder / "config.json").read_bytes() == before


def test_every_key_of_a_file_is_altered(tmp_path):
    folder = make(tmp_path / "m", "bert", "embed")
    stated = set(json.loads((folder / "config.json").read_bytes())) - {"model_type"}
    assert stated <= set(keys("bert", folder))
    assert len(list(alterations("bert", folder))) > 1000


def test_the_words_for_types_are_those_of_torch():
    import torch

    assert all(isinstance(getattr(torch, word), torch.dtype) for word in _DTYPES)
    assert {"float32", "float16", "bfloat16", "float64"} <= set(_DTYPES)


REFUSED_OF_TOKENIZERS = [
    ("bert", "model_max_length", "x"),
    ("bert", "model_max_length", []),
    ("qwen", "model_max_length", 0.5),
    ("qwen", "add_prefix_space", "x"),
    ("bert", "extra_special_tokens", "x"),
    ("gemma", "additional_special_tokens", 0),
    ("roberta", "init_inputs", None),
    ("bert", "model_specific_special_tokens", {"x": 1}),
    ("bert", "split_special_tokens", None),
    ("bert", "tokenizer_class", 0),
    ("xlm-roberta", "_spm_precompiled_charsmap", "x"),
]


@pytest.mark.parametrize("reference", ["torch", "numpy"])
@pytest.mark.parametrize(("family", "key", "value"), REFUSED_OF_TOKENIZERS)
def test_these_of_a_tokenizer_are_refused_by_name(reference, family, key, value, tmp_path):
    folder = tokenizers.make(family, tmp_path)
    outcome = tokenizers.attempt(Alteration(family, key, value), folder, reference)
    assert outcome.verdict == "refused", outcome.words
    assert f"{key} in tokenizer_config.json is {value!r}; expected " in outcome.words


@pytest.mark.skipif(not TRANSFORMERS_5, reason="read as transformers 5 does")
@pytest.mark.parametrize("reference", ["torch", "numpy"])
@pytest.mark.parametrize("family", tokenizers.MADE)
def test_a_sample_of_a_tokenizer_is_refused_or_has_the_ids_of_the_library(reference, family, tmp_path):
    folder = tokenizers.make(family, tmp_path)
    for alteration in tokenizers.sample(family, folder, PER_TOKENIZER):
        outcome = tokenizers.attempt(alteration, folder, reference)
        assert outcome.is_right, outcome
