"""Architectures as embedders, classifiers and rerankers; `make architectures` measures all of them."""

import pytest
from sentence_transformers import SentenceTransformer
from tests.export.architectures import make, measure
from tests.export.tiny import write_json
from tests.export.tiny_kinds import modules
from tests.families.groups import LOCAL

from embedge import EdgeModel
from embedge.manifest import load_manifest
from embedge_export.families.table import FAMILIES
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import TEXTS

# one of each way that a head is made: traced by optimum, attached to a decoder, traced by torch.onnx
HEADS = [
    ("deberta-v2", "token_classify"),
    ("gemma3_text", "classify"),
    ("modernbert", "score"),
    ("mt5", "token_classify"),
    ("qwen2", "token_classify"),
    ("t5", "classify"),
    ("t5", "score"),
]


@pytest.mark.parametrize("model_type", LOCAL)
def test_embedders(model_type, tmp_path):
    figures = measure(model_type, "embed", tmp_path)
    assert set(figures) == {"embed", "token_embed"}
    assert max(figures.values()) <= FAMILIES[model_type].max_abs_diff
    assert load_manifest(tmp_path / "bundle").pooling.modes == (FAMILIES[model_type].pooling,)


@pytest.mark.parametrize(("model_type", "task"), HEADS)
def test_heads(model_type, task, tmp_path):
    assert measure(model_type, task, tmp_path)[task] <= FAMILIES[model_type].max_abs_diff
    assert task in load_manifest(tmp_path / "bundle").tasks


def embedding_gemma(folder):
    """The layout of EmbeddingGemma: attention in both directions, mean pooling, two Dense modules, prompts."""
    import torch
    from safetensors.torch import save_file

    make(folder, "gemma3_text", "embed", use_bidirectional_attention=True)
    modules(
        folder,
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Dense", "Dense"),
        ("4_Normalize", "Normalize"),
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": True},
    )
    for path, sizes in (("2_Dense", (32, 128)), ("3_Dense", (128, 32))):
        facts = {"in_features": sizes[0], "out_features": sizes[1], "bias": False}
        identity = {"activation_function": "torch.nn.modules.linear.Identity"}
        write_json(folder / path / "config.json", facts | identity)
        weight = torch.nn.Linear(*sizes, bias=False).weight.data
        save_file({"linear.weight": weight}, folder / path / "model.safetensors")
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"}
    )
    return folder


def test_embedding_gemma(tmp_path):
    folder = embedding_gemma(tmp_path / "m")
    peer = SentenceTransformer(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    bundle = export(ExportSpec(model=str(folder), output=tmp_path / "out", matryoshka=(8, 16, 32)))
    texts = [text for text in TEXTS if text.strip()]
    with EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        for name in ("query", "document"):
            expected = peer.encode(texts, prompt_name=name)
            assert abs(model.embed(texts, prompt_name=name).numpy() - expected).max() <= 1e-5
        causal = model.embed(["a man is", "a man is eating"]).numpy()
    assert abs(causal[0] - causal[1]).max() > 1e-3
