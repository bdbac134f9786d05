"""Kinds of checkpoint: the table, the union that holds what one kind has, and what is read of each."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.export import tiny_kinds
from tests.export.tiny import make_bert

from embedge.errors import ExportError
from embedge.manifest import PoolingSpec
from embedge_export.source import weights as source_weights
from embedge_export.source.kinds import KINDS, Kind, What
from embedge_export.source.read import open_checkpoint
from embedge_export.source.static import Static
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec

MAKERS = {
    "causal_reranker": (tiny_kinds.qwen3_reranker, {"yes_token": "yes", "no_token": "no"}),
    "classifier": (lambda folder: tiny_kinds.bert_classifier(folder, "bad", "good"), {}),
    "embedding": (lambda folder: make_bert(folder), {}),
    "late_interaction": (tiny_kinds.pylate, {}),
    "pooled_classifier": (tiny_kinds.pooled_classifier, {}),
    "reward": (tiny_kinds.reward_model, {"step_tag": "<step>"}),
    "sparse": (tiny_kinds.splade, {}),
    "static": (tiny_kinds.static, {}),
    "token_classifier": (tiny_kinds.token_classifier, {}),
}


def opened(folder, kind="embedding", **options):
    make, own = MAKERS[kind]
    make(folder)
    return open_checkpoint(ExportSpec(model=str(folder), **own, **options))


def test_every_kind_has_a_row_and_a_member_of_the_union():
    members = {member.__struct_config__.tag for member in get_args(What)}
    assert set(KINDS) == members == set(get_args(Kind)) == set(MAKERS)
    assert list(KINDS) == sorted(KINDS)


def test_transformers_has_every_loader():
    import transformers

    for facts in KINDS.values():
        assert facts.loader is None or hasattr(transformers, facts.loader)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_a_checkpoint_is_read_completely(kind, tmp_path):
    source = opened(tmp_path / "m", kind)
    checkpoint = source.checkpoint
    assert checkpoint.kind == kind
    assert set(checkpoint.tasks) >= set(KINDS[kind].tasks)
    assert (checkpoint.head is not None) == (
        kind in ("causal_reranker", "classifier", "pooled_classifier", "reward", "token_classifier")
    )
    assert (checkpoint.late_interaction is not None) == (kind == "late_interaction")
    assert (checkpoint.template is not None) == (kind == "causal_reranker")
    assert (checkpoint.step_tag is not None) == (kind == "reward")
    assert checkpoint.sparse == (kind == "sparse")
    assert (checkpoint.embedding_size is not None) == (KINDS[kind].tasks[0] in ("embed", "token_embed"))
    assert source.tokenization.template == checkpoint.template


def test_words_are_token_ids_when_a_checkpoint_is_open(tmp_path):
    reward = opened(tmp_path / "reward", "reward")
    tag = reward.tokenization.tokenizer.get_vocab()["<step>"]
    assert reward.checkpoint.pooling == PoolingSpec(modes=("STEP",), step_tag_id=tag)
    reranker = opened(tmp_path / "reranker", "causal_reranker")
    vocabulary = reranker.tokenization.tokenizer.get_vocab()
    what = reranker.checkpoint.what
    assert (what.yes_id, what.no_id) == (vocabulary["yes"], vocabulary["no"])


def test_the_main_task_of_static_embeddings_may_be_chosen(tmp_path):
    checkpoint = opened(tmp_path / "m", "static", task="token_embed").checkpoint
    assert checkpoint.tasks == ("token_embed", "embed")


def test_static_embeddings_have_a_table_and_no_model(tmp_path):
    checkpoint = opened(tmp_path / "m", "static").checkpoint
    loaded = load_weights(checkpoint)
    assert isinstance(checkpoint.what, Static)
    assert loaded.model is None
    assert loaded.table.shape == (checkpoint.vocab_size, checkpoint.hidden_size)
    with pytest.raises(ExportError, match="static embeddings have no class of transformers"):
        source_weights.load_model(checkpoint)


def test_an_export_reads_modules_once(tmp_path, monkeypatch):
    from embedge_export.pipeline import export

    make_bert(tmp_path / "m", dense=((32, 24, "torch.nn.Tanh"), (24, 16, "torch.nn.Identity")))
    read, real = [], source_weights.load_module

    def counted(module):
        read.append(module.folder.name)
        return real(module)

    monkeypatch.setattr(source_weights, "load_module", counted)
    export(ExportSpec(model=str(tmp_path / "m"), output=tmp_path / "out"))
    assert len(read) == len(set(read)) == 2
