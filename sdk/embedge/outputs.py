"""What the verbs return: one request output per prompt, in a sequence that also gives plain arrays.

Source: vLLM v0.13 `vllm/outputs.py` for class and attribute names.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt

from embedge._results import ArrayOutputs, RaggedOutputs, RequestOutputs, as_array
from embedge.errors import ShapeError
from embedge.types import FloatArray, IntArray, Task

__all__ = [
    "ArrayOutputs",
    "ClassificationOutput",
    "ClassificationRequestOutput",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "ModelInfo",
    "Offsets",
    "OutputT",
    "PoolingOutput",
    "PoolingRequestOutput",
    "PromptTokens",
    "RaggedOutputs",
    "RequestOutputs",
    "RerankResult",
    "ScoringOutput",
    "ScoringRequestOutput",
    "SparseEmbeddingOutput",
    "SparseEmbeddingRequestOutput",
]

Offsets = list[tuple[int, int]]


class _Numbers(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What numpy takes for the array that it holds."""

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return as_array(cast("Any", self).data, dtype, copy)


class PoolingOutput(_Numbers, frozen=True, kw_only=True, eq=False):
    """Result of any pooling.

    Attributes:
        data: float32, (dim,) for one row per prompt, (num_rows, dim) for token tasks.
        offsets: token tasks on text: start and end character of each row's token in the prompt.
        labels: name of each column, where the bundle has labels.
    """

    data: FloatArray
    offsets: Offsets | None = None
    labels: tuple[str, ...] | None = None

    @property
    def row_labels(self) -> list[str]:
        """Name of the largest column of each row.

        Raises:
            ShapeError: the columns have no names.
        """
        if self.labels is None:
            raise ShapeError("these rows have no labels; labels come with token_classify")
        names = self.labels
        return [names[i] for i in np.atleast_2d(self.data).argmax(axis=1)]


class EmbeddingOutput(_Numbers, frozen=True, kw_only=True, eq=False):
    """One embedding.

    Attributes:
        data: float32 (dim,).
    """

    data: FloatArray

    @property
    def embedding(self) -> list[float]:
        """The components as Python floats."""
        return cast("list[float]", self.data.tolist())

    @property
    def hidden_size(self) -> int:
        """Number of components."""
        return len(self.data)


class SparseEmbeddingOutput(_Numbers, frozen=True, kw_only=True, eq=False):
    """One sparse embedding: the vocabulary's terms with a weight above zero, by descending weight.

    Attributes:
        token_ids: int64 (num_terms,).
        weights: float32 (num_terms,).
        vocab_size: size of the dense row.
    """

    token_ids: IntArray
    weights: FloatArray
    vocab_size: int

    @property
    def data(self) -> FloatArray:
        """The dense row, float32 (vocab_size,)."""
        row = np.zeros(self.vocab_size, dtype=np.float32)
        row[self.token_ids] = self.weights
        return row


class ClassificationOutput(_Numbers, frozen=True, kw_only=True, eq=False):
    """Probabilities of one text, or logits where use_activation is False.

    Attributes:
        data: float32 (num_labels,).
        labels: name of each label.
    """

    data: FloatArray
    labels: tuple[str, ...]

    @property
    def probs(self) -> list[float]:
        """One value per label."""
        return cast("list[float]", self.data.tolist())

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return len(self.data)

    @property
    def label(self) -> str:
        """Name of the label with the largest value."""
        return self.labels[int(self.data.argmax())]


class ScoringOutput(_Numbers, frozen=True, kw_only=True, eq=False):
    """Score of one pair.

    Attributes:
        data: float32 (1,).
    """

    data: FloatArray

    @property
    def score(self) -> float:
        """The score as a Python float."""
        return float(self.data[0])

    def __float__(self) -> float:
        return self.score

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # as the one of many that .numpy() gives
        return as_array(self.data[0, ...], dtype, copy)


OutputT = TypeVar("OutputT")


class PoolingRequestOutput(msgspec.Struct, Generic[OutputT], frozen=True, kw_only=True, eq=False):
    """Answer to one prompt.

    Attributes:
        request_id: counts the prompts that the model has answered; in a stream, the prompt's position.
        outputs: the result.
        prompt_token_ids: tokens that were used, specials included.
        num_truncated_tokens: tokens that were dropped; at least so many of a text over 8,192 characters, which may not
            be tokenised whole.
        finished: True.
        num_cached_tokens: 0; tokens of prefixes that are computed once are not counted.
    """

    request_id: str
    outputs: OutputT
    prompt_token_ids: list[int]
    num_truncated_tokens: int = 0
    finished: bool = True
    num_cached_tokens: int = 0

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return as_array(cast("Any", self.outputs), dtype, copy)

    def __len__(self) -> int:
        # how scikit-learn counts the components of a sequence's rows
        return len(np.asarray(self.outputs))

    def __bool__(self) -> bool:
        return True


class EmbeddingRequestOutput(PoolingRequestOutput[EmbeddingOutput], frozen=True, kw_only=True, eq=False):
    """Answer of `embed`."""


class SparseEmbeddingRequestOutput(
    PoolingRequestOutput[SparseEmbeddingOutput], frozen=True, kw_only=True, eq=False
):
    """Answer of `embed_sparse`."""


class ClassificationRequestOutput(
    PoolingRequestOutput[ClassificationOutput], frozen=True, kw_only=True, eq=False
):
    """Answer of `classify`."""


class ScoringRequestOutput(PoolingRequestOutput[ScoringOutput], frozen=True, kw_only=True, eq=False):
    """Answer of `score`; prompt_token_ids holds both sides.

    Attributes:
        num_truncated_query_tokens: of num_truncated_tokens, those of the query.
        num_truncated_document_tokens: the others.
    """

    num_truncated_query_tokens: int = 0
    num_truncated_document_tokens: int = 0

    def __float__(self) -> float:
        # what numpy asks each of a list for
        return self.outputs.score


class RerankResult(msgspec.Struct, frozen=True, kw_only=True):
    """One document of `rerank`.

    Attributes:
        index: its position among the documents given.
        score: as `score` gives it.
        document: its text.
    """

    index: int
    score: float
    document: str


class PromptTokens(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt as the model's tokens.

    Attributes:
        token_ids: special tokens and a stored prompt included; nothing is cut.
        tokens: each of them as the vocabulary has it, such as "##ing".
        offsets: start and end character of each in the prompt, (0, 0) for those that hold nothing of it; None where
            the prompt was given as token ids.
    """

    token_ids: list[int]
    tokens: list[str]
    offsets: Offsets | None = None

    def __len__(self) -> int:
        return len(self.token_ids)


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded model runs as.

    Attributes:
        name: the bundle's name.
        tasks: what it can do.
        variant: graph that runs.
        variant_reason: why this one.
        device, device_reason: where it runs, and why there.
        execution_provider: onnxruntime's name of that.
        placement: on an accelerator, how many of the graph's nodes run on each execution provider; those of
            "CPUExecutionProvider" mostly compute shapes. Empty on the CPU, where all of them run there.
        threads: processors that are used.
        workers: batches of a large call that run at once.
        max_batch_tokens: padded tokens of a batch.
        tuning_reason: why so many and so large.
        max_seq_len: limit in tokens.
        embedding_size: components of a full embedding, or None.
        fingerprint: of the bundle.
        prefix_cache_bytes: what prefixes take at most that are computed once; 0 where every text is computed whole.
    """

    name: str
    tasks: tuple[Task, ...]
    variant: str
    variant_reason: str
    device: str
    device_reason: str
    execution_provider: str
    placement: dict[str, int]
    threads: int
    workers: int
    max_batch_tokens: int
    tuning_reason: str
    max_seq_len: int
    embedding_size: int | None
    fingerprint: str
    prefix_cache_bytes: int = 0
