"""Output classes and the sequences that hold them."""

from __future__ import annotations

import numpy as np
import pytest

from embedge import (
    ArrayOutputs,
    ClassificationOutput,
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    RaggedOutputs,
    ScoringOutput,
    ShapeError,
    SparseEmbeddingOutput,
)

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def outputs_of(rows, cls=ArrayOutputs):
    return cls(
        rows,
        lambda i: EmbeddingRequestOutput(
            request_id=str(i), outputs=EmbeddingOutput(data=rows[i]), prompt_token_ids=[i]
        ),
    )


def test_a_sequence_of_request_outputs() -> None:
    outputs = outputs_of(ROWS)
    assert len(outputs) == 3
    assert repr(outputs) == "<ArrayOutputs of 3>"
    assert [o.request_id for o in outputs] == ["0", "1", "2"]
    assert [o.request_id for o in outputs[::-2]] == ["2", "0"]
    assert outputs[-3].request_id == "0"
    assert [o.request_id for o in reversed(outputs)] == ["2", "1", "0"]
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"there are 3 outputs; {index} is not one of them"):
            outputs[index]


def test_numpy_does_not_copy() -> None:
    outputs = outputs_of(ROWS)
    assert outputs.numpy() is ROWS
    assert np.shares_memory(outputs[1].outputs.data, ROWS)
    rows = list(ROWS)
    assert all(a is b for a, b in zip(outputs_of(rows, RaggedOutputs).numpy(), rows, strict=True))


def test_rows_in_a_list_are_stacked_where_they_fit() -> None:
    assert outputs_of(list(ROWS)).numpy().tolist() == ROWS.tolist()
    empty = outputs_of([]).numpy()
    assert (empty.shape, empty.dtype) == ((0, 0), np.float32)
    with pytest.raises(
        ShapeError, match=r"different sizes \[1, 2\], so they form no array; ask for one value"
    ):
        outputs_of([ROWS[0], ROWS[0][:1]]).numpy()


def test_embedding_and_score() -> None:
    assert EmbeddingOutput(data=ROWS[1]).embedding == [2.0, 3.0]
    assert EmbeddingOutput(data=ROWS[1]).hidden_size == 2
    output = ScoringOutput(data=np.float32([0.25]))
    assert (output.score, type(output.score)) == (0.25, float)
    assert f"{float(output):.1%}" == "25.0%"


def test_classification() -> None:
    output = ClassificationOutput(data=np.float32([0.25, 0.75]), labels=("no", "yes"))
    assert (output.probs, output.num_classes, output.label) == ([0.25, 0.75], 2, "yes")


def test_sparse() -> None:
    output = SparseEmbeddingOutput(token_ids=np.array([4, 1]), weights=np.float32([2.0, 0.5]), vocab_size=6)
    assert output.data.tolist() == [0.0, 0.5, 0.0, 0.0, 2.0, 0.0]


def test_labels_of_rows() -> None:
    labelled = PoolingOutput(data=np.float32([[0.1, 0.9], [0.8, 0.2]]), labels=("O", "PER"))
    assert labelled.row_labels == ["PER", "O"]
    assert PoolingOutput(data=np.zeros((0, 2), np.float32), labels=("O", "PER")).row_labels == []
    with pytest.raises(ShapeError, match="have no labels; labels come with token_classify"):
        PoolingOutput(data=ROWS).row_labels  # noqa: B018
