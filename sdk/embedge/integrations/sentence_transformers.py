"""A bundle behind sentence-transformers' class, for porting: methods and arguments of its version 6.2.

It needs neither sentence-transformers nor torch, so that arrays stand in place of tensors. An argument that has no
meaning here is refused by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from embedge import EdgeModel
from embedge._corpus.precision import Precision, find_ranges, quantize
from embedge._rows.heads import cut_and_normalize
from embedge._rows.similarity import similarities
from embedge.errors import ParamsError, PromptError, expected_one_of
from embedge.integrations._loading import loaded
from embedge.manifest import Similarity
from embedge.params import PoolingParams
from embedge.types import FloatArray, PathLike

__all__ = ["SentenceTransformer"]

Texts: TypeAlias = str | Iterable[str]
OutputValue: TypeAlias = Literal["sentence_embedding", "token_embeddings"]

_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_SIDES = ("query", "document")


class SentenceTransformer:
    """Embeddings of a bundle, asked as sentence-transformers' users ask.

    Texts beyond the limit are cut, as there. Arguments of that class that are not described here are refused, unless
    they have their defaults.

    Args:
        model_name_or_path: a bundle's folder, its name in the local store, or a loaded EdgeModel, which is where other
            variants, threads and so on come from. Never looked up on a network.
        device: "cpu", "cuda" or "cuda:N"; None takes what there is.
        prompts: texts by name, which go before the bundle's own of the same name.
        default_prompt_name: the prompt where a call names none; None takes the bundle's, if it has one.
        local_files_only: either; nothing but local files is looked at.
        backend: "torch" or "onnx"; it is onnxruntime in either case.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan"; None takes the bundle's.
        truncate_dim: components to keep; None takes the bundle's number.

    Attributes:
        model: the loaded EdgeModel.
        prompts: every prompt, by name.

    Raises:
        ParamsError: a ValueError; an argument that has no meaning here, or a value that is not known.
        BundleError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    def __init__(
        self,
        model_name_or_path: PathLike | EdgeModel,
        *,
        modules: None = None,
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: None = None,
        trust_remote_code: bool = False,
        revision: None = None,
        local_files_only: bool = False,  # noqa: ARG002
        token: None = None,
        model_kwargs: None = None,
        processor_kwargs: None = None,
        config_kwargs: None = None,
        model_card_data: None = None,
        backend: Literal["torch", "onnx"] = "torch",
        similarity_fn_name: Similarity | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        _refuse(
            modules=modules,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code or None,
            revision=revision,
            token=token,
            model_kwargs=model_kwargs,
            processor_kwargs=processor_kwargs,
            config_kwargs=config_kwargs,
            model_card_data=model_card_data,
        )
        _check_one_of("backend", backend, ("torch", "onnx"))
        self.model = loaded(model_name_or_path, None if device is None else {"device": device})
        manifest = self.model.manifest
        # it has prompts of these names in any case
        self.prompts: dict[str, str] = {"query": "", "document": "", **manifest.prompts, **(prompts or {})}
        self.default_prompt_name = default_prompt_name or manifest.default_prompt_name
        if self.default_prompt_name is not None:
            self._prompt(None, self.default_prompt_name)
        self.similarity_fn_name: Similarity = similarity_fn_name or manifest.similarity
        _check_one_of("similarity_fn_name", self.similarity_fn_name, _SIMILARITIES)
        self._own_truncate_dim = self.model.model_config.truncate_dim
        self.truncate_dim = self._own_truncate_dim if truncate_dim is None else truncate_dim
        self._limit: int | None = None

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.model.info.device

    @property
    def max_seq_length(self) -> int:
        """Tokens that texts are cut to; it may be set lower."""
        return self._limit or self.model.info.max_seq_len

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        if not 1 <= value <= self.model.info.max_seq_len:
            raise ParamsError(
                f"max_seq_length={value!r} is out of range; expected 1 to {self.model.info.max_seq_len}"
            )
        self._limit = value

    def get_embedding_dimension(self) -> int | None:
        """Components of an embedding."""
        size = self.model.info.embedding_size
        return size if size is None or self.truncate_dim is None else min(size, self.truncate_dim)

    get_sentence_embedding_dimension = get_embedding_dimension

    def encode(
        self,
        inputs: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: OutputValue = "sentence_embedding",
        precision: Precision = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: None = None,
        chunk_size: None = None,
        task: Literal["query", "document"] | None = None,
    ) -> npt.NDArray[Any] | list[FloatArray]:
        """Embed texts.

        Args:
            inputs: one text, or several.
            prompt_name: of `prompts`.
            prompt: literal text to put before each text instead.
            batch_size: an integer above 0, which changes nothing: batches are made by length.
            show_progress_bar: show progress on stderr.
            output_value: "sentence_embedding", or "token_embeddings" for one array (num_tokens, size) per text.
            precision: "float32", "int8", "uint8", "binary" or "ubinary", as quantize_embeddings packs them; the ranges
                of int8 and uint8 are those of this call.
            convert_to_numpy: True; arrays are what there is.
            convert_to_tensor: False; torch.from_numpy makes tensors of the result.
            device: None; the model stays where it was loaded.
            normalize_embeddings: make each of length 1, after truncate_dim.
            truncate_dim: components to keep, after the model's own normalisation.
            pool: None.
            chunk_size: None.
            task: tower of a model that embeds queries and documents apart.

        Returns:
            (num_texts, dim), or (dim,) for one text; a list of arrays, or one array, for "token_embeddings".

        Raises:
            ParamsError: a ValueError; as the class.
            PromptError: an input is no text.
        """
        if not convert_to_numpy or convert_to_tensor:
            raise ParamsError(
                f"convert_to_numpy={convert_to_numpy!r}, convert_to_tensor={convert_to_tensor!r} ask for tensors, and "
                "there is no torch here; expected True and False, and torch.from_numpy around the result"
            )
        _refuse(device=device, pool=pool, chunk_size=chunk_size)
        _check_one_of("precision", precision, _PRECISIONS)
        _check_one_of("output_value", output_value, ("sentence_embedding", "token_embeddings"))
        _check_one_of("task", task, (None, *_SIDES))
        if batch_size < 1:
            raise ParamsError(f"batch_size={batch_size!r} is out of range; expected an int >= 1")
        texts = _texts(inputs)
        options: dict[str, Any] = {
            "prompt": self._prompt(prompt, prompt_name),
            "tower": task if self.model.manifest.tower is not None else None,
            "use_tqdm": bool(show_progress_bar),
            "truncate_prompt_tokens": self._limit or -1,
            "truncation_side": self.model.manifest.tokenizer.truncation_side,
        }
        found: Any
        if output_value == "token_embeddings":
            params = PoolingParams(normalize=False)
            found = self.model.encode(texts, params, pooling_task="token_embed", **options).numpy()
        elif texts:
            rows = self._rows(texts, self.truncate_dim if truncate_dim is None else truncate_dim, options)
            found = _packed(cut_and_normalize(rows, None, normalize=normalize_embeddings), precision)
        else:
            found = np.array([])
        return found[0] if isinstance(inputs, str) else found

    def encode_query(
        self, inputs: Texts, prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """Embed queries: `encode`, with the prompt named "query" where the call has none."""
        return self._encode_side("query", inputs, prompt_name, prompt, options)

    def encode_document(
        self, inputs: Texts, prompt_name: str | None = None, prompt: str | None = None, **options: Any
    ) -> Any:
        """Embed documents: `encode`, with the prompt named "document" where the call has none."""
        return self._encode_side("document", inputs, prompt_name, prompt, options)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> FloatArray:
        """Compare each of the first embeddings with each of the second; float32 (num_1, num_2), larger is nearer.

        Raises:
            ShapeError: they are no arrays of (num, dim) or (dim,), or of different sizes.
        """
        return similarities(embeddings1, embeddings2, self.similarity_fn_name)

    def _encode_side(
        self,
        side: Literal["query", "document"],
        inputs: Texts,
        prompt_name: str | None,
        prompt: str | None,
        options: dict[str, Any],
    ) -> Any:
        if prompt_name is None and prompt is None:
            prompt_name = side
        return self.encode(inputs, prompt_name, prompt, task=side, **options)

    def _prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """The text before each text; never None, for which the model would take its own default."""
        name = prompt_name or self.default_prompt_name
        if prompt is not None or name is None:
            return prompt or ""
        if name not in self.prompts:
            raise ParamsError(
                f"prompt {name!r} is not stored; {expected_one_of(self.prompts, 'the model has no prompts')}"
            )
        return self.prompts[name]

    def _rows(self, texts: list[str], truncate_dim: int | None, options: dict[str, Any]) -> FloatArray:
        """Embeddings as the modules make them, cut."""
        own = self._own_truncate_dim
        wants_more = own is not None and (truncate_dim is None or truncate_dim > own)
        params = PoolingParams(dimensions=self.model.info.embedding_size) if wants_more else None
        rows = self.model.embed(texts, pooling_params=params, **options).numpy()
        return rows if truncate_dim is None else rows[:, :truncate_dim]


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise ParamsError(
                f"{name}={value!r} has no meaning here; expected it left out. Pass an embedge.EdgeModel for the model "
                "where it is to be loaded in another way."
            )


def _check_one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ParamsError(
            f"{name}={value!r} is not known here; expected one of {', '.join(map(repr, known))}"
        )


def _texts(inputs: Texts) -> list[str]:
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise PromptError(f"input {index} is a {type(text).__name__}; expected a text", index=index)
    return texts


def _packed(rows: FloatArray, precision: Precision) -> npt.NDArray[Any]:
    if precision == "float32":
        return rows
    if precision in ("int8", "uint8"):
        if len(rows) < 2:
            raise ParamsError(
                f"precision={precision!r} takes its ranges from the embeddings of a call, and this one has a single "
                "text; expected more of them"
            )
        return quantize(rows, precision, find_ranges(rows))
    return quantize(rows, precision)
