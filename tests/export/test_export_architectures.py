"""Every architecture of families.py, as an embedder with random weights."""

import pytest
from tests.export import tiny_kinds
from tests.export.tiny import word_piece

from embedge.manifest import load_manifest
from embedge_export.families import FAMILIES
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

ROTARY = {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
ENCODER = {"max_position_embeddings": 66}
# T5 does not scale its attention: large weights would make it a test of rounding
T5 = {"scale": 0.05, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
CONFIGS = {
    "albert": ("AlbertModel", "AlbertConfig", ENCODER | {"embedding_size": 16}),
    "bert": ("BertModel", "BertConfig", ENCODER),
    "camembert": ("CamembertModel", "CamembertConfig", ENCODER | {"pad_token_id": 0}),
    "deberta": (
        "DebertaModel",
        "DebertaConfig",
        ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "deberta-v2": (
        "DebertaV2Model",
        "DebertaV2Config",
        ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    ),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        ENCODER | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
    "electra": ("ElectraModel", "ElectraConfig", ENCODER | {"embedding_size": 16}),
    "gemma": ("GemmaModel", "GemmaConfig", ROTARY),
    "gemma2": ("Gemma2Model", "Gemma2Config", ROTARY | {"sliding_window": 16}),
    "gemma3_text": ("Gemma3TextModel", "Gemma3TextConfig", ROTARY | {"sliding_window": 16}),
    "llama": ("LlamaModel", "LlamaConfig", ROTARY),
    "mistral": ("MistralModel", "MistralConfig", ROTARY),
    "modernbert": (
        "ModernBertModel",
        "ModernBertConfig",
        {"max_position_embeddings": 64, "local_attention": 8, "pad_token_id": 0, "reference_compile": False},
    ),
    "mpnet": ("MPNetModel", "MPNetConfig", ENCODER | {"pad_token_id": 0}),
    "mt5": ("MT5EncoderModel", "MT5Config", T5),
    "phi3": (
        "Phi3Model",
        "Phi3Config",
        {"num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0},
    ),
    "qwen2": ("Qwen2Model", "Qwen2Config", {"num_key_value_heads": 2, "max_position_embeddings": 128}),
    "qwen3": ("Qwen3Model", "Qwen3Config", ROTARY),
    "roberta": ("RobertaModel", "RobertaConfig", ENCODER | {"pad_token_id": 0}),
    "t5": ("T5EncoderModel", "T5Config", T5),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", ENCODER | {"pad_token_id": 0}),
}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_embedder(model_type, tmp_path):
    model_class, config_class, config = CONFIGS[model_type]
    folder = tiny_kinds.save(tmp_path / "m", model_class, config_class, word_piece(), **config)
    manifest = load_manifest(export(ExportSpec(model=str(folder), output=tmp_path / "out")))
    assert manifest.pooling.modes == (FAMILIES[model_type].pooling,)
    assert manifest.variants["fp32"].fidelity.max_abs_diff <= FAMILIES[model_type].max_abs_diff
