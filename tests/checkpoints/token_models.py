"""Late interaction and process reward models."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tests.checkpoints.classifiers import TOKENS
from tests.checkpoints.embedders import bert
from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import build, edit_json, labels, readme, save, scramble, write_json
from tests.checkpoints.vocabularies import (
    MATH_STEP_TAG,
    STEP_TAG,
    byte_bpe,
    byte_fallback,
    with_token,
    word_piece,
)


def _pylate(folder: Path, seed: int, *layers: tuple[int, int, bool], **stated: Any) -> None:
    """Write what PyLate's ColBERT.save_pretrained does; layers are (in, out, residual)."""
    import torch
    from safetensors.torch import save_file

    tokenizer = word_piece(model_max_length=512)
    tokenizer.add_tokens(["[Q] ", "[D] "])
    save(bert(seed, tokenizer), tokenizer, folder)
    # PyLate pads with [MASK] and leaves that in the tokenizer it saves
    edit_json(folder / "tokenizer_config.json", pad_token="[MASK]")
    special = folder / "special_tokens_map.json"
    if special.exists():  # transformers 5 writes none
        edit_json(
            special,
            pad_token={
                "content": "[MASK]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            },
        )  # fmt: skip
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (in_features, out_features, residual) in enumerate(layers, 1):
        path = f"{index}_Dense"
        modules.append({"idx": index, "name": str(index), "path": path, "type": "pylate.models.Dense.Dense"})
        write_json(
            folder / path / "config.json",
            {
                "in_features": in_features, "out_features": out_features, "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity", "use_residual": residual,
            },
        )  # fmt: skip
        parts = {"linear": torch.nn.Linear(in_features, out_features, bias=False)}
        if residual and in_features != out_features:
            parts["residual"] = torch.nn.Linear(in_features, out_features, bias=False)
        state = scramble(torch.nn.ModuleDict(parts), seed + index).state_dict()
        save_file(state, folder / path / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 179, "do_lower_case": False})
    settings = {
        "model_type": "ColBERT",
        "__version__": {"sentence_transformers": "5.3.0", "transformers": "4.57.6", "pytorch": "2.9.0"},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 32,
        "document_length": 180,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
    }
    write_json(folder / "config_sentence_transformers.json", settings | stated)
    readme(folder, "PyLate", "ColBERT", "PyLate", "sentence-transformers")


@recipe(
    "colbert", "token_embed", "score", reference="late_interaction",
    notes="PyLate: Dense to 128 without bias, markers, queries filled with [MASK] to 32 and those not attended to",
)  # fmt: skip
def _colbert(folder: Path, seed: int) -> None:
    _pylate(folder, seed, (32, 128, False))


@recipe(
    "colbert-attend", "token_embed", "score", reference="late_interaction",
    notes="PyLate: the expansion tokens are attended to; document_length 48, a skip list of three words",
)  # fmt: skip
def _colbert_attend(folder: Path, seed: int) -> None:
    _pylate(
        folder, seed, (32, 128, False), attend_to_expansion_tokens=True, document_length=48,
        skiplist_words=[",", ".", "the"],
    )  # fmt: skip


@recipe(
    "colbert-plain-query", "token_embed", "score", reference="late_interaction",
    notes="PyLate: do_query_expansion false, so queries keep their own tokens only",
)  # fmt: skip
def _colbert_plain_query(folder: Path, seed: int) -> None:
    _pylate(folder, seed, (32, 128, False), do_query_expansion=False)


@recipe(
    "colbert-residual", "token_embed", "score", reference="late_interaction",
    notes="PyLate: two Dense modules, the first with use_residual and its own residual weights",
)  # fmt: skip
def _colbert_residual(folder: Path, seed: int) -> None:
    _pylate(folder, seed, (32, 64, True), (64, 48, False))


@recipe(
    "colbert-stanford", "token_embed", "score", reference="late_interaction",
    notes="ColBERTv2's files: bert.* and linear.weight in one file, HF_ColBERT, artifact.metadata, [unused0]",
)  # fmt: skip
def _colbert_stanford(folder: Path, seed: int) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tokenizer = word_piece(model_max_length=512)
    save(bert(seed, tokenizer), tokenizer, folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    linear = scramble(torch.nn.Linear(32, 128, bias=False), seed + 1)
    weights["linear.weight"] = linear.weight.detach()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    write_json(
        folder / "artifact.metadata",
        {
            "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]", "doc_token": "[D]",
            "ncells": None, "centroid_score_threshold": None, "ndocs": None, "load_index_with_mmap": False,
            "index_path": None, "nbits": 1, "kmeans_niters": 4, "resume": False, "similarity": "cosine",
            "bsize": 32, "accumsteps": 1, "lr": 1e-05, "maxsteps": 400000, "save_every": None, "warmup": 20000,
            "warmup_bert": None, "relu": False, "nway": 64, "use_ib_negatives": True, "reranker": False,
            "distillation_alpha": 1.0, "ignore_scores": False, "model_name": None, "query_maxlen": 32,
            "attend_to_mask_tokens": False, "interaction": "colbert", "dim": 128, "doc_maxlen": 180,
            "mask_punctuation": True, "checkpoint": "colbert", "triples": None, "collection": None,
            "queries": None, "index_name": None, "overwrite": False, "nranks": 1, "amp": True, "rank": 0, "gpus": 1,
        },
    )  # fmt: skip
    readme(folder, "transformers", "ColBERT")


@recipe(
    "process-reward", "token_classify", reference=TOKENS,
    notes=f"two labels at each step tag {STEP_TAG}; right padding",
)  # fmt: skip
def _process_reward(folder: Path, seed: int) -> None:
    tokenizer = with_token(byte_bpe("qwen", padding_side="right"), STEP_TAG, special=True)
    model = build(
        "Qwen2ForTokenClassification", "Qwen2Config", tokenizer, seed, num_key_value_heads=2,
        max_position_embeddings=4096, tie_word_embeddings=False, **labels("negative", "positive"),
    )  # fmt: skip
    save(model, tokenizer, folder)
    text = f"The answer's steps are joined by `{STEP_TAG}`; the probability of `positive` there is the step's reward."
    readme(folder, "transformers", "reward model", text=text)


@recipe(
    "prm-lm", "token_classify", reference="prm_lm",
    notes=f"Math-Shepherd: the next-token logits of + and - at each step tag {MATH_STEP_TAG}, softmax over the two",
)  # fmt: skip
def _prm_lm(folder: Path, seed: int) -> None:
    tokenizer = with_token(byte_fallback("mistral"), MATH_STEP_TAG, "+", "-")
    model = build(
        "MistralForCausalLM", "MistralConfig", tokenizer, seed, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=4096, tie_word_embeddings=False, sliding_window=None,
    )  # fmt: skip
    save(model, tokenizer, folder)
    good, bad, tag = tokenizer.convert_tokens_to_ids(["+", "-", MATH_STEP_TAG])
    text = f"Every step ends in `{MATH_STEP_TAG}` (id {tag}); returned_token_ids [{good}, {bad}] are `+` and `-`."
    readme(folder, "transformers", "reward model", text=text)
