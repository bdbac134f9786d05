"""LangChain: embeddings, and a document compressor that reranks. Tested with langchain-core 1.8.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from embedge import EdgeModel
from embedge.integrations._loading import Embedder, Reranker, loaded
from embedge.integrations._tested import tested
from embedge.types import LongText, PathLike

with tested("langchain-core", "1.8.3"):
    from langchain_core.documents import Document
    from langchain_core.documents.compressor import BaseDocumentCompressor
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict, PrivateAttr

__all__ = ["EmbedgeEmbeddings", "EmbedgeRerank"]


class EmbedgeEmbeddings(Embeddings):
    """Embeddings of a bundle: queries and documents by the checkpoint's own convention.

    Args:
        model: a bundle's folder, its name in the local store, or a loaded EdgeModel.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        query_prompt_name: stored prompt before queries; None takes the one named "query", if there is one.
        document_prompt_name: stored prompt before documents; None takes the one named "document", if there is one.

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    def __init__(
        self,
        model: PathLike | EdgeModel,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
    ) -> None:
        self._embedder = Embedder(
            model=loaded(model, model_kwargs),
            dimensions=dimensions,
            long_text=long_text,
            query_prompt_name=query_prompt_name,
            document_prompt_name=document_prompt_name,
        )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents, to be found by queries."""
        return self._embedder.documents(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """Embed one query."""
        return self._embedder.queries([text])[0].tolist()


class EmbedgeRerank(BaseDocumentCompressor):
    """Keeps the documents that suit a query best, with their scores as metadata["relevance_score"].

    Attributes:
        model: a bundle's folder, its name in the local store, or a loaded EdgeModel: a reranker, or an embedder.
        model_kwargs: arguments of EdgeModel by name.
        top_n: documents to keep; None keeps all.
        long_text: what becomes of pairs beyond the limit: refused, or cut.

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: Any
    model_kwargs: Mapping[str, Any] | None = None
    top_n: int | None = 3
    long_text: Literal["error", "truncate"] = "error"
    _reranker: Reranker = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        """Load the model."""
        self._reranker = Reranker(
            model=loaded(self.model, self.model_kwargs), top_n=self.top_n, long_text=self.long_text
        )

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Any = None,  # noqa: ARG002
    ) -> list[Document]:
        """The documents that suit the query best, the best first; those given stay as they are."""
        ranking = self._reranker.ranking(query, [each.page_content for each in documents])
        return [
            documents[result.index].model_copy(
                update={"metadata": documents[result.index].metadata | {"relevance_score": result.score}}
            )
            for result in ranking
        ]
