"""Every kind of checkpoint against the library that is its reference, float32, mixed-length batches."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.export import tiny, tiny_kinds

from corpus import texts
from embedge import EdgeModel, PoolingParams
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

LOGITS_ATOL = 1e-5
PROBS_ATOL = 1e-6
WORDS = tiny.TEXT.split()
TEXTS = [t for t in texts(80, seed=3) if t.strip()][:52] + [
    " ".join(WORDS[i : i + n]) for i, n in ((0, 5), (3, 30))
]
PAIRS = [(" ".join(WORDS[i % 20 : i % 20 + 4]), TEXTS[i]) for i in range(len(TEXTS))]


def bundle(make, folder: Path, **spec) -> tuple[Path, Path]:
    """A checkpoint and its bundle."""
    checkpoint = folder / "checkpoint"
    make(checkpoint)
    return checkpoint, export(ExportSpec(model=str(checkpoint), output=folder / "bundle", **spec))


def load(path: Path, **kwargs) -> EdgeModel:
    return EdgeModel(path, device="cpu", truncate_prompt_tokens=-1, **kwargs)


def torch_logits(checkpoint: Path, model_class: str, prompts, **tokenizer_kwargs) -> list[np.ndarray]:
    """Logits of a transformers model, one prompt at a time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = getattr(transformers, model_class).from_pretrained(checkpoint, attn_implementation="eager").eval()
    rows = []
    with torch.no_grad():
        for prompt in prompts:
            sides = prompt if isinstance(prompt, tuple) else (prompt,)
            features = tokenizer(*sides, truncation=True, return_tensors="pt", **tokenizer_kwargs)
            features.pop("token_type_ids", None) if "Bert" not in model_class else None
            rows.append(model(**features).logits[0].numpy())
    return rows


@pytest.mark.parametrize("problem_type", [None, "regression"])
def test_cross_encoder_with_one_label(tmp_path, problem_type) -> None:
    from sentence_transformers import CrossEncoder

    def make(folder: Path) -> None:
        extra = {} if problem_type is None else {"problem_type": problem_type}
        tiny_kinds.bert_classifier(folder, "LABEL_0", **extra)

    checkpoint, path = bundle(make, tmp_path)
    expected = torch_logits(checkpoint, "BertForSequenceClassification", PAIRS, max_length=64)
    queries, documents = zip(*PAIRS, strict=True)
    with load(path) as model:
        logits = model.score(
            list(queries), list(documents), pooling_params=PoolingParams(use_activation=False)
        ).numpy()
        scores = model.score(list(queries), list(documents)).numpy()
        assert_allclose(logits, np.stack(expected), atol=LOGITS_ATOL)
        theirs = CrossEncoder(str(checkpoint), device="cpu", max_length=64).predict(PAIRS)
        assert np.ptp(theirs) > 0.05
        if problem_type is None:
            assert_allclose(scores[:, 0], theirs, atol=PROBS_ATOL)
        best = model.rerank(queries[0], list(documents[:20]), top_n=5)
        one_by_one = [model.score(queries[0], d)[0].outputs.score for d in documents[:20]]
        assert [r.index for r in best] == list(np.argsort(-np.array(one_by_one), kind="stable")[:5])
        joined = model.score(prompts=["how do [SEP] food"])[0]
        assert joined.prompt_token_ids.count(3) == 2


def test_cross_encoder_with_three_labels(tmp_path) -> None:
    from sentence_transformers import CrossEncoder

    checkpoint, path = bundle(
        lambda folder: tiny_kinds.bert_classifier(folder, "contradiction", "entailment", "neutral"), tmp_path
    )
    reference = CrossEncoder(str(checkpoint), device="cpu", max_length=64)
    with load(path) as model:
        prompts = [{"text": a, "text_pair": b} for a, b in PAIRS]
        logits = model.classify(prompts, pooling_params=PoolingParams(use_activation=False)).numpy()
        outputs = model.classify(prompts)
    assert_allclose(logits, reference.predict(PAIRS), atol=LOGITS_ATOL)
    probs = reference.predict(PAIRS, apply_softmax=True)
    assert_allclose(outputs.numpy(), probs, atol=PROBS_ATOL)
    names = ("contradiction", "entailment", "neutral")
    assert [output.outputs.label for output in outputs] == [names[i] for i in probs.argmax(1)]


@pytest.mark.parametrize(
    ("problem_type", "activation"),
    [
        ("single_label_classification", lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
        ("multi_label_classification", lambda x: 1 / (1 + np.exp(-x))),
        ("regression", lambda x: x),
    ],
)
def test_classifier(tmp_path, problem_type, activation) -> None:
    checkpoint, path = bundle(
        lambda folder: tiny_kinds.bert_classifier(folder, "a", "b", "c", problem_type=problem_type), tmp_path
    )
    logits = np.stack(torch_logits(checkpoint, "BertForSequenceClassification", TEXTS, max_length=64))
    with load(path) as model:
        raw = model.classify(TEXTS, pooling_params=PoolingParams(use_activation=False)).numpy()
        probs = model.classify(TEXTS).numpy()
    assert_allclose(raw, logits, atol=LOGITS_ATOL)
    assert_allclose(
        probs, activation(logits.astype(np.float64)), atol=PROBS_ATOL if problem_type[0] != "r" else 1e-5
    )


def test_token_classifier(tmp_path) -> None:
    checkpoint, path = bundle(tiny_kinds.token_classifier, tmp_path)
    expected = torch_logits(checkpoint, "BertForTokenClassification", TEXTS, max_length=64)
    with load(path) as model:
        raw = model.encode(TEXTS, PoolingParams(use_activation=False), pooling_task="token_classify").numpy()
        outputs = model.encode(TEXTS, pooling_task="token_classify")
    for ours, theirs in zip(raw, expected, strict=True):
        assert_allclose(ours, theirs, atol=LOGITS_ATOL)
    for text, output in zip(TEXTS, outputs, strict=True):
        rows = output.outputs
        assert_allclose(rows.data.sum(1), 1, atol=1e-6)
        assert len(rows.offsets) == len(rows.data) == len(rows.row_labels)
        assert set(rows.row_labels) <= {"O", "PER", "LOC"}
        assert rows.offsets[0] == (0, 0)
        assert all(0 <= a <= b <= len(text) for a, b in rows.offsets)


def test_modernbert_classifier_pools_by_mean(tmp_path) -> None:
    checkpoint, path = bundle(tiny_kinds.modernbert_classifier, tmp_path)
    expected = torch_logits(checkpoint, "ModernBertForSequenceClassification", TEXTS, max_length=64)
    with load(path) as model:
        raw = model.classify(TEXTS, pooling_params=PoolingParams(use_activation=False)).numpy()
    assert_allclose(raw, np.stack(expected), atol=LOGITS_ATOL)


def test_roberta_pairs(tmp_path) -> None:
    checkpoint, path = bundle(tiny_kinds.roberta_pairs, tmp_path)
    expected = torch_logits(checkpoint, "RobertaForSequenceClassification", PAIRS, max_length=64)
    queries, documents = zip(*PAIRS, strict=True)
    with load(path) as model:
        outputs = model.score(
            list(queries), list(documents), pooling_params=PoolingParams(use_activation=False)
        )
    assert_allclose(outputs.numpy(), np.stack(expected), atol=LOGITS_ATOL)
    cut = [output for output in outputs if output.num_truncated_tokens]
    assert cut
    assert all(
        o.num_truncated_query_tokens + o.num_truncated_document_tokens == o.num_truncated_tokens for o in cut
    )


def test_qwen3_embedding_with_prompts(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, path = bundle(tiny_kinds.qwen3_embedder, tmp_path)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    with load(path) as model:
        limit = model.info.max_seq_len
        reference.max_seq_length = limit
        some = TEXTS
        assert_allclose(model.embed(some).numpy(), reference.encode(some, batch_size=1), atol=1e-5)
        by_name = model.embed(some, prompt_name="query").numpy()
        assert_allclose(by_name, reference.encode(some, prompt_name="query", batch_size=1), atol=1e-5)
        assert np.abs(by_name - model.embed(some).numpy()).max() > 1e-3
        literal = model.embed(some, prompt="Instruct: find\nQuery:").numpy()
        assert_allclose(literal, by_name, atol=1e-6)


def test_qwen3_reranker_fills_its_template(tmp_path) -> None:
    import torch
    import transformers

    checkpoint, path = bundle(
        tiny_kinds.qwen3_reranker, tmp_path, task="score", yes_token="yes", no_token="no"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    causal = transformers.AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    with load(path) as model:
        template = model.manifest.template
        pairs = [(q, d[:200]) for q, d in PAIRS[:50]]
        scores = model.score([q for q, _ in pairs], [d for _, d in pairs]).numpy()[:, 0]
    expected = []
    for query, document in pairs:
        body = template.body.replace("{instruction}", template.instruction)
        body = body.replace("{query}", query).replace("{document}", document)
        ids = [
            tokenizer.encode(part, add_special_tokens=False)
            for part in (template.prefix, body, template.suffix)
        ]
        with torch.no_grad():
            logits = causal(torch.tensor([ids[0] + ids[1] + ids[2]])).logits[0, -1]
        two = logits[[tokenizer.convert_tokens_to_ids("no"), tokenizer.convert_tokens_to_ids("yes")]]
        expected.append(torch.softmax(two.double(), 0)[1].item())
    assert np.ptp(expected) > 0.01
    assert_allclose(scores, expected, atol=1e-5)  # decoder logits agree to 1e-4


def test_process_reward_model_reads_its_steps(tmp_path) -> None:
    checkpoint, path = bundle(tiny_kinds.reward_model, tmp_path, step_tag="<step>")
    steps = ["how do<step> my food<step> city rain<step>", "water<step>", "no step at all"]
    steps += [f"{text[:60]}<step>{text[60:120]}<step>" for text in TEXTS[:50]]
    expected = torch_logits(checkpoint, "Qwen2ForTokenClassification", steps)
    with load(path) as model:
        tag = model.manifest.pooling.step_tag_id
        raw = model.encode(steps, PoolingParams(use_activation=False), pooling_task="token_classify")
        good = model.encode(
            steps, PoolingParams(step_tag_id=tag, returned_token_ids=[1]), pooling_task="token_classify"
        )
    for output, narrow, rows, text in zip(raw, good, expected, steps, strict=True):
        kept = rows[np.array(output.prompt_token_ids) == tag]
        assert len(kept) == text.count("<step>")
        assert_allclose(output.outputs.data, kept, atol=1e-4)
        assert narrow.outputs.data.shape == (len(kept), 1)
        assert [text[a:b] for a, b in output.outputs.offsets] == ["<step>"] * len(kept)


@pytest.mark.parametrize("make", [tiny_kinds.pylate, tiny_kinds.original_colbert])
def test_late_interaction(tmp_path, make) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    checkpoint, path = bundle(make, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    files = [checkpoint / "1_Dense" / "model.safetensors", checkpoint / "model.safetensors"]
    weights = load_file(next(f for f in files if f.is_file()))
    if "linear.weight" in weights and files[0].is_file():
        bert = transformers.BertModel.from_pretrained(checkpoint).eval()
    else:
        bert = transformers.BertModel(transformers.BertConfig.from_pretrained(checkpoint)).eval()
        state = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
        bert.load_state_dict(state, strict=False)
    markers = ("[Q] ", "[D] ") if make is tiny_kinds.pylate else ("[unused0]", "[unused1]")
    words = ["!", ".", ","] if make is tiny_kinds.pylate else list(string.punctuation)
    skipped = {tokenizer.convert_tokens_to_ids(w) for w in words}

    def rows(text: str, is_query: bool) -> torch.Tensor:
        limit = 16 if is_query else 40
        ids = tokenizer(text, truncation=True, max_length=limit - 1)["input_ids"]
        ids.insert(1, tokenizer.convert_tokens_to_ids(markers[0 if is_query else 1]))
        mask = [1] * len(ids)
        if is_query:
            mask += [0] * (limit - len(ids))
            ids += [tokenizer.mask_token_id] * (limit - len(ids))
        with torch.no_grad():
            hidden = bert(torch.tensor([ids]), attention_mask=torch.tensor([mask])).last_hidden_state[0]
        unit = torch.nn.functional.normalize(hidden @ weights["linear.weight"].T, dim=-1)
        return unit if is_query else unit[[i not in skipped for i in ids]]

    documents = TEXTS[:50]
    query = "how do my food city"
    expected = [(rows(query, True) @ rows(d, False).T).max(1).values.sum().item() for d in documents]
    with load(path) as model:
        scores = model.score(query, documents).numpy()[:, 0]
        ranked = model.rerank(query, documents, top_n=3)
    assert np.ptp(expected) > 0.1
    assert_allclose(scores, expected, atol=1e-4)  # a sum of 16 maxima
    assert [r.index for r in ranked] == list(np.argsort(-scores, kind="stable")[:3])


def test_splade(tmp_path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    masked_lm = tiny_kinds.splade(tmp_path / "masked-lm")
    (masked_lm / "modules.json").unlink()
    reference = SparseEncoder(modules=[MLMTransformer(str(masked_lm)), SpladePooling("max")], device="cpu")
    _, path = bundle(lambda folder: reference.save_pretrained(str(folder)), tmp_path)
    expected = reference.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert (expected > 0).any(axis=1).all()
    with load(path) as model:
        dense = model.embed(TEXTS).numpy()
        sparse = model.embed_sparse(TEXTS)
    assert_allclose(dense, expected, atol=1e-5)
    for row, output in zip(dense, sparse, strict=True):
        assert_allclose(output.outputs.data, row, atol=1e-6)
        assert (output.outputs.weights > 0).all()
        assert (np.diff(output.outputs.weights) <= 0).all()


def test_static_embedding(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, path = bundle(tiny_kinds.static, tmp_path)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    # torch's embedding bag adds thousands of rows one by one in float32 and drifts by more than the tolerance
    some = [t for t in TEXTS if len(t) < 2000]
    with load(path) as model:
        assert_allclose(model.embed(some).numpy(), reference.encode(some), atol=1e-5)


def test_model2vec(tmp_path) -> None:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    checkpoint, path = bundle(tiny_kinds.model2vec, tmp_path)
    table = load_file(checkpoint / "model.safetensors")["embeddings"]
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    with load(path) as model:
        actual, limit = model.embed(TEXTS).numpy(), model.info.max_seq_len
    for text, row in zip(TEXTS, actual, strict=True):
        # model2vec leaves unknown tokens out of the mean
        unknown = tokenizer.token_to_id("[UNK]")
        ids = [i for i in tokenizer.encode(text, add_special_tokens=False).ids if i != unknown]
        if len(ids) > limit:
            continue  # cut on both sides, but not at the same token where unknown ones were left out
        mean = table[ids].mean(0) if ids else np.zeros(table.shape[1])
        assert_allclose(row, mean / max(np.linalg.norm(mean), 1e-12), atol=1e-5)


MODES = ["cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken", "mean_tokens"]


@pytest.mark.parametrize("modes", [[m] for m in MODES] + [["cls_token", "mean_tokens", "max_tokens"]])
def test_pooling_modes_and_runtime_overrides(tmp_path, modes) -> None:
    from sentence_transformers import SentenceTransformer

    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False}
    pooling |= {f"pooling_mode_{mode}": True for mode in modes}
    checkpoint, path = bundle(lambda folder: tiny.make_bert(folder, **pooling), tmp_path)
    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
    with load(path) as model:
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=1e-5)
        stored = model.manifest.pooling.modes
    if len(stored) == 1:
        # the same mode computed in numpy, from another bundle's hidden states
        from embedge import PoolerConfig

        other = tmp_path / "other"
        other.mkdir()
        _, mean_path = bundle(tiny.make_bert, other)
        with load(mean_path, pooler_config=PoolerConfig(pooling_type=stored[0])) as overridden:
            assert_allclose(overridden.embed(TEXTS).numpy(), expected, atol=1e-5)


def test_dense_with_tanh(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    from embedge import PoolerConfig

    dense = ((32, 16, "torch.nn.modules.activation.Tanh"),)
    checkpoint, path = bundle(lambda folder: tiny.make_bert(folder, dense=dense), tmp_path)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    with load(path) as model:
        assert_allclose(model.embed(TEXTS).numpy(), reference.encode(TEXTS), atol=1e-5)
    reference[1].pooling_mode_mean_tokens = False
    with load(path, pooler_config=PoolerConfig(pooling_type="MEAN")) as model:
        first = model.embed(TEXTS).numpy()
    with load(path, pooler_config=PoolerConfig(pooling_type="CLS")) as model:
        assert np.abs(model.embed(TEXTS).numpy() - first).max() > 1e-3


@pytest.mark.parametrize(
    ("stated", "sizes"), [({"matryoshka_dimensions": [8, 16]}, [8, 16]), ({"is_matryoshka": True}, [5])]
)
def test_matryoshka_of_the_config(tmp_path, stated, sizes) -> None:
    from embedge import ParamsError

    def make(folder: Path) -> None:
        tiny.make_bert(folder)
        tiny.edit_json(folder / "config.json", **stated)

    _, path = bundle(make, tmp_path)
    with load(path) as model:
        full = model.embed(TEXTS, pooling_params=PoolingParams(normalize=False)).numpy()
        for size in sizes:
            cut = model.embed(TEXTS, pooling_params=PoolingParams(dimensions=size)).numpy()
            expected = full[:, :size] / np.linalg.norm(full[:, :size], axis=1, keepdims=True)
            assert_allclose(cut, expected, atol=1e-6)
        mixed = model.embed(
            TEXTS[:3],
            pooling_params=[
                PoolingParams(),
                PoolingParams(dimensions=sizes[0]),
                PoolingParams(normalize=False),
            ],
        )
        assert [len(o.outputs.data) for o in mixed] == [32, sizes[0], 32]
        assert_allclose(mixed[2].outputs.data, full[2], atol=1e-6)
        if "matryoshka_dimensions" in stated:
            with pytest.raises(ParamsError, match=r"only supports \[8, 16\] matryoshka dimensions"):
                model.embed(TEXTS[0], pooling_params=PoolingParams(dimensions=9))
        with pytest.raises(ParamsError):
            model.embed(TEXTS[0], pooling_params=PoolingParams(dimensions=33))


def test_include_prompt_false(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    def make(folder: Path) -> None:
        tiny.make_bert(
            folder, word_embedding_dimension=32, pooling_mode_mean_tokens=True, include_prompt=False
        )
        tiny.write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "how do my "}})

    checkpoint, path = bundle(make, tmp_path)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    some = [t for t in TEXTS if len(t) > 2]
    with load(path) as model:
        ours = model.embed(some, prompt_name="query").numpy()
        assert_allclose(ours, reference.encode(some, prompt_name="query"), atol=1e-5)
        assert np.abs(ours - model.embed(some).numpy()).max() > 1e-3


def test_long_text_is_the_weighted_mean_of_its_windows(tmp_path) -> None:
    _, path = bundle(tiny.make_bert, tmp_path)
    words = (WORDS * 8)[:150]
    text = " ".join(words)
    raw = PoolingParams(normalize=False)
    with load(path) as model:
        room = model.info.max_seq_len - 2
        ids = model.embed(text, long_text="mean")[0].prompt_token_ids
        content = ids[1:-1]
        parts = [content[i : i + room] for i in range(0, len(content), room)]
        rows = model.embed([[2, *part, 3] for part in parts], pooling_params=raw).numpy()
        mean = np.average(rows, axis=0, weights=[len(part) for part in parts])
        assert len(parts) > 3
        assert_allclose(model.embed(text, long_text="mean", pooling_params=raw).numpy()[0], mean, atol=1e-6)
        assert_allclose(
            model.embed(text, long_text="mean").numpy()[0], mean / np.linalg.norm(mean), atol=1e-6
        )
        short = model.embed("food city", long_text="mean").numpy()
        assert_allclose(short, model.embed("food city").numpy(), atol=1e-6)
