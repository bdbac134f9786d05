"""A case's checkpoint, saved by the libraries that are installed, and what these answer through their public doors."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tests.checkpoints import make as make_recipe
from tests.checkpoints import reference
from tests.checkpoints.vocabularies import byte_bpe
from tests.export import architectures, tiny_kinds
from tests.export.tiny import edit_json, word_piece, write_json
from tests.families.tiny import TINY, seeded
from tests.generations.cases import CODE, Asked, Case

from embedge_export.families.table import FAMILIES

Answers = dict[str, list[np.ndarray]]
_POOLING = {"CLS": "cls", "MEAN": "mean", "LAST": "lasttoken"}
_REMOTE = Path(__file__).parents[1] / "checkpoints" / "remote"
_TOKENIZERS = {"qwen2": "qwen-embedding"}
"""transformers 5 reads any tokenizer of these as their own kind, which the others' is not."""
_NATIVE = {
    "nomic_bert": ("NomicBert", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
}
"""Classes of transformers for families whose tiny configuration is of the code that came with checkpoints before."""


def save(case: Case, folder: Path) -> None:
    """Save the checkpoint of a case.

    Raises:
        NotImplementedError: the installed libraries have no such class.
    """
    if case.source == CODE:
        _save_with_code(case, folder)
    elif case.source:
        make_recipe(case.source, folder)
    else:
        _save_plain(case, folder)


def answers(case: Case, folder: Path, asked: Asked) -> Answers:
    """What the checkpoint's own library answers, for each task of a case."""
    if case.family == "gemma2":
        # as in transformers 5; the scaled-dot-product attention of 4 passes over attn_logit_softcapping
        from transformers.models.gemma2 import modeling_gemma2

        modeling_gemma2.Gemma2PreTrainedModel._supports_sdpa = False
    if case.source not in ("", CODE):
        found = {case.task: reference.answers(case.source, folder, asked[case.task])}
        return found | ({"rerank": _ranked(folder, asked["rerank"])} if "rerank" in case.tasks else {})
    if case.task == "embed":
        return _embedded(folder, asked)
    if case.task == "score" and case.source != CODE:
        # T5's class takes no batch whose pairs have different numbers of ends
        batch = 1 if FAMILIES[case.family].encoder_only else 32
        return {
            "score": _scored(folder, asked["score"], batch),
            "rerank": _ranked(folder, asked["rerank"], batch),
        }
    pairs = [each if case.task == "score" else (each,) for each in asked[case.task]]
    limit = int(json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["model_max_length"])
    remote = case.source == CODE
    return {case.task: architectures.answers(folder, case.task, pairs, "", limit, remote=remote)}


def _save_plain(case: Case, folder: Path) -> None:
    """transformers' own class; as an embedder or a reranker, saved by sentence-transformers around it."""
    if case.task not in ("embed", "score"):
        _save_class(case, folder)
        return
    source = folder.with_name("transformers")
    _save_class(case, source)
    if case.task == "score":
        from sentence_transformers import CrossEncoder

        CrossEncoder(str(source), device="cpu").save_pretrained(str(folder), create_model_card=False)
        return
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(str(source))
    pooling = FAMILIES[case.family].pooling
    assert pooling is not None
    pool = Pooling(transformer.get_embedding_dimension(), _POOLING[pooling])
    embedder = SentenceTransformer(modules=[transformer, pool, Normalize()], device="cpu")
    embedder.save_pretrained(str(folder), create_model_card=False)


def _save_class(case: Case, folder: Path) -> None:
    import transformers

    if case.family not in _NATIVE:
        if architectures.model_class(case.family, case.task) is None:
            raise NotImplementedError(f"transformers has no class for {case.family} here")
        if case.family in _TOKENIZERS:
            tokenizer = byte_bpe(_TOKENIZERS[case.family], model_max_length=64)
            sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
            architectures.make(folder, case.family, case.task, **sizes)
            tokenizer.save_pretrained(folder)
        else:
            architectures.make(folder, case.family, case.task)
        _without_segments(
            folder, getattr(transformers, str(architectures.model_class(case.family, case.task)))
        )
        return
    stem, options = _NATIVE[case.family]
    name = stem + ("ForSequenceClassification" if case.task == "classify" else "Model")
    if not hasattr(transformers, name):
        raise NotImplementedError(f"transformers has no {name} here")
    heads = tiny_kinds.labels("a", "b", "c") if case.task == "classify" else {}
    tiny_kinds.save(
        folder, name, f"{stem}Config", word_piece(), max_position_embeddings=64, pad_token_id=0, **options, **heads
    )  # fmt: skip


def _without_segments(folder: Path, model_class: Any) -> None:
    """Let the tokenizer give no token_type_ids to a model that takes none, as its own tokenizer would not."""
    if "token_type_ids" not in inspect.signature(model_class.forward).parameters:
        edit_json(folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])


def _save_with_code(case: Case, folder: Path) -> None:
    if case.family == CODE:
        architectures.make(folder, architectures.REMOTE_ROW, case.task)
        return
    tiny = TINY[case.family]
    tokenizer = word_piece()
    model = seeded(case.family, vocab_size=len(tokenizer))
    file = tiny.module.rpartition(".")[2]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copyfile(_REMOTE / f"{file}.py", folder / f"{file}.py")
    classes = {"AutoConfig": f"{file}.{tiny.classes}Config", "AutoModel": f"{file}.{tiny.classes}Model"}
    edit_json(folder / "config.json", auto_map=classes, **tiny.stated)
    _without_segments(folder, type(model))
    tiny_kinds.modules(folder, ("1_Pooling", "Pooling"))
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "mean"})


def _embedded(folder: Path, asked: Asked) -> Answers:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)
    options: dict[str, Any] = {"show_progress_bar": False}
    rows = list(model.encode(asked["embed"], **options))
    # alone: what stands before a shorter text of a batch would be given back with it
    tokens = model.encode(asked["token_embed"], output_value="token_embeddings", batch_size=1, **options)
    return {"embed": rows, "token_embed": [row.numpy() for row in tokens]}


def _scored(folder: Path, pairs: list[Any], batch: int) -> list[np.ndarray]:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    raw = torch.nn.Identity()
    scores = model.predict(pairs, activation_fn=raw, batch_size=batch, show_progress_bar=False)
    return list(scores.reshape(-1, 1))


def _ranked(folder: Path, asked: tuple[str, list[str]], batch: int = 32) -> list[np.ndarray]:
    """Activated scores in the order of the documents."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    ranks = model.rank(*asked, batch_size=batch, show_progress_bar=False)
    places = {each["corpus_id"]: each["score"] for each in ranks}
    return [np.array([places[place]]) for place in range(len(asked[1]))]
