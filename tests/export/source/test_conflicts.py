"""Statements of a checkpoint's files that exclude each other: refused in one sentence, nothing written."""

from __future__ import annotations

import pytest
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json
from tests.export import tiny_kinds

from embedge.errors import ExportError
from embedge_export.source.conflicts import _FLAGS
from embedge_export.source.kinds import KINDS
from embedge_export.source.read import open_checkpoint
from embedge_export.spec import ExportSpec


def test_a_template_longer_than_the_limit(tmp_path) -> None:
    folder = tiny_kinds.logit_score(tmp_path / "m", tiny_kinds.CHAT)
    edit_json(folder / "tokenizer_config.json", model_max_length=4)
    with pytest.raises(ExportError, match=r"takes \d+ tokens, and the limit is 4.*--max-seq-len"):
        open_checkpoint(ExportSpec(model=str(folder)))


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_left_out_of_texts_that_are_cut_on_the_left(tmp_path, side) -> None:
    folder = make("include-prompt-false", tmp_path / "m")
    edit_json(folder / "tokenizer_config.json", truncation_side=side)
    spec = ExportSpec(model=str(folder))
    if side == "left":
        with pytest.raises(ExportError, match="include_prompt false.*cuts texts on the left"):
            open_checkpoint(spec)
    else:
        assert open_checkpoint(spec).tokenization.spec.truncation_side == "right"


def test_an_activation_counts_where_its_library_reads_it(tmp_path) -> None:
    """sentence-transformers reads its own file beside a modules.json alone."""
    folder = tiny_kinds.bert_classifier(tmp_path / "m", "relevance")
    name = "torch.nn.modules.linear.Identity"
    tiny_kinds.write_json(folder / "config_sentence_transformers.json", {"activation_fn": name})
    head = open_checkpoint(ExportSpec(model=str(folder))).checkpoint.head
    assert head is not None
    assert head.score_activation == "sigmoid"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert-st", {"labels": ("a", "b")}, r"--labels \('a', 'b'\) does not apply to a checkpoint of the kind embedd"),
        ("bert-st", {"yes_token": "yes"}, r"--yes-token 'yes' does not apply to BertModel; expected a language model"),
        ("bert-st", {"step_tag": "x"}, r"--step-tag 'x' does not apply to .* embedding; expected reward"),
        ("prm-lm", {"step_tag": "ки"}, r"--step-tag 'ки' asks MistralForCausalLM for its words at each step"),
        ("prm-lm", {"step_tag": "ки", "task": "score", "yes_token": "+"}, r"expected a token classifier. Make one"),
        ("bert-st", {"instruction": "x"}, r"--instruction 'x' does not apply to .* embedding; expected causal_rer"),
        ("cross-encoder-bert-1", {"instruction": "x"}, r"--instruction 'x' does not apply to a classifier without a"),
        ("cross-encoder-bert-1", {"normalize": True}, r"--normalize True does not apply to .* classifier; expected"),
        ("cross-encoder-bert-1", {"matryoshka": (8,)}, r"--matryoshka \(8,\) does not apply to .* classifier"),
        ("cross-encoder-bert-1", {"pooling": ("CLS",)}, r"--pooling \('CLS',\) does not apply to .* classifier"),
        ("splade", {"labels": ("a",)}, r"--labels \('a',\) does not apply to a checkpoint of the kind sparse"),
    ],
)  # fmt: skip
def test_what_the_caller_says_of_another_kind_is_refused(tmp_path, name, options, message):
    folder = make(name, tmp_path / "m")
    with pytest.raises(ExportError, match=message):
        open_checkpoint(ExportSpec(model=str(folder), **options))


def test_every_flag_of_a_kind_is_a_fact_of_the_spec_and_reachable():
    assert set(_FLAGS) <= set(ExportSpec.__struct_fields__)
    assert {kind for kinds in _FLAGS.values() for kind in kinds} <= set(KINDS)
