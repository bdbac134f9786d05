"""Checkpoints whose tokenizers cut, split or number tokens otherwise than most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints.embedders import ST, bert, save_embedder
from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import build, edit_json, labels, read_json, readme, save, write_json
from tests.checkpoints.vocabularies import byte_bpe, word_piece

_SEGMENTS = ["input_ids", "token_type_ids", "attention_mask"]
_NO_SEGMENTS = ["input_ids", "attention_mask"]


def _cross_encoder(name: str, notes: str, *, types: int = 2, first_seed: int = 0, **stated: Any) -> None:
    @recipe(name, "score", "classify", reference="CrossEncoder", notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = word_piece()
        model = bert(
            first_seed + seed,
            tokenizer,
            "BertForSequenceClassification",
            type_vocab_size=types,
            **labels("LABEL_0"),
        )
        save(model, tokenizer, folder)
        edit_json(folder / "tokenizer_config.json", **stated)
        readme(folder, "transformers", "text-classification")


_cross_encoder(
    "cross-encoder-left", "pairs lose their first tokens", truncation_side="left", model_max_length=40
)
_cross_encoder(
    "cross-encoder-no-segments",
    "two token types, of which the tokenizer gives one",
    model_input_names=_NO_SEGMENTS,
)
_cross_encoder(
    "cross-encoder-one-type",
    "one token type",
    types=1,
    first_seed=1,  # 0 draws a model that answers almost the same to everything
    model_input_names=_NO_SEGMENTS,
    truncation_side="left",
)


@recipe(
    "cross-encoder-roberta-types", "score", "classify", reference="CrossEncoder",
    notes="RoBERTa with two token types, and a tokenizer of no class that gives them",
)  # fmt: skip
def _roberta_types(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("roberta")
    model = build(
        "RobertaForSequenceClassification", "RobertaConfig", tokenizer, seed, type_vocab_size=2,
        max_position_embeddings=514, **labels("LABEL_0"),
    )  # fmt: skip
    save(model, tokenizer, folder)
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        model_input_names=_SEGMENTS,
        **{f"{name}_token": text for name, text in _ROBERTA.items()},
    )
    file = read_json(folder / "tokenizer.json")
    ids = {token: file["model"]["vocab"][token] for token in ("<s>", "</s>")}

    def special(token: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    first = [special("<s>", 0), {"Sequence": {"id": "A", "type_id": 0}}, special("</s>", 0)]
    second = [special("</s>", 1), {"Sequence": {"id": "B", "type_id": 1}}, special("</s>", 1)]
    tokens = {token: {"id": token, "ids": [index], "tokens": [token]} for token, index in ids.items()}
    file["post_processor"] = {
        "type": "TemplateProcessing", "single": first, "pair": first + second, "special_tokens": tokens
    }  # fmt: skip
    write_json(folder / "tokenizer.json", file)
    readme(folder, "transformers", "text-classification")


_ROBERTA = {
    "bos": "<s>",
    "eos": "</s>",
    "cls": "<s>",
    "sep": "</s>",
    "pad": "<pad>",
    "unk": "<unk>",
    "mask": "<mask>",
}


@recipe(
    "split-special-tokens", "embed", reference=ST, notes="[SEP] in a text is a bracket, letters and a bracket"
)
def _split(folder: Path, seed: int) -> None:
    tokenizer = word_piece(split_special_tokens=True)
    save_embedder(folder, bert(seed, tokenizer), tokenizer, "mean")


@recipe("bpe-dropout", "embed", reference=ST, notes="merges left out at random in training, and only there")
def _dropout(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("roberta")
    model = build(
        "RobertaModel", "RobertaConfig", tokenizer, seed, type_vocab_size=1, max_position_embeddings=514
    )
    save_embedder(folder, model, tokenizer, "mean")
    path = next(folder.glob("**/tokenizer.json"))
    file = read_json(path)
    file["model"]["dropout"] = 0.3
    write_json(path, file)
