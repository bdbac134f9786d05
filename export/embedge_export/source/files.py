"""A checkpoint's configuration files, read once and not yet understood: what every reader of a kind works from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from embedge_export.source.fields import some_texts
from embedge_export.source.generations import check_generation
from embedge_export.source.module_files import Modules, read_modules
from embedge_export.source.repository import Repository, open_repository, read_json
from embedge_export.source.settings import FILES, TransformerSettings
from embedge_export.source.stated import read_stated
from embedge_export.spec import ExportSpec

CONFIG = "config.json"
BERT_CONFIG = FILES[0]


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What the files of a checkpoint say, as they say it.

    Attributes:
        repository: where they are.
        modules: what modules.json describes; None where there is none.
        config: config.json of the transformer, with what its settings put in place of it.
        stated: config_sentence_transformers.json, without what is null.
    """

    repository: Repository
    modules: Modules | None
    config: dict[str, Any]
    stated: dict[str, Any]

    @property
    def transformer(self) -> Path:
        """Folder of the transformer's config, weights and tokenizer."""
        return self.modules.folder if self.modules else self.repository.folder

    @property
    def settings(self) -> TransformerSettings:
        """sentence_bert_config.json, or its like under an older name."""
        return self.modules.settings if self.modules else TransformerSettings()

    @property
    def by_token(self) -> bool:
        """Whether config_sentence_transformers.json speaks of late interaction."""
        return _by_token(self.stated)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Classes of transformers that config.json names.

        Raises:
            ExportError: it is no list of texts.
        """
        return some_texts(self.config.get("architectures") or [], "architectures", CONFIG)


def read_files(spec: ExportSpec) -> Files:
    """Find a checkpoint and read its configuration files.

    Raises:
        ExportError: there is none, a path leads out of it, or a file or module cannot be understood.
        MissingExtraError: a hub id, and huggingface_hub is not installed.
    """
    repository = open_repository(spec)
    stated = read_stated(
        repository.folder,
        has_modules=(repository.folder / "modules.json").is_file(),
        ignore_keys=spec.ignore_keys,
    )
    modules = read_modules(
        repository.folder,
        spec.pooling,
        by_token=_by_token(stated),
        tower=spec.tower,
        ignore_keys=spec.ignore_keys,
    )
    config = read_json(modules.folder if modules else repository.folder, CONFIG)
    if "transformers_version" not in spec.ignore_keys:
        check_generation("transformers", config.get("transformers_version"), CONFIG, "transformers_version")
    if config and modules:
        config |= modules.settings.config_kwargs
    return Files(repository=repository, modules=modules, stated=stated, config=config)


def _by_token(stated: dict[str, Any]) -> bool:
    return (
        "query_length" in stated
        or stated.get("similarity_fn_name") == "MaxSim"
        or stated.get("model_type") in ("ColBERT", "MultiVectorEncoder")
    )
