"""What the bundle and the checkpoint's own library are both asked, by the door of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from embedge_export.verify.witness.embeddings import (
    ask_hidden_states,
    ask_sentence_transformer,
    ask_sparse_encoder,
    ask_static_model,
)
from embedge_export.verify.witness.question import Both, Question
from embedge_export.verify.witness.scores import (
    ask_cross_encoder,
    ask_multi_vector_encoder,
    ask_sequence_classification,
    ask_token_classification,
)


def questions(both: Both) -> Iterator[Question]:
    """Everything that both can be asked."""
    return _QUESTIONS.get(both.door.name, ask_hidden_states)(both)


_QUESTIONS: Mapping[str, Callable[[Both], Iterator[Question]]] = MappingProxyType(
    {
        "AutoModelForSequenceClassification": ask_sequence_classification,
        "AutoModelForTokenClassification": ask_token_classification,
        "CrossEncoder": ask_cross_encoder,
        "MultiVectorEncoder": ask_multi_vector_encoder,
        "SentenceTransformer": ask_sentence_transformer,
        "SparseEncoder": ask_sparse_encoder,
        "StaticModel": ask_static_model,
    }
)
"""By the door's class; every other class of transformers gives hidden states."""
