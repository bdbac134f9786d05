"""Load a checkpoint's weights into torch, and refuse those that do not fit or are not numbers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.errors import ExportError
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.libraries import is_older
from embedge_export.source.tensors import not_finite, stored_shape
from embedge_export.source.transformer import first_words, read_config_of

if TYPE_CHECKING:
    import torch

_BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias")
_UNUSED = "pooler."
_SHOWN = 3


def load_model(checkpoint: Checkpoint) -> torch.nn.Module:
    """Load the transformer in float32 on the CPU, ready for inference.

    Raises:
        ExportError: a weight is missing, superfluous, of another shape, or not a finite number.
    """
    import torch
    import transformers

    name = checkpoint.facts.loader
    if name is None:
        raise ExportError(
            f"{checkpoint.kind} embeddings have no class of transformers; expected a checkpoint that it loads"
        )
    if name == "AutoModel" and checkpoint.family.encoder_only:
        name = checkpoint.family.encoder_only
    loader = getattr(transformers, name)
    options: dict[str, Any] = dict(checkpoint.family.load_options) if is_older() else {}
    if checkpoint.config_words or checkpoint.config_kwargs:
        options = {"config": read_config_of(checkpoint, options)}
    if checkpoint.trust_remote_code:
        options["trust_remote_code"] = True
    try:
        with quiet():
            model, info = loader.from_pretrained(
                str(checkpoint.transformer),
                torch_dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # a class is made of whatever config.json states
        raise ExportError(
            f"transformers cannot load the weights: {first_words(error)}. Copy the checkpoint again."
        ) from error
    _check_fit(model, info, checkpoint)
    _check_finite((key, value) for key, value in model.state_dict().items() if not key.startswith(_UNUSED))
    rows = _embedding_rows(model)
    if rows not in (None, checkpoint.vocab_size):
        raise ExportError(
            f"config.json states vocab_size {checkpoint.vocab_size}, the embedding has {rows} rows; "
            "expected equal numbers. Restore config.json from the model's origin."
        )
    loaded: torch.nn.Module = model.eval()
    return loaded


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' and torch's warnings off the user's screen."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _embedding_rows(model: Any) -> int | None:
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # remote code need not say which layer it is
        return None


def _check_fit(model: Any, info: dict[str, Any], checkpoint: Checkpoint) -> None:
    # names alone, or (name, shape, shape) in other versions of transformers
    mismatched = sorted(key if isinstance(key, str) else key[0] for key in info.get("mismatched_keys") or ())
    if mismatched:
        key = mismatched[0]
        raise ExportError(
            f"weight {key!r} has shape {stored_shape(checkpoint.transformer, key)}; config.json asks for "
            f"{tuple(model.state_dict()[key].shape)}. Restore config.json or the weights from the model's origin."
        )
    missing = sorted(key for key in info["missing_keys"] if not is_harmless(key))
    if missing:
        raise ExportError(
            f"the weights lack {some(missing)}; expected every weight that config.json asks for. "
            "Check architectures and the layer counts in config.json, or pass another --task."
        )
    if checkpoint.config_kwargs:
        return  # which may well leave weights over, such as fewer layers
    prefix = f"{model.base_model_prefix}."
    parts = {key.removeprefix(prefix).split(".")[0] for key in model.state_dict()}
    superfluous = sorted(
        key
        for key in info["unexpected_keys"]
        if key.removeprefix(prefix).split(".")[0] in parts and not is_harmless(key)
    )
    if superfluous:
        raise ExportError(
            f"the weights hold {some(superfluous)}, for which config.json has no place; expected weights and config "
            "of one model. Check the layer counts in config.json."
        )


def is_harmless(key: str) -> bool:
    """Whether a weight may be left over or missing: buffers, and poolers, which no bundle has."""
    return key.endswith(_BUFFERS) or key.startswith(_UNUSED) or f".{_UNUSED}" in key


def some(keys: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(map(repr, keys[:_SHOWN])) + more


def _check_finite(tensors: Iterable[tuple[str, Any]]) -> None:
    for name, tensor in tensors:
        array = tensor.detach()
        if (
            array.is_floating_point()
            and not np.isfinite(float(array.sum()))
            and not bool(array.isfinite().all())
        ):
            raise ExportError(not_finite(name))
