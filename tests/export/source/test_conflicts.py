"""Statements of a checkpoint's files that exclude each other: refused in one sentence, nothing written."""

from __future__ import annotations

import pytest
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json
from tests.export import tiny_kinds

from embedge.errors import ExportError
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
