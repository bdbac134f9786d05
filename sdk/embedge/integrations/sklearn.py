"""scikit-learn: a transformer of texts into embeddings. Tested with scikit-learn 1.9.1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from embedge import EdgeModel
from embedge.integrations._loading import Embedder, loaded
from embedge.integrations._tested import tested
from embedge.types import FloatArray, LongText, PathLike

with tested("scikit-learn", "1.9.1"):
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import Tags

__all__ = ["EmbedgeVectorizer"]


class EmbedgeVectorizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Texts become the embeddings of a bundle; it learns nothing, so it may transform without having been fitted.

    Args:
        model: a bundle's folder, its name in the local store, or a loaded EdgeModel, which clones share.
        model_kwargs: arguments of EdgeModel by name, such as {"variant": "int8"}.
        prompt_name: stored prompt before each text; None applies the checkpoint's default, if it has one.
        dimensions: of a Matryoshka model; None means all.
        long_text: what becomes of texts beyond the limit, as in EdgeModel.embed.
    """

    def __init__(
        self,
        model: PathLike | EdgeModel,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        prompt_name: str | None = None,
        dimensions: int | None = None,
        long_text: LongText = "error",
    ) -> None:
        self.model = model
        self.model_kwargs = model_kwargs
        self.prompt_name = prompt_name
        self.dimensions = dimensions
        self.long_text = long_text

    def fit(self, X: Iterable[str], y: Any = None) -> EmbedgeVectorizer:  # noqa: ARG002, N803
        """Load the model.

        Raises:
            BundleError, ParamsError, ProviderUnavailableError, SessionError: as EdgeModel.
        """
        self.model_ = loaded(self.model, self.model_kwargs)
        return self

    def transform(self, X: Iterable[str]) -> FloatArray:  # noqa: N803
        """Embed texts; float32 (num_texts, dim).

        Args:
            X: texts, such as a list, an array or a column of a table.

        Raises:
            PromptError: they are none, or one is too long.
        """
        return self._embedder().texts(X, self.prompt_name)

    @property
    def _n_features_out(self) -> int:
        return self._embedder().dim

    def _embedder(self) -> Embedder:
        if not hasattr(self, "model_"):
            self.model_ = loaded(self.model, self.model_kwargs)
        return Embedder(model=self.model_, dimensions=self.dimensions, long_text=self.long_text)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.transformer_tags.preserves_dtype = []  # always float32
        tags.requires_fit = False
        return tags
