"""What is decided at load or per call, against the same reference libraries: pooling, limits, windows, truncate_dim."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.checkpoints import make
from tests.checkpoints.reference import answers
from tests.checkpoints.saving import edit_json
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import ExportError, ParamsError, PoolerConfig, PoolingParams
from embedge.verify import verify
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

ATOL = 1e-5
RAW = PoolingParams(normalize=False)
# all of them hold the same weights
MODES = {
    "pool-cls": "CLS",
    "pool-max": "MAX",
    "pool-mean-sqrt": "MEAN_SQRT_LEN",
    "pool-weightedmean": "WEIGHTEDMEAN",
    "pool-lasttoken": "LAST",
}


@pytest.mark.parametrize("name", MODES)
def test_a_pooling_chosen_at_load_is_computed_from_hidden_states(exported, name) -> None:
    """The numpy copy of the formula, on a bundle whose graph has another pooling."""
    checkpoint, bundle = exported(name)
    expected = np.stack(answers(name, checkpoint, TEXTS))
    _, other = exported("pool-concat")
    with load(other, pooler_config=PoolerConfig(pooling_type=MODES[name])) as model:
        assert_allclose(model.embed(TEXTS, pooling_params=RAW).numpy(), expected, atol=ATOL, rtol=0)
    with load(bundle) as model:
        assert model.manifest.pooling.modes == (MODES[name],)


def test_dense_modules_follow_a_pooling_chosen_at_load(exported) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported("dense-tanh")
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    hidden = reference.encode(TEXTS, output_value="token_embeddings", batch_size=1)
    with torch.inference_mode():
        first = torch.stack([rows[0] for rows in hidden])
        expected = reference[2]({"sentence_embedding": first})["sentence_embedding"].numpy()
    with load(bundle, pooler_config=PoolerConfig(pooling_type="CLS")) as model:
        assert_allclose(model.embed(TEXTS).numpy(), expected, atol=ATOL, rtol=0)


def test_normalize_chosen_at_load_and_by_the_call(exported) -> None:
    checkpoint, bundle = exported("pool-cls")
    raw = np.stack(answers("pool-cls", checkpoint, TEXTS))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    with load(bundle, pooler_config=PoolerConfig(normalize=True)) as model:
        assert_allclose(model.embed(TEXTS).numpy(), unit, atol=ATOL, rtol=0)
        assert_allclose(model.embed(TEXTS, pooling_params=RAW).numpy(), raw, atol=ATOL, rtol=0)
    with load(bundle) as model:
        params = [PoolingParams(normalize=i % 2 == 0) for i in range(len(TEXTS))]
        mixed = model.embed(TEXTS, pooling_params=params).numpy()
        assert_allclose(mixed[::2], unit[::2], atol=ATOL, rtol=0)
        assert_allclose(mixed[1::2], raw[1::2], atol=ATOL, rtol=0)


def test_each_source_of_a_default_gives_way_to_the_next(exported) -> None:
    """Architecture, sentence-transformers' files, export flags, load arguments, request."""
    rows = {
        name: np.stack(answers(name, exported(name)[0], TEXTS))
        for name in ("pool-cls", "pool-max", "pool-lasttoken")
    }
    plain, plain_bundle = exported("bert")
    first = np.stack([row[0] for row in answers("bert", plain, TEXTS)])
    with load(plain_bundle) as model:
        assert model.manifest.pooling.modes == ("CLS",)
        assert_allclose(
            model.embed(TEXTS).numpy(),
            first / np.linalg.norm(first, axis=1, keepdims=True),
            atol=ATOL,
            rtol=0,
        )
    with load(exported("pool-max")[1]) as model:
        assert_allclose(model.embed(TEXTS).numpy(), rows["pool-max"], atol=ATOL, rtol=0)
    _, flagged = exported("pool-max", pooling=("LAST",), normalize=True, max_seq_len=100)
    last = rows["pool-lasttoken"]
    fits = [len(text.split()) < 20 and len(text) < 90 for text in TEXTS]
    assert sum(fits) > 20
    with load(flagged) as model:
        assert model.info.max_seq_len == 100
        unit = last / np.linalg.norm(last, axis=1, keepdims=True)
        assert_allclose(model.embed(TEXTS).numpy()[fits], unit[fits], atol=ATOL, rtol=0)
    pooler = PoolerConfig(pooling_type="CLS", normalize=False)
    with load(flagged, pooler_config=pooler) as model:
        assert_allclose(model.embed(TEXTS).numpy()[fits], rows["pool-cls"][fits], atol=ATOL, rtol=0)
        unit = rows["pool-cls"] / np.linalg.norm(rows["pool-cls"], axis=1, keepdims=True)
        asked = model.embed(TEXTS, pooling_params=PoolingParams(normalize=True)).numpy()
        assert_allclose(asked[fits], unit[fits], atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", ["pool-mean-old", "qwen3-embedding"])
def test_texts_are_cut_where_sentence_transformers_cuts_them(exported, name) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint, bundle = exported(name)
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    reference.max_seq_length = 24
    with load(bundle, max_model_len=24) as model:
        outputs = model.embed(TEXTS)
    assert sum(output.num_truncated_tokens > 0 for output in outputs) > 20
    assert_allclose(outputs.numpy(), reference.encode(TEXTS), atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", ["cross-encoder-bert-1", "roberta-pair"])
def test_pairs_are_cut_where_cross_encoders_cut_them(exported, name) -> None:
    from sentence_transformers import CrossEncoder

    checkpoint, bundle = exported(name)
    expected = CrossEncoder(str(checkpoint), device="cpu", max_length=24).predict(PAIRS)
    queries, documents = map(list, zip(*PAIRS, strict=True))
    with load(bundle, max_model_len=24) as model:
        outputs = model.score(queries, documents)
    cut = [output for output in outputs if output.num_truncated_tokens]
    assert len(cut) > 20
    assert all(
        o.num_truncated_query_tokens + o.num_truncated_document_tokens == o.num_truncated_tokens for o in cut
    )
    assert any(output.num_truncated_query_tokens for output in cut)
    assert_allclose(outputs.numpy(), expected, atol=1e-6, rtol=0)


def test_a_joined_prompt_is_tokenised_as_it_stands(exported) -> None:
    checkpoint, bundle = exported("classifier-binary")
    joined = [f"{query} [SEP] {document}" for query, document in PAIRS]
    expected = np.stack(answers("classifier-binary", checkpoint, joined))
    with load(bundle) as model:
        outputs = model.classify(joined, pooling_params=PoolingParams(use_activation=False))
    assert_allclose(outputs.numpy(), expected, atol=ATOL, rtol=0)
    _, bundle = exported("cross-encoder-bert-1")
    with load(bundle) as model:
        outputs = model.score(prompts=joined)
        sep = model.manifest.tokenizer.suffix_ids[0]
        assert all(output.prompt_token_ids.count(sep) >= 2 for output in outputs)
        encoded = model.encode(joined, PoolingParams(task="score")).numpy()
        assert_allclose(outputs.numpy(), encoded[:, 0], atol=1e-6)


def test_truncate_dim_cuts_what_is_normalised_already(tmp_path) -> None:
    from sentence_transformers import SentenceTransformer

    checkpoint = make("pool-mean-old", tmp_path / "checkpoint")
    edit_json(checkpoint / "config_sentence_transformers.json", truncate_dim=12)
    bundle = export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))
    reference = SentenceTransformer(str(checkpoint), device="cpu")
    assert reference.truncate_dim == 12
    with load(bundle) as model:
        assert model.manifest.matryoshka == (12, 32)
        assert_allclose(model.embed(TEXTS).numpy(), reference.encode(TEXTS), atol=ATOL, rtol=0)
        unit = reference.encode(TEXTS, normalize_embeddings=True)
        cut = PoolingParams(dimensions=12)
        assert_allclose(model.embed(TEXTS, pooling_params=cut).numpy(), unit, atol=ATOL, rtol=0)
        whole = reference.encode(TEXTS, truncate_dim=32)
        assert_allclose(
            model.embed(TEXTS, pooling_params=PoolingParams(dimensions=32)).numpy(), whole, atol=ATOL, rtol=0
        )
        with pytest.raises(ParamsError, match=r"only supports \[12, 32\] matryoshka dimensions"):
            model.embed("a", pooling_params=PoolingParams(dimensions=8))
    (report,) = verify(bundle, device="cpu")
    assert report.passed


@pytest.mark.parametrize("wrong", [0, "8", True])
def test_a_truncate_dim_that_is_no_size_is_refused(tmp_path, wrong) -> None:
    checkpoint = make("pool-mean-old", tmp_path / "checkpoint")
    edit_json(checkpoint / "config_sentence_transformers.json", truncate_dim=wrong)
    with pytest.raises(
        ExportError, match=rf"truncate_dim in .* is {wrong!r}; expected a whole number from 1"
    ):
        export(ExportSpec(model=str(checkpoint), output=tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_long_text_is_the_weighted_mean_of_its_windows(exported) -> None:
    _, bundle = exported("pool-mean-old")
    text = " ".join(TEXTS)[:6000]
    with load(bundle) as model:
        room = model.info.max_seq_len - 2
        output = model.embed(text, long_text="mean")[0]
        assert output.num_truncated_tokens == 0
        first, *content, last = output.prompt_token_ids
        parts = [content[i : i + room] for i in range(0, len(content), room)]
        rows = model.embed([[first, *part, last] for part in parts], pooling_params=RAW).numpy()
        mean = np.average(rows, axis=0, weights=[len(part) for part in parts])
        assert len(parts) > 3
        assert len(parts[-1]) < room
        assert_allclose(model.embed(text, long_text="mean", pooling_params=RAW).numpy()[0], mean, atol=1e-6)
        assert_allclose(output.outputs.data, mean / np.linalg.norm(mean), atol=1e-6)
        assert_allclose(
            model.embed(TEXTS[:9], long_text="mean").numpy(), model.embed(TEXTS[:9]).numpy(), atol=1e-6
        )
        assert model.embed(text, long_text="truncate")[0].num_truncated_tokens == len(content) - room
        with pytest.raises(ValueError, match="the model's limit is"):
            model.embed(text, long_text="error")
