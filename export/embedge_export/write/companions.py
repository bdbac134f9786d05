"""Files that other libraries want beside the graphs, so that a bundle is a valid source for them too.

transformers.js and fastembed read config.json, tokenizer_config.json and special_tokens_map.json, optimum
config.json, sentence-transformers modules.json and the folders that it names. embedge itself reads none of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.embedder import Embedder
from embedge_export.source.repository import inside, read_json, weight_files
from embedge_export.source.static import Static

if TYPE_CHECKING:
    from embedge_export.source.tokenizer import Tokenization
from embedge_export.source.tokenizer_pipeline import name_of

# paths of the machine that saved the checkpoint, code that the bundle does not hold, limits of other libraries
_DROPPED = ("_name_or_path", "name_or_path", "tokenizer_file", "auto_map", "max_length")
_SETTINGS = "config_sentence_transformers.json"
_WITH_WEIGHTS = "Dense"


def write_companions(checkpoint: Checkpoint, tokenization: Tokenization, folder: Path) -> None:
    """Write a transformer's small configuration files to the bundle; static embeddings have none.

    The token limit in them is the bundle's own: a library that cuts by tokenizer_config.json or
    sentence_bert_config.json then cuts where embedge does.

    Args:
        checkpoint: its facts.
        tokenization: its tokenizer.
        folder: the bundle.
    """
    if isinstance(checkpoint.what, Static):
        return
    tokenizer = tokenization.tokenizer
    limit = tokenization.max_seq_len
    _write(folder / "config.json", _without_paths(read_json(checkpoint.transformer, "config.json")))
    stated = _without_paths(read_json(checkpoint.transformer, "tokenizer_config.json"))
    specials = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    defaults = {"tokenizer_class": name_of(tokenizer), **specials}
    _write(folder / "tokenizer_config.json", {**defaults, **stated, "model_max_length": limit})
    named = read_json(checkpoint.transformer, "special_tokens_map.json")
    _write(folder / "special_tokens_map.json", named or specials)
    _write_modules(checkpoint, limit, folder)


def note_external_data(folder: Path) -> None:
    """Tell transformers.js which graphs keep their weights in a file of their own; unasked it fetches none.

    Args:
        folder: the bundle, with all graphs written.

    Source:
        transformers.js `use_external_data_format`, which it reads from config.json's "transformers.js_config".
    """
    graphs = sorted(path.name.removesuffix("_data") for path in (folder / "onnx").glob("*.onnx_data"))
    if not graphs or not (folder / "config.json").is_file():
        return
    config = read_json(folder, "config.json")
    stated = config.get("transformers.js_config") or {}
    config["transformers.js_config"] = {**stated, "use_external_data_format": dict.fromkeys(graphs, True)}
    _write(folder / "config.json", config)


def _write_modules(checkpoint: Checkpoint, limit: int, folder: Path) -> None:
    source = checkpoint.repository.folder
    listing = source / "modules.json"
    if not listing.is_file() or not isinstance(checkpoint.what, Embedder) or checkpoint.tower is not None:
        return
    first, *others = json.loads(listing.read_bytes())
    _write(folder / "modules.json", [{**first, "path": ""}, *others])
    settings = read_json(checkpoint.transformer, "sentence_bert_config.json")
    _write(folder / "sentence_bert_config.json", {**settings, "max_seq_length": limit})
    if (source / _SETTINGS).is_file():
        _write(folder / _SETTINGS, read_json(source, _SETTINGS))
    for module in others:
        path = inside(source, str(module["path"]))
        target = folder / path.relative_to(source)
        if not (path / "config.json").is_file():
            continue
        _write(target / "config.json", read_json(path, "config.json"))
        if str(module["type"]).endswith(f".{_WITH_WEIGHTS}"):
            for file in weight_files(path):
                shutil.copyfile(file, target / file.name)


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _DROPPED}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", "utf-8")
