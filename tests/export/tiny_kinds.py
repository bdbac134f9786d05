"""Tiny seeded checkpoints of every kind that is no plain embedder."""

from __future__ import annotations

import json
from pathlib import Path

from tests.export.tiny import TEXT, edit_json, make_bert, word_piece, write_json
from tests.families.tiny import SIZES

_PACKAGE = "sentence_transformers.models"
_PACKAGES = {
    "MLMTransformer": "sentence_transformers.sparse_encoder.models",
    "SpladePooling": "sentence_transformers.sparse_encoder.models",
    "LogitScore": "sentence_transformers.cross_encoder.modules.logit_score",
}
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)


def save(
    folder: Path, model_class: str, config_class: str, tokenizer, scale: float = 0.2, **config: object
) -> Path:
    """Save a model of transformers with random weights that are large enough to matter."""
    import torch
    import transformers

    torch.manual_seed(11)
    made = getattr(transformers, config_class)(vocab_size=len(tokenizer), **{**SIZES, **config})
    model = getattr(transformers, model_class)(made)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.normal_(0, scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def labels(*names: str) -> dict[str, object]:
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def bert_classifier(folder: Path, *names: str, **config: object) -> Path:
    return save(
        folder, "BertForSequenceClassification", "BertConfig", word_piece(), max_position_embeddings=64,
        **labels(*names), **config,
    )  # fmt: skip


def token_classifier(folder: Path) -> Path:
    return save(
        folder, "BertForTokenClassification", "BertConfig", word_piece(), max_position_embeddings=64,
        **labels("O", "PER", "LOC"),
    )  # fmt: skip


def modernbert_classifier(folder: Path) -> Path:
    tokenizer = word_piece()
    return save(
        folder, "ModernBertForSequenceClassification", "ModernBertConfig", tokenizer, classifier_pooling="mean",
        max_position_embeddings=64, pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        local_attention=8, reference_compile=False, **labels("no", "yes"),
    )  # fmt: skip


def roberta_pairs(folder: Path) -> Path:
    tokenizer = byte_level(prefix="<s>", suffix="</s>")
    return save(
        folder, "RobertaForSequenceClassification", "RobertaConfig", tokenizer, max_position_embeddings=66,
        pad_token_id=tokenizer.pad_token_id, **labels("score"),
    )  # fmt: skip


def qwen3_embedder(folder: Path) -> Path:
    save(
        folder, "Qwen3Model", "Qwen3Config", byte_level(suffix="<|endoftext|>", padding_side="left"),
        max_position_embeddings=128, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    modules(folder, ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True}
    )
    prompts = {"query": "Instruct: find\nQuery:", "document": ""}
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    return folder


def qwen3_reranker(folder: Path, chat_template: str | None = None) -> Path:
    tokenizer = byte_level(padding_side="left", words=("yes", "no"))
    tokenizer.chat_template = chat_template
    return save(
        folder, "Qwen3ForCausalLM", "Qwen3Config", tokenizer, max_position_embeddings=2048, num_key_value_heads=2,
        head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip


def logit_score(folder: Path, chat_template: str, **config: object) -> Path:
    """A causal reranker as sentence-transformers saves it."""
    qwen3_reranker(folder, chat_template)
    modules(folder, ("1_LogitScore", "LogitScore"))
    write_json(
        folder / "1_LogitScore" / "config.json", {"true_token_id": 300, "false_token_id": 301} | config
    )
    text = {"method": "forward", "method_output_name": "logits"}
    message = text | {"format": "flat"}
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": {"text": text, "message": message},
            "module_output_name": "causal_logits",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
    )
    write_json(folder / "config_sentence_transformers.json", {"model_type": "CrossEncoder"})
    return folder


def qwen3_classifier(folder: Path) -> Path:
    tokenizer = byte_level(padding_side="left")
    return save(
        folder, "Qwen3ForSequenceClassification", "Qwen3Config", tokenizer, max_position_embeddings=128,
        num_key_value_heads=2, head_dim=8, pad_token_id=tokenizer.pad_token_id, **labels("a", "b", "c"),
    )  # fmt: skip


def reward_model(folder: Path) -> Path:
    return save(
        folder, "Qwen2ForTokenClassification", "Qwen2Config", byte_level(words=("<step>",)),
        max_position_embeddings=256, num_key_value_heads=2, **labels("bad", "good"),
    )  # fmt: skip


def splade(folder: Path, **config: object) -> Path:
    tokenizer = word_piece()
    save(folder, "BertForMaskedLM", "BertConfig", tokenizer, max_position_embeddings=64)
    modules(folder, ("1_SpladePooling", "SpladePooling"), first="MLMTransformer")
    facts = {"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": len(tokenizer)}
    write_json(folder / "1_SpladePooling" / "config.json", facts | config)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    return folder


def pylate(folder: Path, **config: object) -> Path:
    import torch
    from safetensors.torch import save_file

    tokenizer = word_piece()
    tokenizer.add_tokens(["[Q] ", "[D] "])
    save(folder, "BertModel", "BertConfig", tokenizer, max_position_embeddings=64)
    modules(folder, ("1_Dense", "Dense"))
    facts = {
        "in_features": 32,
        "out_features": 128,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    write_json(folder / "1_Dense" / "config.json", facts)
    save_file(
        {"linear.weight": torch.nn.Linear(32, 128, bias=False).weight.data},
        folder / "1_Dense" / "model.safetensors",
    )
    settings = {
        "query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 16, "document_length": 40,
        "attend_to_expansion_tokens": False, "skiplist_words": ["!", ".", ","], "similarity_fn_name": "MaxSim",
    }  # fmt: skip
    write_json(folder / "config_sentence_transformers.json", settings | config)
    return folder


def original_colbert(folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    tokenizer = word_piece()
    tokenizer.add_tokens(["[unused0]", "[unused1]"])
    save(folder, "BertModel", "BertConfig", tokenizer, max_position_embeddings=64)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = torch.nn.Linear(32, 16, bias=False).weight.data
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    write_json(
        folder / "artifact.metadata",
        {
            "query_maxlen": 16,
            "doc_maxlen": 40,
            "dim": 16,
            "mask_punctuation": True,
            "attend_to_mask_tokens": False,
        },
    )
    return folder


def static(folder: Path) -> Path:
    """StaticEmbedding and Normalize, in the layout of sentence-transformers."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    tokenizer = word_piece()
    inner = folder / "0_StaticEmbedding"
    inner.mkdir(parents=True)
    tokenizer.backend_tokenizer.save(str(inner / "tokenizer.json"))
    save_file({"embedding.weight": torch.randn(len(tokenizer), 24)}, inner / "model.safetensors")
    write_json(
        folder / "modules.json",
        [
            {
                "idx": 0,
                "name": "0",
                "path": "0_StaticEmbedding",
                "type": "sentence_transformers.models.StaticEmbedding",
            },
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    return folder


def model2vec(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    folder.mkdir(parents=True)
    tokenizer = word_piece()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": torch.randn(len(tokenizer), 24)}, folder / "model.safetensors")
    write_json(
        folder / "config.json",
        {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True},
    )
    return folder


def pooled_classifier(folder: Path) -> Path:
    """A CrossEncoder of a transformer, a pooling and a Dense module with one score."""
    make_bert(folder, dense=((32, 1, "torch.nn.modules.linear.Identity"),))
    edit_json(folder / "2_Dense" / "config.json", module_output_name="scores")
    write_json(
        folder / "config_sentence_transformers.json",
        {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"},
    )
    return folder


def modules(folder: Path, *following: tuple[str, str], first: str = "Transformer") -> None:
    entries = [("", first), *following]
    write_json(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"{_PACKAGES.get(kind, _PACKAGE)}.{kind}",
            }
            for index, (path, kind) in enumerate(entries)
        ],
    )


def byte_level(
    prefix: str | None = None,
    suffix: str | None = None,
    padding_side: str = "right",
    words: tuple[str, ...] = (),
):
    """A byte-level BPE tokenizer, trained on the spot."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    around = [f"{prefix} " if prefix else "", f" {suffix}" if suffix else ""]
    if prefix or suffix:
        pair = f"{around[0]}$A {prefix and suffix} {suffix} $B{around[1]}" if prefix else f"$A $B{around[1]}"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{around[0]}$A{around[1]}",
            pair=pair.replace(f"{prefix and suffix} {suffix}", f"{suffix} {suffix}"),
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (prefix, suffix) if token],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token=prefix,
        eos_token=suffix or "<|endoftext|>",
        model_max_length=2048 if not prefix else 64,
        padding_side=padding_side,
    )


def read_config(folder: Path) -> dict[str, object]:
    return json.loads((folder / "config.json").read_text("utf-8"))
