"""Tiny seeded checkpoints, saved as the libraries save real ones."""

from __future__ import annotations

import json
from pathlib import Path

TEXT = (
    "the a is of and to in it on for with man girl food city water light plants capital germany berlin how do "
    "my password reset carrying eating rain body vitamin cannot be stored so has come from language number one"
)


def make_bert(folder: Path, *, dense: tuple[tuple[int, int, str], ...] = (), **pooling: object) -> None:
    """Save a seeded BERT as sentence-transformers does, with Dense modules (in, out, activation) if asked for."""
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    tokenizer = word_piece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules.append(
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    )
    write_json(
        folder / "1_Pooling" / "config.json",
        pooling or {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
    )
    for index, (in_features, out_features, activation) in enumerate(dense, 2):
        path = f"{index}_Dense"
        modules.append(
            {"idx": index, "name": str(index), "path": path, "type": "sentence_transformers.models.Dense"}
        )
        facts = {"in_features": in_features, "out_features": out_features, "bias": True}
        write_json(folder / path / "config.json", facts | {"activation_function": activation})
        linear = torch.nn.Linear(in_features, out_features)
        save_file(
            {f"linear.{name}": value for name, value in linear.state_dict().items()},
            folder / path / "model.safetensors",
        )
    modules.append(
        {"idx": 9, "name": "9", "path": "9_Normalize", "type": "sentence_transformers.models.Normalize"}
    )
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})


def word_piece():
    """A BERT tokenizer over a few words, letters and other scripts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("!"), 127)]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *TEXT.split(),
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def edit_json(path: Path, **changes: object) -> None:
    write_json(path, json.loads(path.read_text("utf-8")) | changes)
