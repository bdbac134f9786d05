"""What a variant is measured by, and that a missed gate lets nothing through."""

import itertools

import msgspec
import numpy as np
import pytest

from embedge import EdgeModel
from embedge.bundle import check_files, open_bundle
from embedge.errors import VerificationError
from embedge.manifest import EndToEnd, Fidelity, fingerprint, load_manifest
from embedge.testing import tiny_bundle
from embedge_export.pipeline import export
from embedge_export.precisions import STORED_AS, Gate
from embedge_export.spec import ExportSpec
from embedge_export.texts.graded_pairs import GRADED_PAIRS
from embedge_export.texts.retrieval import CANDIDATES, QUICK_DOCUMENTS, built_in_set, candidates
from embedge_export.verify import questions
from embedge_export.verify.asking import Answers, ask
from embedge_export.verify.comparison import compare, cosines
from embedge_export.verify.gates import EXACT, check, measure, try_variant
from embedge_export.verify.questions import Questions, choose_questions

COMPARISONS = {
    "embed": "embed",
    "sparse": "embed",
    "cross_encoder": "score",
    "llm_reranker": "score",
    "late_interaction": "score",
    "classify": "classify",
    "token_classify": "classify",
    "reward": "classify",
}
FEW = built_in_set().subset(30)
DTYPES = ("float32", "float16", "bfloat16", "int8", "int4")


@pytest.fixture(autouse=True)
def as_many_questions_as_users_ask(monkeypatch):
    """Not the few that tests/conftest.py leaves for tiny models."""
    monkeypatch.setattr(questions, "QUICK_DOCUMENTS", QUICK_DOCUMENTS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Of an embedder."""
    return load_manifest(tiny_bundle(tmp_path_factory.mktemp("bundles")))


def without_nan(texts):
    """The tiny bundles answer NaN to that word."""
    return tuple(text.lower().replace("nan", "none") for text in texts)


def asked_of(manifest, **changes):
    asked = choose_questions(manifest, 10**9, step_tag=" the")
    texts = msgspec.structs.replace(
        asked.texts, queries=without_nan(asked.texts.queries), documents=without_nan(asked.texts.documents)
    )
    pairs = tuple(without_nan(pair) for pair in asked.pairs)
    return msgspec.structs.replace(
        asked, **({"texts": texts, "pairs": pairs, "prompts": without_nan(asked.prompts)} | changes)
    )


def figures(**changes):
    given = {"reference": "fp32", "num_compared": 1, "texts_sha256": "0" * 64, "max_batch_diff": 0.0}
    return EndToEnd(**(given | {"batch_invariance": "exact"} | changes))


@pytest.mark.parametrize(("tiny", "comparison"), COMPARISONS.items())
def test_every_model_equals_itself(tiny, comparison, tmp_path):
    # a reranker's template has to leave room for the document
    longer = {"max_seq_len": 128} if tiny == "llm_reranker" else None
    folder = tiny_bundle(tmp_path, tiny, changes=longer)
    asked = asked_of(load_manifest(folder))
    assert asked.comparison == comparison
    first = try_variant(folder, "fp32", asked, None, "torch")
    again = try_variant(folder, "fp32", asked, first.answers, "fp32").figures
    assert again.num_compared == len(first.answers.rows) > 30
    assert again.batch_invariance == "exact"
    assert first.figures.num_compared == 0
    assert first.answers.timing.texts_per_s > 0
    if comparison == "embed":
        assert again.cosine_min == pytest.approx(1.0)
        assert again.top_10_overlap == 1.0
        assert again.ndcg_10 == again.reference_ndcg_10
        assert -1 <= again.spearman <= 1
    elif comparison == "score":
        assert (again.rank_correlation, again.max_score_diff) == (1.0, 0.0)
        assert again.num_documents == CANDIDATES
    else:
        assert (again.label_agreement, again.max_prob_diff) == (1.0, 0.0)


def test_another_models_vectors_miss_the_gate_and_the_message_has_the_figures(tmp_path):
    folder, other = tiny_bundle(tmp_path / "a"), tiny_bundle(tmp_path / "b", seed=1)
    asked = asked_of(load_manifest(folder))
    with EdgeModel(other, device="cpu") as model:
        reference = ask(model, asked)
    with pytest.raises(
        VerificationError, match=r"variant fp32 \(float32\) misses .* smallest end-to-end cosine -?0\.\d+"
    ):
        try_variant(folder, "fp32", asked, reference, "fp32")


def test_stored_prompts_are_used_on_their_side(tmp_path):
    prompts = {"query": "the river ", "passage": "cold "}
    folder = tiny_bundle(tmp_path / "a", changes={"prompts": prompts})
    asked = asked_of(load_manifest(folder))
    assert (asked.query_prompt, asked.document_prompt) == ("query", "passage")
    with EdgeModel(folder, device="cpu") as model:
        rows = ask(model, asked).rows
        size = len(asked.texts.documents)
        expected = model.embed(
            [prompts["passage"] + asked.texts.documents[0]], prompt="", long_text="truncate"
        )
        np.testing.assert_allclose(rows[0], expected.numpy()[0], atol=1e-6)
        expected = model.embed([prompts["query"] + asked.texts.queries[0]], prompt="", long_text="truncate")
        np.testing.assert_allclose(rows[size], expected.numpy()[0], atol=1e-6)


def test_nan_is_never_let_through(tmp_path):
    folder = tiny_bundle(tmp_path)
    texts = msgspec.structs.replace(FEW, documents=("nan", *FEW.documents[1:]))
    with pytest.raises(VerificationError, match=r"fp32 could not be judged: .*NaN or infinity"):
        try_variant(folder, "fp32", asked_of(load_manifest(folder), texts=texts), None, "torch")


def test_texts_that_depend_on_their_batch_are_found(tmp_path, monkeypatch):
    folder = tiny_bundle(tmp_path)
    encode = EdgeModel.encode

    def leaky(self, prompts, *args, **kwargs):
        outputs = encode(self, prompts, *args, **kwargs)
        rows = outputs.numpy()
        rows += np.float32(1e-4 * len(prompts))
        return outputs

    monkeypatch.setattr(EdgeModel, "encode", leaky)
    with EdgeModel(folder, device="cpu") as model:
        found, _ = measure(model, asked_of(load_manifest(folder)), None, "torch")
    assert found.batch_invariance == "batch-dependent"
    assert found.max_batch_diff > EXACT


def embeddings(seed=0, noise=0.0):
    """Documents, queries close to them, and pairs, as rows of Answers."""
    random = np.random.default_rng(seed)
    documents = random.normal(size=(30, 48))
    pairs = random.normal(size=(2 * len(GRADED_PAIRS), 48))
    rows = np.concatenate([documents, documents + 0.5 * random.normal(size=documents.shape), pairs])
    noisy = rows + noise * np.random.default_rng(1).normal(size=rows.shape)
    return Answers(rows=noisy.astype(np.float32))


def passes(dtype, measured):
    try:
        check("x", dtype, "embed", measured)
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("noise", "passing"),
    [(0.0, "float32"), (0.002, "float16"), (0.02, "bfloat16"), (0.07, "int8"), (0.18, "int4")],
)
def test_embedders_pass_the_gate_of_their_precision_and_no_finer_one(noise, passing, manifest):
    asked = Questions(comparison="embed", task="embed", texts=FEW)
    measured = compare(figures(), manifest, asked, embeddings(noise=noise), embeddings())
    assert [dtype for dtype in DTYPES if passes(dtype, measured)] == list(DTYPES[DTYPES.index(passing) :])


def test_a_ranking_is_judged_only_where_the_reference_has_one():
    close = {"cosine_min": 0.99, "cosine_mean": 0.998, "top_10_overlap": 0.3, "ndcg_10": 0.05}
    check("x", "int8", "embed", figures(**close, reference_ndcg_10=0.1))
    with pytest.raises(VerificationError, match=r"top-10 overlap 0\.30000.*nDCG@10 0\.0500 is 90\.0% below"):
        check("x", "int8", "embed", figures(**close, reference_ndcg_10=0.5))


@pytest.mark.parametrize(("tiny", "comparison"), COMPARISONS.items())
def test_what_people_send_beside_prose_counts(tiny, comparison, tmp_path):
    """The worst text is found wherever it stands, and rankings are those of the other texts."""
    longer = {"max_seq_len": 128} if tiny == "llm_reranker" else None
    folder = tiny_bundle(tmp_path, tiny, changes=longer)
    few = {"texts": FEW, "pairs": tuple(candidates(FEW, 4)), "prompts": FEW.documents[:4]}
    asked = asked_of(load_manifest(folder), **few)
    assert len(asked.others) > 70
    with EdgeModel(folder, device="cpu") as model:
        answers, alone = ask(model, asked), ask(model, msgspec.structs.replace(asked, others=()))
        # a step model answers where its tag was not cut off
        assert len(answers.rows) - len(alone.rows) >= len(asked.others) / (3 if tiny == "reward" else 1)
        manifest = model.manifest
        skewed = answers.rows.copy()
        at = 2 * len(FEW.documents) + 3 if comparison == "embed" else len(skewed) - 3
        skewed[at] = skewed[at][::-1] + 1 + np.arange(skewed.shape[1])
        worse = compare(figures(), manifest, asked, Answers(rows=skewed), answers)
    same = compare(figures(), manifest, asked, answers, answers)
    field = {"embed": "cosine_min", "score": "max_score_diff", "classify": "max_prob_diff"}[comparison]
    assert abs(getattr(worse, field) - getattr(same, field)) > 0.01
    assert (worse.ndcg_10, worse.spearman) == (same.ndcg_10, same.spearman)


def test_a_text_that_only_the_numbers_were_asked_for_counts(tmp_path):
    folder = tiny_bundle(tmp_path)
    asked = asked_of(load_manifest(folder), texts=FEW)
    answers = try_variant(folder, "fp32", asked, None, "torch").answers
    odd = Fidelity(num_texts=3, max_abs_diff=1.0, max_batch_diff=0.0, cosine_min=0.9999995, cosine_mean=1.0)
    trial = try_variant(folder, "fp32", asked, answers, "fp32", measured=odd)
    assert trial.figures.cosine_min == 0.9999995
    worse = msgspec.structs.replace(odd, cosine_min=0.5)
    with pytest.raises(VerificationError, match=r"cosine 0\.5"):
        try_variant(folder, "fp32", asked, answers, "fp32", measured=worse)


def test_scores_are_held_apart_by_more_than_rounding(manifest):
    asked = Questions(comparison="score", task="score", texts=FEW, pairs=(("q", "d"),) * 80)
    expected = np.linspace(0, 1, 80, dtype=np.float32)[:, None]
    swapped = expected.copy()
    swapped[:2] = expected[1::-1] * 0.1  # the two lowest, 0.013 apart, change places
    near = compare(figures(), manifest, asked, Answers(rows=expected + 1e-3), Answers(rows=expected))
    assert near.rank_correlation == 1.0
    assert near.max_score_diff == pytest.approx(1e-3, rel=1e-3)
    far = compare(figures(), manifest, asked, Answers(rows=swapped), Answers(rows=expected))
    assert 0.99 < far.rank_correlation < 1.0
    with pytest.raises(VerificationError, match="largest score error"):
        check("x", "float16", "score", far)


def test_scores_beyond_one_are_judged_by_their_range(manifest):
    asked = Questions(comparison="score", task="score", texts=FEW, pairs=(("q", "d"),) * 80)
    logits = np.linspace(-10, 10, 80, dtype=np.float32)[:, None]
    measured = compare(figures(), manifest, asked, Answers(rows=logits + 0.2), Answers(rows=logits))
    assert measured.max_score_diff == pytest.approx(0.01, rel=1e-3)


def test_labels_agree_where_the_reference_is_clear(tmp_path):
    manifest = load_manifest(tiny_bundle(tmp_path, "classify"))
    asked = Questions(comparison="classify", task="classify", texts=FEW)
    expected = np.array([[0.7, 0.2, 0.1], [0.404, 0.4, 0.196], [0.1, 0.3, 0.6]], dtype=np.float32)
    actual = np.array([[0.7, 0.2, 0.1], [0.4, 0.404, 0.196], [0.5, 0.3, 0.2]], dtype=np.float32)
    measured = compare(figures(), manifest, asked, Answers(rows=actual), Answers(rows=expected))
    assert measured.label_agreement == 0.5
    assert measured.max_prob_diff == pytest.approx(0.4)
    with pytest.raises(VerificationError, match=r"label agreement 0\.50000, .*probability error 4\.00e-01"):
        check("x", "int8", "classify", measured)


@pytest.mark.parametrize("field", ["cosine_min", "cosine_mean"])
def test_a_figure_that_is_nan_misses_its_gate(field):
    with pytest.raises(VerificationError, match="nan"):
        check("x", "int4", "embed", figures(**{field: float("nan")}))


def test_every_comparison_and_precision_has_a_gate_and_coarser_ones_are_wider():
    assert tuple(STORED_AS) == DTYPES
    for finer, coarser in itertools.pairwise(STORED_AS.values()):
        assert set(finer.gates) == set(coarser.gates) == {"embed", "score", "classify"}
        for comparison in finer.gates:
            for field in Gate.__struct_fields__:
                a, b = (getattr(stored.gates[comparison], field) for stored in (finer, coarser))
                assert a is None or (a <= b if field.endswith(("loss", "diff")) else a >= b)


def test_rows_of_zeros_are_alike_and_cosines_stay_below_one():
    rows = np.array([[0, 0], [3, 4], [1, 0]], dtype=np.float32)
    other = np.array([[0, 0], [6, 8], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosines(rows, other), [1.0, 1.0, 0.0])


def test_an_export_records_its_figures_beside_report_and_card(tiny_bert, tmp_path):
    bundle = export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    manifest = load_manifest(bundle)
    measured = manifest.variants["fp32"].fidelity.end_to_end
    assert measured.reference == "torch"
    assert measured.num_compared == 32
    assert measured.cosine_min >= 0.999999
    assert measured.num_documents == 32 < QUICK_DOCUMENTS  # for there is no other variant
    assert measured.batch_invariance == "exact"
    assert {"report.html", "README.md"} <= set(manifest.files)
    assert f"{measured.ndcg_10:.4f}" in (bundle / "report.html").read_text("utf-8")
    assert manifest.fingerprint == fingerprint(manifest)
    check_files(open_bundle(bundle))


def test_a_missed_gate_fails_the_export_and_leaves_nothing(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setitem(STORED_AS["float32"].gates, "embed", Gate(cosine_mean=1.5))
    with pytest.raises(VerificationError, match=r"mean end-to-end cosine 1\.00000, at least 1\.5 expected"):
        export(ExportSpec(model=str(tiny_bert), output=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
