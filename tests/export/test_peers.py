"""Bundles of every kind against sentence-transformers on the same checkpoint."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from tests.export import tiny_kinds
from tests.export.tiny import edit_json, make_bert

from embedge import EdgeModel
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import PAIRS, TEXTS

TEXTS_WITH_TOKENS = [text for text in TEXTS if text.strip()]


def load(folder, **options):
    bundle = export(ExportSpec(model=str(folder), output=folder.parent / "out", **options))
    return EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: tiny_kinds.bert_classifier(folder, "relevance"),
        tiny_kinds.roberta_pairs,
        lambda folder: tiny_kinds.logit_score(folder, tiny_kinds.CHAT),
    ],
    ids=["bert", "roberta", "causal"],
)
def test_cross_encoders(tmp_path, make):
    folder = make(tmp_path / "m")
    peer = CrossEncoder(str(folder), device="cpu")
    queries, documents = zip(*PAIRS, strict=True)
    with load(folder) as model:
        scores = model.score(list(queries), list(documents)).numpy()
    assert_allclose(scores, peer.predict(list(PAIRS)), atol=5e-6)


@pytest.mark.parametrize("config", [{}, {"pooling_strategy": "sum"}], ids=["max", "sum"])
def test_splade(tmp_path, config):
    folder = tiny_kinds.splade(tmp_path / "m", **config)
    expected = SparseEncoder(str(folder), device="cpu").encode(TEXTS_WITH_TOKENS).to_dense().numpy()
    with load(folder) as model:
        assert_allclose(model.embed(TEXTS_WITH_TOKENS).numpy(), expected, atol=1e-5)


def lower_cased(folder):
    make_bert(folder)
    edit_json(folder / "sentence_bert_config.json", do_lower_case=True)
    edit_json(folder / "tokenizer.json", normalizer=None)
    return folder


def concatenated(folder):
    dense = ((64, 24, "torch.nn.modules.activation.Tanh"),)
    make_bert(folder, dense=dense, word_embedding_dimension=32, pooling_mode=["cls", "mean"])
    return folder


@pytest.mark.parametrize("make", [tiny_kinds.static, tiny_kinds.qwen3_embedder, lower_cased, concatenated])
def test_embedders(tmp_path, make):
    folder = make(tmp_path / "m")
    peer = SentenceTransformer(str(folder), device="cpu")
    with load(folder) as model:
        # thousands of equal tokens are added up in another order
        assert_allclose(model.embed(TEXTS_WITH_TOKENS).numpy(), peer.encode(TEXTS_WITH_TOKENS), atol=1e-5)
        for name in model.manifest.prompts:
            actual = model.embed(TEXTS_WITH_TOKENS, prompt_name=name).numpy()
            expected = peer.encode(TEXTS_WITH_TOKENS, prompt_name=name)
            assert_allclose(actual, expected, atol=1e-5)
            assert np.isfinite(actual).all()
