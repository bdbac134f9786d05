"""Qdrant: points to upload, and vectors to query with. Tested with qdrant-client 1.20.0."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from embedge import EdgeModel
from embedge.errors import ParamsError
from embedge.integrations._loading import Embedder, loaded
from embedge.integrations._tested import tested
from embedge.types import LongText, PathLike

with tested("qdrant-client", "1.20.0"):
    from qdrant_client.models import Distance, PointStruct, VectorParams

__all__ = ["EmbedgeVectors"]

_DISTANCES = {
    "cosine": Distance.COSINE,
    "dot": Distance.DOT,
    "euclidean": Distance.EUCLID,
    "manhattan": Distance.MANHATTAN,
}


class EmbedgeVectors:
    """Vectors of a bundle for a collection: queries and documents by the checkpoint's own convention.

    Args:
        model: a bundle's folder, its name in the local store, or a loaded EdgeModel.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        vector_name: of a collection with several vectors per point; None where it has one.
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
        vector_name: str | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
    ) -> None:
        self._vector_name = vector_name
        self._embedder = Embedder(
            model=loaded(model, model_kwargs),
            dimensions=dimensions,
            long_text=long_text,
            query_prompt_name=query_prompt_name,
            document_prompt_name=document_prompt_name,
        )

    @property
    def params(self) -> VectorParams:
        """Size and the checkpoint's own distance, for `create_collection(vectors_config=...)`."""
        return VectorParams(
            size=self._embedder.dim, distance=_DISTANCES[self._embedder.model.manifest.similarity]
        )

    def points(
        self,
        texts: Iterable[str],
        payloads: Iterable[Mapping[str, Any]] | None = None,
        ids: Iterable[int | str] | None = None,
        *,
        text_key: str | None = "text",
    ) -> list[PointStruct]:
        """Embed documents as points, for `upsert` or `upload_points`.

        Args:
            texts: the documents.
            payloads: one per text; None means none.
            ids: one per text; None makes random ones.
            text_key: what a point's payload calls its text; None leaves it out.

        Raises:
            ParamsError: payloads or ids are not as many.
        """
        texts = list(texts)
        kept = [dict(each) for each in payloads] if payloads is not None else [{} for _ in texts]
        keys = list(ids) if ids is not None else [str(uuid.uuid4()) for _ in texts]
        for name, given in (("payloads", kept), ("ids", keys)):
            if len(given) != len(texts):
                raise ParamsError(f"{name} are {len(given)} and texts {len(texts)}; expected one per text")
        if text_key is not None:
            kept = [payload | {text_key: text} for payload, text in zip(kept, texts, strict=True)]
        rows = self._embedder.documents(texts).tolist()
        return [
            PointStruct(
                id=key, vector=row if self._vector_name is None else {self._vector_name: row}, payload=payload
            )
            for key, row, payload in zip(keys, rows, kept, strict=True)
        ]

    def query(self, text: str) -> list[float]:
        """Embed a query, for `query_points(query=..., using=vector_name)`."""
        return self._embedder.queries([text])[0].tolist()
