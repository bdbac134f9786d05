"""Models that adapters ask: loaded by name, shared by those that name the same, and asked for queries and documents."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from embedge import EdgeModel
from embedge.bundle import sha256_file
from embedge.errors import ParamsError, PromptError, SessionError, TaskNotSupportedError
from embedge.manifest import MANIFEST_FILE
from embedge.outputs import RerankResult
from embedge.params import PoolingParams
from embedge.store import find
from embedge.types import FloatArray, LongText, PathLike

_LOADED: weakref.WeakValueDictionary[tuple[str, ...], EdgeModel] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def loaded(model: PathLike | EdgeModel, model_kwargs: Mapping[str, Any] | None = None) -> EdgeModel:
    """The model that an adapter asks; one that is loaded and in use is taken again.

    Args:
        model: a bundle's folder, its name in the local store, or a loaded model.
        model_kwargs: arguments of EdgeModel by name.

    Raises:
        ParamsError: arguments for a model that is loaded already, or such as EdgeModel does not have.
        BundleError, ProviderUnavailableError, SessionError: as EdgeModel.
    """
    arguments = dict(model_kwargs or {})
    if isinstance(model, EdgeModel):
        if arguments:
            raise ParamsError(
                f"model_kwargs={arguments!r} come too late: the model is loaded; expected a folder or name with them"
            )
        return model
    unknown = sorted(set(arguments) - set(EdgeModel.__init__.__kwdefaults__ or ()))
    if unknown:
        raise ParamsError(
            f"model_kwargs has {', '.join(map(repr, unknown))}; expected arguments of EdgeModel, such as 'variant'"
        )
    folder = find(model).resolve()
    key = (str(folder), sha256_file(folder / MANIFEST_FILE), repr(sorted(arguments.items())))
    with _LOCK:
        found = _LOADED.get(key)
        if found is None or _is_closed(found):
            found = _LOADED[key] = EdgeModel(model, **arguments)
    return found


def _is_closed(model: EdgeModel) -> bool:
    try:
        model.lost_devices  # noqa: B018  # whatever a closed model is asked, it refuses
    except SessionError:
        return True
    return False


class Embedder(msgspec.Struct, frozen=True, kw_only=True):
    """A model and how it is asked for embeddings.

    Attributes:
        model: loaded.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        query_prompt_name: stored prompt before queries; None takes the one named "query", if there is one.
        document_prompt_name: stored prompt before documents; None takes the one named "document", if there is one.
    """

    model: EdgeModel
    dimensions: int | None = None
    long_text: LongText = "error"
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None

    def queries(self, texts: Iterable[str]) -> FloatArray:
        """Embed queries; float32 (num_texts, dim)."""
        return self._answer(self.model.embed_query, texts, self.query_prompt_name)

    def documents(self, texts: Iterable[str]) -> FloatArray:
        """Embed documents; float32 (num_texts, dim)."""
        return self._answer(self.model.embed_document, texts, self.document_prompt_name)

    def texts(self, texts: Iterable[str], prompt_name: str | None = None) -> FloatArray:
        """Embed texts that are neither; prompt_name None applies the checkpoint's default prompt, if it has one."""
        return self._answer(self.model.embed, texts, prompt_name)

    def _answer(self, embed: Callable[..., Any], texts: Iterable[str], prompt_name: str | None) -> FloatArray:
        params = None if self.dimensions is None else PoolingParams(dimensions=self.dimensions)
        with _in_words_of_adapters():
            return embed(
                texts, prompt_name=prompt_name, pooling_params=params, long_text=self.long_text
            ).numpy()

    @property
    def dim(self) -> int:
        """Components of an embedding.

        Raises:
            TaskNotSupportedError: the bundle does not embed.
        """
        config = self.model.model_config
        size = self.dimensions or config.truncate_dim or config.embedding_size
        if size is None:
            raise TaskNotSupportedError(
                f"bundle {self.model.info.name!r} has no embeddings of one row per text; its tasks are "
                f"{', '.join(self.model.info.tasks)}",
                task="embed",
                tasks=self.model.info.tasks,
            )
        return size


class Reranker(msgspec.Struct, frozen=True, kw_only=True):
    """A model and how it is asked to rank.

    Attributes:
        model: loaded.
        top_n: documents to keep; None keeps all.
        long_text: what becomes of pairs beyond the limit: refused, or cut.
    """

    model: EdgeModel
    top_n: int | None = None
    long_text: Literal["error", "truncate"] = "error"

    def __post_init__(self) -> None:
        if self.long_text not in ("error", "truncate"):
            raise ParamsError(
                f"long_text={self.long_text!r} is not known here; expected 'error' or 'truncate'"
            )

    def ranking(self, query: str, texts: Iterable[str], top_n: int | None = None) -> list[RerankResult]:
        """The best first; top_n of the call goes before that of the reranker."""
        cut = -1 if self.long_text == "truncate" else None
        with _in_words_of_adapters():
            return self.model.rerank(
                query, texts, self.top_n if top_n is None else top_n, truncate_prompt_tokens=cut
            )


@contextmanager
def _in_words_of_adapters() -> Iterator[None]:
    """Name what an adapter can be told where a text is too long."""
    try:
        yield
    except PromptError as error:
        told = str(error).replace("truncate_prompt_tokens=-1", 'long_text="truncate"')
        raise PromptError(told, index=error.index) from error
