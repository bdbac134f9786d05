"""Haystack: embedders of queries and of documents, and a ranker. Tested with haystack-ai 3.4.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from embedge.integrations._loading import Embedder, Reranker, loaded
from embedge.integrations._tested import tested
from embedge.types import LongText, PathLike

with tested("haystack-ai", "3.4.1"):
    from haystack import Document, component, default_from_dict, default_to_dict

__all__ = ["EmbedgeDocumentEmbedder", "EmbedgeRanker", "EmbedgeTextEmbedder"]


class _Component:
    """What a component was made with, by name."""

    _given: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes the component of again."""
        return default_to_dict(self, **self._given)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """The component of a saved configuration."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Load the model.

        Raises:
            BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
        """
        self._warm()

    def _warm(self) -> Any:
        raise NotImplementedError


class _EmbedderComponent(_Component):
    """An embedder that loads its model when it is warmed up, or first run."""

    _embedder: Embedder | None = None

    def _warm(self) -> Embedder:
        if self._embedder is None:
            given = self._given
            self._embedder = Embedder(
                model=loaded(given["model"], given["model_kwargs"]),
                dimensions=given["dimensions"],
                long_text=given["long_text"],
                query_prompt_name=given["prompt_name"],
                document_prompt_name=given["prompt_name"],
            )
        return self._embedder


@component
class EmbedgeTextEmbedder(_EmbedderComponent):
    """Embeds a query.

    Args:
        model: a bundle's folder, or its name in the local store.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        prompt_name: stored prompt before the query; None takes the one named "query", if there is one.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        model_kwargs: dict[str, Any] | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
        prompt_name: str | None = None,
    ) -> None:
        self._given = {
            "model": str(model),
            "model_kwargs": model_kwargs,
            "dimensions": dimensions,
            "long_text": long_text,
            "prompt_name": prompt_name,
        }

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a query; "embedding", and "meta" with the model's name.

        Args:
            text: the query.

        Raises:
            TypeError: text is none.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"text is a {type(text).__name__}; expected a str. EmbedgeDocumentEmbedder takes Documents."
            )
        embedder = self._warm()
        return {
            "embedding": embedder.queries([text])[0].tolist(),
            "meta": {"model": embedder.model.info.name},
        }


@component
class EmbedgeDocumentEmbedder(_EmbedderComponent):
    """Embeds documents, to be found by queries.

    Args:
        model: a bundle's folder, or its name in the local store.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        prompt_name: stored prompt before each text; None takes the one named "document", if there is one.
        meta_fields_to_embed: fields of a document's meta that are embedded before its content.
        embedding_separator: what stands between them.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        model_kwargs: dict[str, Any] | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
        prompt_name: str | None = None,
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
    ) -> None:
        self._given = {
            "model": str(model),
            "model_kwargs": model_kwargs,
            "dimensions": dimensions,
            "long_text": long_text,
            "prompt_name": prompt_name,
            "meta_fields_to_embed": list(meta_fields_to_embed),
            "embedding_separator": embedding_separator,
        }

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents; "documents" that have embeddings, and "meta" with the model's name.

        Args:
            documents: they stay as they are.

        Raises:
            TypeError: they are no list of Documents.
        """
        _check(documents, "EmbedgeTextEmbedder takes a str.")
        embedder = self._warm()
        rows = embedder.documents([_text(each, self._given) for each in documents]).tolist()
        return {
            "documents": [replace(each, embedding=row) for each, row in zip(documents, rows, strict=True)],
            "meta": {"model": embedder.model.info.name},
        }


@component
class EmbedgeRanker(_Component):
    """Keeps the documents that suit a query best, with their scores.

    Args:
        model: a bundle's folder, or its name in the local store: a reranker, or an embedder.
        model_kwargs: arguments of EdgeModel by name.
        top_k: documents to keep.
        long_text: what becomes of pairs beyond the limit: refused, or cut.
        meta_fields_to_embed: fields of a document's meta that are ranked by before its content.
        embedding_separator: what stands between them.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        model_kwargs: dict[str, Any] | None = None,
        top_k: int = 10,
        long_text: Literal["error", "truncate"] = "error",
        meta_fields_to_embed: Sequence[str] = (),
        embedding_separator: str = "\n",
    ) -> None:
        self._given = {
            "model": str(model),
            "model_kwargs": model_kwargs,
            "top_k": top_k,
            "long_text": long_text,
            "meta_fields_to_embed": list(meta_fields_to_embed),
            "embedding_separator": embedding_separator,
        }
        self._reranker: Reranker | None = None

    def _warm(self) -> Reranker:
        if self._reranker is None:
            given = self._given
            self._reranker = Reranker(
                model=loaded(given["model"], given["model_kwargs"]),
                top_n=given["top_k"],
                long_text=given["long_text"],
            )
        return self._reranker

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Rank documents; "documents" that have scores, the best first.

        Args:
            query: the text to rank for.
            documents: they stay as they are.
            top_k: goes before that of the component.

        Raises:
            TypeError: they are no list of Documents.
        """
        _check(documents, "")
        ranking = self._warm().ranking(query, [_text(each, self._given) for each in documents], top_k)
        return {"documents": [replace(documents[each.index], score=each.score) for each in ranking]}


def _check(documents: Any, instead: str) -> None:
    if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
        raise TypeError(
            f"documents is a {type(documents).__name__}; expected a list of Documents. {instead}".strip()
        )


def _text(document: Document, given: dict[str, Any]) -> str:
    """What of a document a model reads."""
    fields = [document.meta.get(name) for name in given["meta_fields_to_embed"]]
    shown = [str(value) for value in fields if value is not None]
    return given["embedding_separator"].join([*shown, document.content or ""])
