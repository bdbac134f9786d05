"""LanceDB: an embedding function of its registry, saved with its tables. Tested with lancedb 0.40.0.

A program that opens such a table imports this module first: then LanceDB finds the function by its name, "embedge".
"""

from __future__ import annotations

from typing import Any

from embedge.integrations._loading import Embedder, loaded
from embedge.integrations._tested import tested
from embedge.types import FloatArray, LongText

with tested("lancedb", "0.40.0"):
    from lancedb.embeddings import TextEmbeddingFunction, register

__all__ = ["EmbedgeEmbeddings"]


@register("embedge")
class EmbedgeEmbeddings(TextEmbeddingFunction):
    """Embeddings of a bundle: queries and texts by the checkpoint's own convention.

    Make it with `create`: `EmbedgeEmbeddings.create(model="all-MiniLM-L6-v2")`.

    Attributes:
        model: a bundle's folder, or its name in the local store.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        query_prompt_name: stored prompt before queries; None takes the one named "query", if there is one.
        document_prompt_name: stored prompt before texts; None takes the one named "document", if there is one.

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    model: str
    model_kwargs: dict[str, Any] | None = None
    dimensions: int | None = None
    long_text: LongText = "error"
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None
    _embedder: Embedder | None = None

    def ndims(self) -> int:
        """Size of the vector column."""
        return self._loaded().dim

    def compute_query_embeddings(self, query: Any, *args: Any, **kwargs: Any) -> list[FloatArray]:  # noqa: ARG002
        """Embed queries."""
        return list(self._loaded().queries(self.sanitize_input(query)))

    def compute_query_embeddings_with_retry(self, *args: Any, **kwargs: Any) -> list[FloatArray]:
        """Embed queries once: what a model refuses, it refuses each time."""
        return self.compute_query_embeddings(*args, **kwargs)

    def compute_source_embeddings_with_retry(self, *args: Any, **kwargs: Any) -> list[FloatArray | None]:
        """Embed texts once, likewise."""
        return self.compute_source_embeddings(*args, **kwargs)

    def generate_embeddings(self, texts: Any, *args: Any, **kwargs: Any) -> list[FloatArray | None]:  # noqa: ARG002
        """Embed texts of a table; a row without a text gets no vector, and LanceDB asks what becomes of it."""
        rows = iter(self._loaded().documents([text for text in texts if text is not None]))
        return [None if text is None else next(rows) for text in texts]

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(
                model=loaded(self.model, self.model_kwargs),
                dimensions=self.dimensions,
                long_text=self.long_text,
                query_prompt_name=self.query_prompt_name,
                document_prompt_name=self.document_prompt_name,
            )
        return self._embedder
