"""Seeded weights, and saving a model as transformers or sentence-transformers do."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.families import tiny

SIZES: dict[str, Any] = tiny.SIZES | {"initializer_range": 0.3}
README = """---
license: apache-2.0
language:
- en
- multilingual
library_name: {library}
tags:
{tags}
---

# Tiny checkpoint

Random weights from a fixed seed; made for tests.
{text}"""


# they are the same for every text, so that large ones would make mean-pooled texts alike
_SMALL_TABLES = ("position_embeddings", "token_type_embeddings", "relative_attention_bias")
_HEADS = ("classifier", "score")


def scramble(model: Any, seed: int) -> Any:
    """Draw every weight anew, so that no part of the model is near zero, one or the identity.

    Products get 1 / sqrt(fan-in), classifiers more; norms and biases move away from 1 and 0. Padding embeddings are
    not zero: a padding token that leaks into a result shows.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(shape: Any, deviation: float) -> Any:
        return torch.randn(shape, generator=generator) * deviation

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            old, shape = parameter.detach(), parameter.shape
            if parameter.ndim < 2:
                parameter.copy_(old + draw(shape, 0.2 if name.endswith("weight") else 0.1))
            elif any(part in name for part in _SMALL_TABLES):
                parameter.copy_(draw(shape, 0.3))
            elif "embed" in name or name == "shared.weight":
                parameter.copy_(draw(shape, 0.8))
            else:
                gain = 2.5 if name.startswith(_HEADS) else 1.0
                parameter.copy_(draw(shape, gain / shape[-1] ** 0.5))
    return model.eval()


def build(
    model_class: str,
    config_class: str,
    tokenizer: Any,
    seed: int,
    sizes: Mapping[str, Any] = SIZES,
    **config: Any,
) -> Any:
    """Make a model of transformers from a tiny config; config goes before sizes."""
    import torch
    import transformers

    torch.manual_seed(seed)
    special = {
        name: getattr(tokenizer, name)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        if getattr(tokenizer, name) is not None
    }
    if config_class in _CLS_IS_BOS:
        special |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    settings = {"vocab_size": len(tokenizer), **sizes, **special, **config}
    made = getattr(transformers, config_class)(**settings)
    return scramble(getattr(transformers, model_class)(made), seed)


_CLS_IS_BOS = {"ModernBertConfig"}


def save(model: Any, tokenizer: Any, folder: Path) -> Path:
    """Save as transformers does: config.json, model.safetensors and the tokenizer's files."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextlib.contextmanager
def saved(model: Any, tokenizer: Any) -> Iterator[str]:
    """A folder for the time that sentence-transformers needs to read the model from it."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(save(model, tokenizer, Path(folder)))


def dense(seed: int, in_features: int, out_features: int, activation: Any = None, **settings: Any) -> Any:
    """A seeded Dense module; activation None is Identity."""
    from sentence_transformers.sentence_transformer.modules import Dense

    return scramble(Dense(in_features, out_features, activation_function=activation, **settings), seed)


def readme(folder: Path, library: str = "transformers", *tags: str, text: str = "") -> None:
    lines = "\n".join(f"- {tag}" for tag in (tags or ("feature-extraction",)))
    content = README.format(library=library, tags=lines, text=f"\n{text}\n" if text else "")
    (folder / "README.md").write_text(content, "utf-8")


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def edit_json(path: Path, **changes: Any) -> None:
    """Change top-level keys of a JSON file; a value of ... removes the key."""
    content = read_json(path) | changes
    write_json(path, {key: value for key, value in content.items() if value is not ...})
