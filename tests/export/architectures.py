"""Every architecture as every kind of model: tiny checkpoints, and transformers' own answers in float32.

The difference in a cell is the largest of any component between the bundle, asked a batch of mixed lengths, and
transformers, asked one text at a time without padding. tests/generations makes the table
of docs/architectures.md of all of it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from unittest import mock

import numpy as np
from tests.export import tiny_kinds, tiny_remote
from tests.export.tiny import word_piece
from tests.families.groups import LOCAL
from tests.families.tiny import TINY

from embedge import EdgeModel, PoolingParams
from embedge_export.families.table import FAMILIES
from embedge_export.pipeline import export
from embedge_export.source.torch_model import quiet
from embedge_export.spec import ExportSpec
from embedge_export.texts.built_in import PAIRS, TEXTS

TASKS = ("embed", "token_embed", "classify", "token_classify", "score")
REMOTE_ROW = "code of its own"
_HEADS = {
    "classify": ("ForSequenceClassification", ("a", "b", "c")),
    "score": ("ForSequenceClassification", ("relevance",)),
    "token_classify": ("ForTokenClassification", ("O", "PER", "LOC")),
}
_MIXED = [text for text in TEXTS if text.strip()][::2]
_PAIRS = [*PAIRS][::3]


def model_class(model_type: str, task: str) -> str | None:
    """The class of transformers for a cell of the table; None where there is none."""
    import transformers

    stem = "Gated" if model_type == REMOTE_ROW else TINY[model_type].classes
    tail = _HEADS[task][0] if task in _HEADS else "Model"
    if tail == "Model" and model_type in FAMILIES and FAMILIES[model_type].encoder_only:
        tail = "EncoderModel"
    name = stem + tail
    return name if model_type == REMOTE_ROW or hasattr(transformers, name) else None


def make(folder: Path, model_type: str, task: str, **changes: object) -> Path:
    """Save the checkpoint of a cell."""
    name = model_class(model_type, task)
    assert name is not None
    names = _HEADS[task][1] if task in _HEADS else ()
    if model_type == REMOTE_ROW:
        return tiny_remote.gated(folder, name, *names)
    tiny = TINY[model_type]
    # these have no segments, and their tokenizers give none
    plain = tiny.options.get("type_vocab_size") == 1
    tokenizer = tiny_kinds.byte_level(prefix="<s>", suffix="</s>") if plain else word_piece()
    heads = tiny_kinds.labels(*names) if names else {}
    # transformers 5 gives Qwen's tokenizers an end of text that this one lacks
    options = {
        "vocab_size": len(tokenizer) + 1,
        "pad_token_id": tokenizer.pad_token_id,
        **tiny.options,
        **heads,
        **changes,
    }
    return tiny_kinds.save(
        folder, name, f"{tiny.classes}Config", tokenizer, tiny.scale, sizes=tiny.sizes, **options
    )


def measure(model_type: str, main: str, folder: Path, **changes: object) -> dict[str, float]:
    """Export a checkpoint for its main task and compare every task of the bundle with transformers."""
    checkpoint = make(folder / "checkpoint", model_type, main, **changes)
    remote = model_type == REMOTE_ROW
    # the table is about numbers; tests/export/test_gates.py is about the retrieval set
    with mock.patch("embedge_export.verify.questions.QUICK_DOCUMENTS", 24):
        bundle = export(ExportSpec(model=str(checkpoint), output=folder / "bundle", trust_remote_code=remote))
    inputs = _PAIRS if main == "score" else [(text,) for text in _MIXED]
    figures = {}
    with EdgeModel(bundle, device="cpu", truncate_prompt_tokens=-1) as model:
        mode = model.manifest.pooling.modes[0] if model.manifest.pooling else "CLS"
        for task in ("embed", "token_embed") if main == "embed" else (main,):
            expected = answers(checkpoint, task, inputs, mode, model.manifest.max_seq_len, remote=remote)
            raw = {"normalize": False} if "embed" in task else {"use_activation": False}
            sides = map(list, zip(*inputs, strict=True))
            if task == "score":
                actual = model.score(*sides, pooling_params=PoolingParams(**raw)).numpy()
            else:
                actual = model.encode(*sides, PoolingParams(**raw), pooling_task=task).numpy()
            diffs = (np.abs(a - e).max() for a, e in zip(actual, expected, strict=True))
            figures[task] = float(max(diffs))
    return figures


def answers(folder: Path, task: str, inputs, mode: str, limit: int, *, remote: bool) -> list[np.ndarray]:
    """transformers' answers, one text or pair at a time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    name = tiny_kinds.read_config(folder)["architectures"][0]
    if remote:
        tail = next((tail for tail, _ in _HEADS.values() if name.endswith(tail)), "")
        loader, options = getattr(transformers, f"AutoModel{tail}"), {"trust_remote_code": True}
    else:
        loader, options = getattr(transformers, name), {"attn_implementation": "eager"}
    with quiet():
        model = loader.from_pretrained(folder, torch_dtype=torch.float32, **options).eval()
    takes = inspect.signature(model.forward).parameters
    rows = []
    with torch.inference_mode():
        for texts in inputs:
            encoding = tokenizer(*texts, truncation=True, max_length=limit, return_tensors="pt")
            first = model(**{name: ids for name, ids in encoding.items() if name in takes})
            row = (first.logits if task in _HEADS else first.last_hidden_state)[0]
            if task == "embed":
                row = {"CLS": row[0], "LAST": row[-1], "MEAN": row.mean(0)}[mode]
            rows.append(row.numpy())
    return rows


def cells() -> list[tuple[str, str]]:
    """Architectures and main tasks that transformers has a class for; token_embed comes with embed."""
    rows = [*LOCAL, REMOTE_ROW]
    return [(row, task) for row in rows for task in TASKS if task != "token_embed" and model_class(row, task)]
