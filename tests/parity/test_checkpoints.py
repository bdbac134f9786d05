"""Every kind of checkpoint against the library that it is made for: float32, 50 texts or pairs of mixed lengths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import CHECKPOINTS
from tests.checkpoints.reference import answers
from tests.checkpoints.vocabularies import STEP_TAG
from tests.installed import SENTENCE_TRANSFORMERS_6
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import PoolingParams

ATOL = 1e-5  # embeddings and logits
PROBS_ATOL = 1e-6
RAW = PoolingParams(use_activation=False)
EMBEDDERS = [
    "pool-cls",
    "pool-max",
    "pool-mean-sqrt",
    "pool-weightedmean",
    "pool-lasttoken",
    "pool-concat",
    "pool-concat-old",
    "pool-mean-old",
    "include-prompt-false",
    "default-prompt",
    "dense-tanh",
    "dense-tanh-old",
    "matryoshka-list",
    "matryoshka-free",
    "qwen3-embedding",
    "gtr-t5",
    "static-embedding",
    "static-embedding-old",
    "splade",
    "splade-old",
]
ACTIVATIONS = {
    "softmax": lambda x: (
        np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


def test_there_are_enough_texts_of_mixed_lengths() -> None:
    assert len(TEXTS) == len(PAIRS) >= 50
    lengths = [len(text.split()) for text in TEXTS]
    assert min(lengths) == 1
    assert max(lengths) > 150
    assert len(set(lengths)) > 12


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings(exported, name) -> None:
    checkpoint, bundle = exported(name)
    expected = np.stack(answers(name, checkpoint, TEXTS))
    with load(bundle) as model:
        actual = model.embed(TEXTS).numpy()
        if model.manifest.sparse:
            sparse = model.embed_sparse(TEXTS)
            assert_allclose(np.stack([o.outputs.data for o in sparse]), expected, atol=ATOL, rtol=0)
    assert actual.dtype == np.float32
    assert_allclose(actual, expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize("prompt_name", ["query", "document"])
@pytest.mark.parametrize("name", ["include-prompt-false", "qwen3-embedding"])
def test_stored_prompts(exported, name, prompt_name) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported(name)
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS, prompt_name=prompt_name)
    with load(bundle) as model:
        assert_allclose(model.embed(TEXTS, prompt_name=prompt_name).numpy(), expected, atol=ATOL, rtol=0)
        stored = model.manifest.prompts[prompt_name]
        assert_allclose(model.embed(TEXTS, prompt=stored).numpy(), expected, atol=ATOL, rtol=0)


def test_a_default_prompt_is_put_before_texts_unless_another_is_asked_for(exported) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("default-prompt")
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    with load(bundle) as model:
        for arguments in ({"prompt_name": "passage"}, {"prompt": ""}):
            expected = reference.encode(TEXTS, **arguments)
            assert_allclose(model.embed(TEXTS, **arguments).numpy(), expected, atol=ATOL, rtol=0)
            assert np.abs(expected - reference.encode(TEXTS)).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "dimensions"), [("matryoshka-list", 8), ("matryoshka-list", 16), ("matryoshka-free", 5)]
)
def test_dimensions_are_cut_and_then_normalised(exported, name, dimensions) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported(name)
    reference = SentenceTransformer(str(checkpoint), device="cpu", truncate_dim=dimensions)
    with load(bundle) as model:
        actual = model.embed(TEXTS, pooling_params=PoolingParams(dimensions=dimensions)).numpy()
    assert_allclose(actual, reference.encode(TEXTS, normalize_embeddings=True), atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", ["pool-mean-old", "pool-cls", "qwen3-embedding"])
def test_token_embeddings(exported, name) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported(name)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    expected = reference.encode(TEXTS, output_value="token_embeddings", batch_size=1)
    with load(bundle) as model:
        actual = model.encode(TEXTS, PoolingParams(normalize=False), pooling_task="token_embed").numpy()
        gate = 10 * ATOL if model.manifest.architecture.startswith("Qwen") else ATOL
    for ours, theirs in zip(actual, expected, strict=True):
        assert_allclose(ours, theirs.numpy(), atol=gate, rtol=0)


@pytest.mark.parametrize("name", ["model2vec", "model2vec-quantized"])
def test_model2vec(exported, name) -> None:
    """Files with modules.json are sentence-transformers' to read, which counts unknown tokens."""
    from sentence_transformers import SentenceTransformer

    if name == "model2vec-quantized" and not SENTENCE_TRANSFORMERS_6:
        pytest.skip("sentence-transformers 6 is the first that reads the mapping of tokens to rows")
    checkpoint, bundle = exported(name)
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
    with load(bundle) as model:
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "cross-encoder-bert-1",
        "cross-encoder-bert-1-v3",
        "cross-encoder-bert-1-v4",
        "roberta-pair",
        "qwen3-reranker-st",
    ],
)
def test_cross_encoders(exported, name) -> None:
    """predict() applies the checkpoint's own activation: Sigmoid, or Identity and then the scores are logits."""
    import torch
    from sentence_transformers import CrossEncoder

    checkpoint, bundle = exported(name)
    reference = CrossEncoder(str(checkpoint), device="cpu")
    # alone in its batch, a pair of a decoder has no padding that rounds otherwise
    size = 1 if name.startswith("qwen") else 32
    logits = reference.predict(PAIRS, activation_fn=torch.nn.Identity(), batch_size=size)
    queries, documents = map(list, zip(*PAIRS, strict=True))
    with load(bundle) as model:
        identity = model.manifest.head.score_activation == "identity"
        scores = model.score(queries, documents).numpy()
        assert_allclose(
            model.score(queries, documents, pooling_params=RAW).numpy(), logits, atol=ATOL, rtol=0
        )
        expected = reference.predict(PAIRS, batch_size=size)
        assert_allclose(scores, expected, atol=ATOL if identity else PROBS_ATOL, rtol=0)
        ranked = model.rerank(queries[0], documents[:20])
        alone = [model.score(queries[0], d, pooling_params=RAW)[0].outputs.score for d in documents[:20]]
    assert np.ptp(expected) > 1e-3
    assert [r.index for r in ranked] == list(np.argsort(-np.array(alone), kind="stable"))


def test_a_cross_encoder_of_three_labels(exported) -> None:
    from sentence_transformers import CrossEncoder

    checkpoint, bundle = exported("cross-encoder-bert-3")
    reference = CrossEncoder(str(checkpoint), device="cpu")
    prompts = [{"text": first, "text_pair": second} for first, second in PAIRS]
    with load(bundle) as model:
        raw = model.classify(prompts, pooling_params=RAW).numpy()
        outputs = model.classify(prompts)
    assert_allclose(raw, reference.predict(PAIRS), atol=ATOL, rtol=0)
    probs = reference.predict(PAIRS, apply_softmax=True)
    assert_allclose(outputs.numpy(), probs, atol=PROBS_ATOL, rtol=0)
    names = ("contradiction", "entailment", "neutral")
    assert [output.outputs.label for output in outputs] == [names[i] for i in probs.argmax(1)]


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("classifier-binary", "softmax"),
        ("classifier-single-label", "softmax"),
        ("classifier-multilabel", "sigmoid"),
        ("regression", "identity"),
        ("modernbert-classifier-mean", "softmax"),
        ("qwen3-classifier", "softmax"),
    ],
)
def test_classifiers(exported, name, activation) -> None:
    checkpoint, bundle = exported(name)
    logits = np.stack(answers(name, checkpoint, TEXTS))
    with load(bundle) as model:
        raw = model.classify(TEXTS, pooling_params=RAW).numpy()
        outputs = model.classify(TEXTS)
        labels = model.manifest.head.labels
    assert_allclose(raw, logits, atol=ATOL, rtol=0)
    expected = ACTIVATIONS[activation](logits.astype(np.float64))
    assert_allclose(outputs.numpy(), expected, atol=ATOL if activation == "identity" else PROBS_ATOL, rtol=0)
    assert [output.outputs.label for output in outputs] == [labels[i] for i in logits.argmax(1)]


def test_a_token_classifier_with_offsets_and_labels(exported) -> None:
    from transformers import AutoTokenizer

    checkpoint, bundle = exported("token-classifier")
    logits = answers("token-classifier", checkpoint, TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with load(bundle) as model:
        raw = model.encode(TEXTS, RAW, pooling_task="token_classify").numpy()
        outputs = model.encode(TEXTS, pooling_task="token_classify")
        labels = model.manifest.head.labels
    for text, rows, output, expected in zip(TEXTS, raw, outputs, logits, strict=True):
        assert_allclose(rows, expected, atol=ATOL, rtol=0)
        probs = ACTIVATIONS["softmax"](expected.astype(np.float64))
        assert_allclose(output.outputs.data, probs, atol=PROBS_ATOL, rtol=0)
        assert output.outputs.row_labels == [labels[i] for i in expected.argmax(1)]
        theirs = tokenizer(text, truncation=True, return_offsets_mapping=True)["offset_mapping"]
        assert output.outputs.offsets == [tuple(pair) for pair in theirs]


def test_a_causal_reranker_fills_its_template(exported) -> None:
    checkpoint, bundle = exported("qwen3-reranker", task="score", yes_token="yes", no_token="no")
    expected = np.array([row.item() for row in answers("qwen3-reranker", checkpoint, PAIRS)])
    queries, documents = map(list, zip(*PAIRS, strict=True))
    with load(bundle) as model:
        scores = model.score(queries, documents).numpy()
        logits = model.score(queries, documents, pooling_params=RAW).numpy().astype(np.float64)
        other = model.score(queries[:5], documents[:5], instruction="Find texts about foxes").numpy()
    assert np.ptp(expected) > 0.05
    assert_allclose(scores, expected, atol=PROBS_ATOL, rtol=0)
    assert_allclose(logits, np.log(expected / (1 - expected)), atol=ATOL, rtol=0)
    assert np.abs(other - scores[:5]).max() > 1e-4


@pytest.mark.parametrize("name", ["colbert", "colbert-attend", "colbert-plain-query", "colbert-stanford"])
def test_late_interaction(exported, name) -> None:
    """Scores are sums over query tokens; a term of the sum keeps the tolerance of an embedding."""
    checkpoint, bundle = exported(name)
    query, *_ = PAIRS[0]
    expected = np.array(
        [float(row) for row in answers(name, checkpoint, [*PAIRS, *((query, t) for t in TEXTS)])]
    )
    queries, documents = map(list, zip(*PAIRS, strict=True))
    with load(bundle) as model:
        scores = model.score(queries, documents)
        assert_allclose(scores.numpy(), expected[: len(PAIRS)], atol=ATOL, rtol=0)
        one_query = model.score(query, TEXTS).numpy()
        assert_allclose(one_query, expected[len(PAIRS) :], atol=ATOL, rtol=0)
        ranked = model.rerank(query, TEXTS, top_n=5)
        late = model.manifest.late_interaction
    assert [r.index for r in ranked] == list(np.argsort(-one_query, kind="stable")[:5])
    cut = scores[max(range(len(documents)), key=lambda i: len(documents[i]))]
    if late.document_len < 100:
        assert cut.num_truncated_document_tokens > 0


def test_a_process_reward_model(exported) -> None:
    prompts = [f"{t[:80]} {STEP_TAG} {t[80:160]} {STEP_TAG}" for t in TEXTS] + ["no step at all", STEP_TAG]
    checkpoint, bundle = exported("process-reward", step_tag=STEP_TAG)
    logits = answers("process-reward", checkpoint, prompts)
    with load(bundle) as model:
        tag = model.manifest.pooling.step_tag_id
        raw = model.encode(prompts, RAW, pooling_task="token_classify")
        outputs = model.encode(prompts, pooling_task="token_classify")
        good = model.encode(
            prompts,
            PoolingParams(returned_token_ids=[1], use_activation=False),
            pooling_task="token_classify",
        )
    for prompt, rows, kept, column, every in zip(prompts, raw, outputs, good, logits, strict=True):
        expected = every[np.array(rows.prompt_token_ids) == tag]
        assert len(expected) == prompt.count(STEP_TAG)
        assert_allclose(rows.outputs.data, expected, atol=ATOL, rtol=0)
        probs = ACTIVATIONS["softmax"](expected.astype(np.float64)) if len(expected) else expected
        assert_allclose(kept.outputs.data, probs, atol=PROBS_ATOL, rtol=0)
        assert_allclose(column.outputs.data, expected[:, 1:], atol=ATOL, rtol=0)
        assert column.outputs.labels == ("positive",)
        assert [prompt[a:b] for a, b in kept.outputs.offsets] == [STEP_TAG] * len(expected)


def test_every_kind_of_the_table_is_compared() -> None:
    kinds = {name for name, recipe in CHECKPOINTS.items() if recipe.tasks[0] != "token_embed"}
    assert set(EMBEDDERS) <= kinds
