"""Queries and documents, and how they are compared, as sentence-transformers' own methods have it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.export.tiny import make_bert, write_json
from tests.generated.trial import quick

from embedge import EdgeModel
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

TEXTS = ["how do plants make food", "the capital of germany is berlin", "a"]
STATED = {
    "both": {
        "prompts": {"query": "how do ", "document": "the ", "passage": "my "},
        "similarity_fn_name": "dot",
    },
    # the library has a prompt named document in any case, so that it never takes this one
    "passage": {"prompts": {"query": "how do ", "passage": "my "}, "similarity_fn_name": "euclidean"},
    "default": {
        "prompts": {"task": "my "},
        "default_prompt_name": "task",
        "similarity_fn_name": "manhattan",
    },
    "none": {"similarity_fn_name": "cosine"},
}


@pytest.fixture(scope="module", params=STATED)
def asked(request, tmp_path_factory):
    """The library's model and the bundle."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp(request.param)
    make_bert(folder / "checkpoint")
    write_json(folder / "checkpoint" / "config_sentence_transformers.json", STATED[request.param])
    with quick():
        export(ExportSpec(model=str(folder / "checkpoint"), output=folder / "bundle"))
    library = SentenceTransformer(str(folder / "checkpoint"), device="cpu")
    with EdgeModel(folder / "bundle", device="cpu") as model:
        yield library, model


def test_each_side_is_the_librarys(asked) -> None:
    library, model = asked
    own = {"prompt": "light "}
    for options in ({}, own, *({"prompt_name": name} for name in model.manifest.prompts)):
        queries, documents = model.embed_query(TEXTS, **options), model.embed_document(TEXTS, **options)
        assert_allclose(queries.numpy(), library.encode_query(TEXTS, **options), atol=1e-5, rtol=0)
        assert_allclose(documents.numpy(), library.encode_document(TEXTS, **options), atol=1e-5, rtol=0)


def test_similarity_is_the_librarys(asked) -> None:
    library, model = asked
    assert model.manifest.similarity == library.similarity_fn_name
    rng = np.random.default_rng(3)
    first, second = (rng.normal(size=(count, 32)).astype(np.float32) for count in (40, 3))
    expected = library.similarity(first, second).numpy()
    actual = model.similarity(first, second)
    assert actual.dtype == np.float32
    assert_allclose(actual, expected, atol=1e-4, rtol=0)
    assert_allclose(model.similarity(first[0], second), expected[:1], atol=1e-4, rtol=0)
    rows = model.embed_query(TEXTS), model.embed_document(TEXTS)
    expected = library.similarity(library.encode_query(TEXTS), library.encode_document(TEXTS)).numpy()
    assert_allclose(model.similarity(*rows), expected, atol=1e-5, rtol=0)
    assert_allclose(model.similarity(list(rows[0]), rows[1].numpy()), expected, atol=1e-5, rtol=0)
    assert_allclose(model.similarity(rows[0][1], rows[1][2]), expected[1:2, 2:], atol=1e-5, rtol=0)


def test_tokens_are_the_librarys(asked) -> None:
    library, model = asked
    stated = library.prompts.get(library.default_prompt_name or "") or ""
    expected = library.tokenizer([stated + text for text in TEXTS])["input_ids"]
    found = model.tokenize(TEXTS)
    assert [each.token_ids for each in found] == expected
    assert [each.tokens for each in found] == [
        library.tokenizer.convert_ids_to_tokens(ids) for ids in expected
    ]
    assert model.count_tokens(TEXTS) == list(map(len, found)) == list(map(len, expected))
