"""LlamaIndex: an embedding, and a node postprocessor that reranks. Tested with llama-index-core 0.14.25."""

from __future__ import annotations

import asyncio
from typing import Any

from embedge.integrations._loading import Embedder, Reranker, loaded
from embedge.integrations._tested import tested
from embedge.types import PathLike

with tested("llama-index-core", "0.14.25"):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

__all__ = ["EmbedgeEmbedding", "EmbedgeRerank"]


class EmbedgeEmbedding(BaseEmbedding):
    """Embeddings of a bundle: queries and texts by the checkpoint's own convention.

    Attributes:
        model_name: a bundle's folder, or its name in the local store.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
        query_prompt_name: stored prompt before queries; None takes the one named "query", if there is one.
        document_prompt_name: stored prompt before texts; None takes the one named "document", if there is one.
        embed_batch_size: texts of one call; a call is sorted by length and cut into batches by itself.

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    model_kwargs: dict[str, Any] | None = None
    dimensions: int | None = None
    long_text: str = "error"
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None
    embed_batch_size: int = Field(default=512, gt=0, le=2048)
    _embedder: Embedder = PrivateAttr()

    def __init__(self, model_name: PathLike, **fields: Any) -> None:
        super().__init__(model_name=str(model_name), **fields)
        self._embedder = Embedder(
            model=loaded(self.model_name, self.model_kwargs),
            dimensions=self.dimensions,
            long_text=self.long_text,  # type: ignore[arg-type]  # the model refuses others
            query_prompt_name=self.query_prompt_name,
            document_prompt_name=self.document_prompt_name,
        )

    @classmethod
    def class_name(cls) -> str:
        """What a saved configuration calls this class."""
        return "EmbedgeEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.queries([query])[0].tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.documents(texts).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class EmbedgeRerank(BaseNodePostprocessor):
    """Keeps the nodes that suit a query best, with their scores.

    Attributes:
        model_name: a bundle's folder, or its name in the local store: a reranker, or an embedder.
        model_kwargs: arguments of EdgeModel by name.
        top_n: nodes to keep; None keeps all.
        long_text: what becomes of pairs beyond the limit: refused ("error"), or cut ("truncate").

    Raises:
        BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
    """

    model_name: str
    model_kwargs: dict[str, Any] | None = None
    top_n: int | None = 2
    long_text: str = "error"
    _reranker: Reranker = PrivateAttr()

    def __init__(self, model_name: PathLike, **fields: Any) -> None:
        super().__init__(model_name=str(model_name), **fields)
        self._reranker = Reranker(
            model=loaded(self.model_name, self.model_kwargs),
            top_n=self.top_n,
            long_text=self.long_text,  # type: ignore[arg-type]  # Reranker refuses others
        )

    @classmethod
    def class_name(cls) -> str:
        """What a saved configuration calls this class."""
        return "EmbedgeRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("nothing to rank for; expected query_str=... or query_bundle=...")
        texts = [each.node.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]
        ranking = self._reranker.ranking(query_bundle.query_str, texts)
        return [NodeWithScore(node=nodes[each.index].node, score=each.score) for each in ranking]
