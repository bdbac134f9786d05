"""Chroma: an embedding function, saved with its collections. Tested with chromadb 1.5.9.

A program that opens such a collection imports this module first: then Chroma finds the function by its name.
"""

from __future__ import annotations

from typing import Any

from embedge.integrations._loading import Embedder, loaded
from embedge.integrations._tested import tested
from embedge.types import FloatArray, LongText, PathLike

with tested("chromadb", "1.5.9"):
    from chromadb.api.types import Documents, EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function

__all__ = ["EmbedgeEmbeddingFunction"]

_SPACES = {"dot": "ip", "euclidean": "l2"}


@register_embedding_function
class EmbedgeEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeddings of a bundle: queries and documents by the checkpoint's own convention.

    Args:
        model: a bundle's folder, or its name in the local store.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}; with {"fingerprint": "…"} a
            collection refuses another bundle of the same name.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        query_prompt_name: stored prompt before queries; None takes the one named "query", if there is one.
        document_prompt_name: stored prompt before documents; None takes the one named "document", if there is one.

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    def __init__(
        self,
        model: PathLike,
        *,
        model_kwargs: dict[str, Any] | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
    ) -> None:
        self._config = {
            "model": str(model),
            "model_kwargs": model_kwargs,
            "dimensions": dimensions,
            "long_text": long_text,
            "query_prompt_name": query_prompt_name,
            "document_prompt_name": document_prompt_name,
        }
        self._embedder = Embedder(
            model=loaded(model, model_kwargs),
            dimensions=dimensions,
            long_text=long_text,
            query_prompt_name=query_prompt_name,
            document_prompt_name=document_prompt_name,
        )

    def __call__(self, input: Documents) -> list[FloatArray]:  # noqa: A002
        """Embed documents."""
        return list(self._embedder.documents(input))

    def embed_query(self, input: Documents) -> list[FloatArray]:  # noqa: A002
        """Embed queries."""
        return list(self._embedder.queries(input))

    @staticmethod
    def name() -> str:
        """What a collection's configuration calls this function."""
        return "embedge"

    def default_space(self) -> str:
        """How the checkpoint compares embeddings; cosine where Chroma has no such space."""
        return _SPACES.get(self._embedder.model.manifest.similarity, "cosine")

    def get_config(self) -> dict[str, Any]:
        """What `build_from_config` makes the function of again."""
        return dict(self._config)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbedgeEmbeddingFunction:
        """The function of a collection's configuration."""
        return EmbedgeEmbeddingFunction(**config)
