"""A tokenizer is loaded from its files as transformers 5 does, without it: tokenizer.json, or a vocabulary alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedge.errors import ExportError, MissingExtraError
from embedge_export.source.files import Files
from embedge_export.source.light_tokenizer import LightTokenizer
from embedge_export.source.repository import read_json
from embedge_export.source.tokenizer_classes import (
    ALIASES,
    BY_MODEL_TYPE,
    CLASSES,
    GENERIC,
    NAMES,
    NOT_BELIEVED,
    TokenizerClass,
)
from embedge_export.source.tokenizer_files import (
    NAMED,
    NOT_OPTIONS,
    Stated,
    read_stated,
    text_of,
    vocabulary_of,
)
from embedge_export.source.tokenizer_pipelines import CHARACTERS, precompiled, without_specials

_TOO_LONG = int(1e30)
"""What transformers takes for the limit where there is none."""


def load_light_tokenizer(files: Files) -> LightTokenizer:
    """Load a tokenizer with the tokenizers library alone.

    Raises:
        ExportError: a file cannot be read.
        MissingExtraError: it takes transformers to know what it does.
    """
    folder = files.transformer
    path = folder / "tokenizer.json"
    if not path.is_file() and vocabulary_of(folder) is None:
        raise needs_transformers(f"{files.repository.name} has no tokenizer.json")
    config = read_json(folder, "tokenizer_config.json")
    if config.get("auto_map") or config.get("init_inputs") or config.get("fast_tokenizer_files"):
        raise needs_transformers("tokenizer_config.json names code or files of the tokenizer's own")
    kwargs = {name: value for name, value in files.settings.processor_kwargs.items() if name != "use_fast"}
    if own := [name for name in NOT_OPTIONS if name in kwargs]:
        raise needs_transformers(f"{files.settings.file} has the tokenizer loaded with {own[0]}")
    name = _class_name(files, config, path)
    try:
        return _make(name, read_stated(folder, kwargs))
    except (ExportError, MissingExtraError):
        raise
    except Exception as error:  # tokenizers raises plain Exception, and files may hold anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ExportError(
            f"the tokenizer cannot be loaded: {reason}. Expected the files that tokenizer.save_pretrained writes, "
            "tokenizer.json among them."
        ) from error


def needs_transformers(what: str) -> MissingExtraError:
    """What to raise where only transformers knows how a tokenizer is loaded."""
    return MissingExtraError(
        f"{what}, so that only transformers can load its tokenizer. "
        "Install it with: pip install 'embedge[export-torch]'"
    )


def _class_name(files: Files, config: dict[str, Any], path: Path) -> str:
    """The class that transformers' AutoTokenizer takes."""
    model_type = files.config.get("model_type")
    stated = config.get("tokenizer_class") or files.config.get("tokenizer_class")
    registered = BY_MODEL_TYPE.get(str(model_type))
    chosen = str(stated or registered or GENERIC)
    bare = _bare(chosen)
    if (
        stated
        and _bare(str(stated)) == "LlamaTokenizer"
        and path.is_file()
        and '"ByteLevel"' in path.read_text("utf-8")
    ):
        return GENERIC
    if stated and registered is not None and registered != bare:
        if registered == GENERIC:
            return GENERIC
        if model_type in NOT_BELIEVED:
            chosen = bare = registered
    found = ALIASES.get(chosen, ALIASES.get(bare, bare))
    if found != GENERIC and found not in CLASSES:
        raise needs_transformers(f"its class is {chosen}")
    return found


def _bare(name: str) -> str:
    return name if name == "PreTrainedTokenizerFast" else name.removesuffix("Fast")


def _make(name: str, stated: Stated) -> LightTokenizer:
    """What the class's constructor makes."""
    from tokenizers import Tokenizer, models

    known, options = CLASSES.get(name), stated.options
    if options.get("fix_mistral_regex"):
        raise needs_transformers("tokenizer_config.json states fix_mistral_regex")
    if stated.path.is_file():
        loaded = Tokenizer.from_file(str(stated.path))
    elif known is None:
        raise needs_transformers(f"a vocabulary without tokenizer.json is read by {name}")
    else:
        loaded = Tokenizer(models.BPE())  # which states nothing
    if known is not None:
        _check_model(name, known, stated.file)
        options = {**known.defaults, **options}
        for token, properties in known.wrapped.items():
            options[token] = _wrapped(options.get(token), properties)
        if known.extra and "extra_special_tokens" not in options:
            count = options.get("extra_ids", 1)
            options["extra_special_tokens"] = [
                text.format(index) for text in known.extra for index in range(count)
            ]
        options[CHARACTERS] = precompiled(stated.file)
        backend = known.build(stated.file["model"], options)
        if loaded.post_processor is None and name == "AlbertTokenizer":
            raise needs_transformers("tokenizer.json has no post_processor")
        backend.post_processor = loaded.post_processor or without_specials()
    else:
        backend = loaded
        backend.post_processor = loaded.post_processor or without_specials()
    _limits(loaded, options)
    specials = {key: options[key] for key in NAMED if options.get(key) is not None} | stated.named
    extra = list(options.get("extra_special_tokens") or [])
    _add_tokens(backend, stated.added, specials, extra)
    if known is not None and known.around is not None:
        backend.post_processor = known.around(backend, options)
    if known is not None and known.resets_specials:
        _reset_specials(backend, [*specials.values(), *extra])
    limit = options.get("model_max_length", options.get("max_len"))
    names = options.get("model_input_names", (known.model_input_names if known else NAMES))
    return LightTokenizer(
        backend_tokenizer=backend,
        class_name=name,
        special_tokens_map={key: text_of(token) for key, token in specials.items()},
        extra_special_tokens=tuple(map(text_of, extra)),
        model_max_length=_TOO_LONG if limit is None else limit,
        truncation_side=_side(options.get("truncation_side", "right")),
        model_input_names=list(names),
        split_special_tokens=bool(options.get("split_special_tokens", False)),
        chat_template=_by_name(options.get("chat_template")),
    )


def _check_model(name: str, known: TokenizerClass, file: dict[str, Any]) -> None:
    kind = file["model"].get("type")
    if kind != known.model:
        raise needs_transformers(
            f"{name} takes a vocabulary for {known.model}, and the checkpoint has one for {kind}"
        )


def _wrapped(token: Any, properties: Mapping[str, bool]) -> Any:
    from tokenizers import AddedToken

    return AddedToken(token, **properties) if isinstance(token, str) else token


def _limits(loaded: Any, options: dict[str, Any]) -> None:
    """What tokenizer.json's own truncation and padding say where nothing else does."""
    if loaded.truncation is not None:
        options.setdefault("truncation_side", loaded.truncation["direction"])
    if loaded.padding is not None:
        options.setdefault("pad_token", loaded.padding["pad_token"])


def _add_tokens(backend: Any, added: dict[int, Any], specials: dict[str, Any], extra: list[Any]) -> None:
    from tokenizers import AddedToken

    there = backend.get_added_tokens_decoder()
    as_they_are = {repr(token) for token in there.values()}
    wanted: list[Any] = [token for _, token in sorted(added.items()) if repr(token) not in as_they_are]
    known = {token.content for token in there.values()} | {token.content for token in wanted}
    for token in [*specials.values(), *extra]:
        if text_of(token) not in known:
            wanted.append(token)
            known.add(text_of(token))
    named = {text_of(token) for token in specials.values()}
    for index, token in enumerate(wanted):
        if isinstance(token, str):
            wanted[index] = AddedToken(token, special=True)
        elif not token.special and token.content in named:
            token.special = True
    backend.add_tokens(wanted)


def _reset_specials(backend: Any, tokens: list[Any]) -> None:
    from tokenizers import AddedToken

    texts = dict.fromkeys(map(text_of, tokens))
    backend.add_tokens([AddedToken(text, special=True) for text in texts])


def _side(value: Any) -> str:
    if value not in ("right", "left"):
        raise ExportError(f"truncation_side in tokenizer_config.json is {value!r}; expected right or left")
    return str(value)


def _by_name(template: Any) -> Any:
    if isinstance(template, (list, tuple)):
        return {each["name"]: each["template"] for each in template}
    return template
