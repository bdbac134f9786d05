"""The library that a checkpoint is made for: which one it is, and its public door, opened as its users open it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import msgspec

from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.libraries import dtype_word, is_older
from embedge_export.source.repository import read_json
from embedge_export.source.transformer import read_config_of
from embedge_export.spec import ExportSpec

_SENTENCE_TRANSFORMERS = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")
_CROSS_ENCODER_KEYS = ("sentence_transformers", "sbert_ce_default_activation_function")
_STATIC = "StaticModel"
"""Of model2vec."""
_STATED = "config_sentence_transformers.json"


class Door(msgspec.Struct, frozen=True):
    """A class that loads a checkpoint from its folder and answers texts.

    Attributes:
        name: of the class.
    """

    name: str

    @property
    def package(self) -> str:
        """The library, as pip knows it."""
        if self.name in _SENTENCE_TRANSFORMERS:
            return "sentence-transformers"
        return "transformers" if self.needs_torch else "model2vec"

    @property
    def needs_torch(self) -> bool:
        """Whether it takes torch and transformers to open it."""
        return self.name != _STATIC

    @property
    def versions(self) -> dict[str, str]:
        """Of the library, and of transformers below it; empty where it is not installed."""
        try:
            own = {self.package: metadata.version(self.package)}
            return own | {"transformers": metadata.version("transformers")} if self.needs_torch else own
        except metadata.PackageNotFoundError:
            return {}


def find_doors(checkpoint: Checkpoint, spec: ExportSpec) -> tuple[Door, ...]:
    """Doors to a checkpoint, the one that it was made for first; empty where no library has one.

    Args:
        checkpoint: what it is.
        spec: what the caller states against its files.
    """
    has_modules = (checkpoint.repository.folder / "modules.json").is_file()
    doors: tuple[str, ...]
    match checkpoint.kind:
        case "static":
            doors = ("SentenceTransformer",) if has_modules else (_STATIC,)
        case "embedding" if has_modules:
            doors = ("SentenceTransformer",)
        case "embedding":
            doors = (checkpoint.family.encoder_only or "AutoModel",)
        case "sparse":
            doors = ("SparseEncoder",)
        case "late_interaction":
            doors = ("MultiVectorEncoder",)
        case "causal_reranker":
            # without its files the template is the model card's, and other words are the caller's
            doors = ("CrossEncoder",) if has_modules and spec.yes_token is None else ()
        case "classifier" if _is_cross_encoder(checkpoint):
            doors = ("CrossEncoder",)
        case "classifier":
            doors = ("AutoModelForSequenceClassification",)
        case "token_classifier" | "reward":
            doors = ("AutoModelForTokenClassification",)
        case _:
            # a pooled row with a classifier on top
            doors = ("CrossEncoder",) if has_modules else ()
    return tuple(Door(name) for name in doors)


def open_door(door: Door, checkpoint: Checkpoint, spec: ExportSpec, limit: int) -> Any:
    """Load the checkpoint in float32 whatever its own precision, from its folder alone.

    Args:
        door: a class of a library.
        checkpoint: where it lies.
        spec: what the caller states against its files.
        limit: the bundle's, in tokens; transformers' own classes know none but the tokenizer's.
    """
    if not door.needs_torch:
        from model2vec import StaticModel

        return StaticModel.from_pretrained(str(checkpoint.repository.folder), quantize_to="float32")
    if door.package == "transformers":
        return Transformers(door.name, checkpoint, limit)
    import sentence_transformers

    library = getattr(sentence_transformers, door.name)(
        str(checkpoint.repository.folder),
        device="cpu",
        prompts=dict(spec.prompts) or None,
        default_prompt_name=spec.default_prompt_name,
        trust_remote_code=checkpoint.trust_remote_code,
        local_files_only=True,
        model_kwargs=_model_kwargs(checkpoint),
        # empty but where the installed transformers does not know the words of the file
        config_kwargs=dict(checkpoint.config_words),
    )
    if spec.max_seq_len is not None:
        library.max_seq_length = spec.max_seq_len
    for module in library.modules():  # a Router's towers have tokenizers of their own
        _without_dropout(getattr(module, "tokenizer", None))
    return library.float().eval()


def _model_kwargs(checkpoint: Checkpoint) -> dict[str, str]:
    kwargs = {dtype_word(): "float32"}
    if is_older() and read_json(checkpoint.transformer, "config.json").get("attn_logit_softcapping"):
        # the other one passes over the cap there without a word
        kwargs["attn_implementation"] = "eager"
    return kwargs


def _without_dropout(tokenizer: Any) -> None:
    """Have a library tokenise each text one way; with dropout it leaves merges out at random, as if in training."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and getattr(backend.model, "dropout", None):
        backend.model.dropout = None


class Transformers:
    """One of transformers' classes and the tokenizer beside it, asked for each text alone."""

    def __init__(self, name: str, checkpoint: Checkpoint, limit: int) -> None:
        import transformers

        options: dict[str, Any] = {
            "trust_remote_code": checkpoint.trust_remote_code,
            "local_files_only": True,
        }
        folder = str(checkpoint.transformer)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        _without_dropout(self.tokenizer)
        loader = getattr(transformers, name)
        if checkpoint.config_words:  # the installed transformers does not know the words of the file
            options["config"] = read_config_of(checkpoint)
        self.model = loader.from_pretrained(folder, **_model_kwargs(checkpoint), **options).eval()
        # a tokenizer that cuts earlier is believed; where none does, positions and the caller set the bundle's limit
        self.cut: dict[str, Any] = {
            "truncation": True,
            "max_length": min(limit, int(self.tokenizer.model_max_length)),
        }

    def rows(self, text: str, document: str | None = None) -> tuple[Any, list[int]]:
        """The first output for a text or pair, (num_tokens or 1, size), and its token ids."""
        import torch

        inputs = self.tokenizer(text, document, return_tensors="pt", **self.cut)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        return outputs[0].float().numpy().reshape(-1, outputs[0].shape[-1]), inputs["input_ids"][0].tolist()


@contextlib.contextmanager
def silent(door: Door) -> Iterator[None]:
    """Keep a library's progress and warnings off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("sentence_transformers", "model2vec", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if door.needs_torch:
                from embedge_export.source.torch_model import quiet

                with quiet():
                    yield
            else:
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_cross_encoder(checkpoint: Checkpoint) -> bool:
    """sentence-transformers' files say so; or one label, and no regression of transformers', which has no sigmoid.

    A logit_bias is vLLM's word, and sentence-transformers reads none.
    """
    if checkpoint.head is not None and checkpoint.head.logit_bias:
        return False
    config = read_json(checkpoint.transformer, "config.json")
    if (checkpoint.repository.folder / _STATED).is_file() or any(map(config.get, _CROSS_ENCODER_KEYS)):
        return True
    head = checkpoint.head
    return head is not None and len(head.labels) == 1 and head.problem_type != "regression"
