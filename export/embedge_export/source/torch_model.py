"""Load a checkpoint's weights into torch, and refuse those that do not fit or are not numbers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.errors import ExportError
from embedge.types import FloatArray
from embedge_export.source.checkpoint import Checkpoint, Kind
from embedge_export.source.modules import DenseModule
from embedge_export.source.repository import weight_files

if TYPE_CHECKING:
    import torch

_BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias")
_UNUSED = "pooler."
_SHOWN = 3
LOADERS: dict[Kind, str] = {
    "embedding": "AutoModel",
    "late_interaction": "AutoModel",
    "sparse": "AutoModelForMaskedLM",
    "classifier": "AutoModelForSequenceClassification",
    "token_classifier": "AutoModelForTokenClassification",
    "reward": "AutoModelForTokenClassification",
    "causal_reranker": "AutoModelForCausalLM",
}
"""Classes of transformers; static embeddings have none."""


def load_model(checkpoint: Checkpoint) -> torch.nn.Module:
    """Load the transformer in float32 on the CPU, ready for inference.

    Raises:
        ExportError: a weight is missing, superfluous, of another shape, or not a finite number.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    name = LOADERS[checkpoint.kind]
    if name == "AutoModel" and checkpoint.family.encoder_only:
        name = checkpoint.family.encoder_only
    loader = getattr(transformers, name)
    options: dict[str, Any] = dict(checkpoint.family.load_options)
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
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ExportError(
            f"transformers cannot load the weights: {reason}. Copy the checkpoint again."
        ) from error
    _check_fit(model, info, checkpoint.transformer)
    _check_finite((key, value) for key, value in model.state_dict().items() if not key.startswith(_UNUSED))
    rows = _embedding_rows(model)
    if rows not in (None, checkpoint.vocab_size):
        raise ExportError(
            f"config.json states vocab_size {checkpoint.vocab_size}, the embedding has {rows} rows; "
            "expected equal numbers. Restore config.json from the model's origin."
        )
    loaded: torch.nn.Module = model.eval()
    return loaded


def load_dense(module: DenseModule) -> tuple[FloatArray, FloatArray | None]:
    """Load a Dense module's weight (out_features, in_features) and bias, float32.

    Raises:
        ExportError: a tensor is missing, of another shape, or not finite.
    """
    tensors = read_tensors(module.folder)
    name = module.folder.name
    weight = tensors.get("linear.weight")
    bias = tensors.get("linear.bias")
    expected = (module.out_features, module.in_features)
    if weight is None or weight.shape != expected:
        found = "none" if weight is None else weight.shape
        raise ExportError(
            f"{name} has a linear.weight of shape {found}; expected {expected}, as its config.json states"
        )
    if module.bias and (bias is None or bias.shape != expected[:1]):
        raise ExportError(
            f"{name} has a linear.bias of shape {None if bias is None else bias.shape}; expected {expected[:1]}"
        )
    return weight, bias if module.bias else None


def read_tensors(folder: Path) -> dict[str, FloatArray]:
    """Read a module's safetensors as float32 arrays.

    Raises:
        ExportError: the file cannot be read, or holds a value that is not finite.
    """
    tensors: dict[str, FloatArray] = {}
    for path in weight_files(folder):
        loaded = _load_arrays(path)
        for name, array in loaded.items():
            if not np.isfinite(array).all():
                raise ExportError(_not_finite(f"{folder.name}/{name}"))
        tensors |= loaded
    return tensors


def _load_arrays(path: Path) -> dict[str, FloatArray]:
    from safetensors import SafetensorError

    try:
        try:
            from safetensors.torch import load_file
        except ModuleNotFoundError:  # an ONNX file is wrapped without torch
            from safetensors.numpy import load_file as load_plainly

            return {name: array.astype(np.float32) for name, array in load_plainly(path).items()}
        return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise ExportError(f"{path.name} cannot be read: {error}. Copy the checkpoint again.") from error


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


def _stored_shape(folder: Path, key: str) -> tuple[int, ...] | None:
    from safetensors import safe_open

    for path in weight_files(folder):
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118  # not a dict
                if name == key or name.endswith(f".{key}") or key.endswith(f".{name}"):
                    return tuple(weights.get_slice(name).get_shape())
    return None


def _embedding_rows(model: Any) -> int | None:
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # remote code need not say which layer it is
        return None


def _check_fit(model: Any, info: dict[str, Any], folder: Path) -> None:
    # names alone, or (name, shape, shape) in other versions of transformers
    mismatched = sorted(key if isinstance(key, str) else key[0] for key in info.get("mismatched_keys") or ())
    if mismatched:
        key = mismatched[0]
        raise ExportError(
            f"weight {key!r} has shape {_stored_shape(folder, key)}; config.json asks for "
            f"{tuple(model.state_dict()[key].shape)}. Restore config.json or the weights from the model's origin."
        )
    missing = sorted(key for key in info["missing_keys"] if not _is_harmless(key))
    if missing:
        raise ExportError(
            f"the weights lack {_some(missing)}; expected every weight that config.json asks for. "
            "Check architectures and the layer counts in config.json, or pass another --task."
        )
    prefix = f"{model.base_model_prefix}."
    parts = {key.removeprefix(prefix).split(".")[0] for key in model.state_dict()}
    superfluous = sorted(
        key
        for key in info["unexpected_keys"]
        if key.removeprefix(prefix).split(".")[0] in parts and not _is_harmless(key)
    )
    if superfluous:
        raise ExportError(
            f"the weights hold {_some(superfluous)}, for which config.json has no place; expected weights and config "
            "of one model. Check the layer counts in config.json."
        )


def _is_harmless(key: str) -> bool:
    return key.endswith(_BUFFERS) or key.startswith(_UNUSED) or f".{_UNUSED}" in key


def _some(keys: list[str]) -> str:
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
            raise ExportError(_not_finite(name))


def _not_finite(name: str) -> str:
    return (
        f"weight {name!r} holds NaN or infinity; expected finite numbers. "
        "Restore the weights from the model's origin."
    )
