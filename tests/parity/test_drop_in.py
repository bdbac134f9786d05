"""The class for porting, asked the same as sentence-transformers' own, on MiniLM and on checkpoints of each kind."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.installed import SENTENCE_TRANSFORMERS_6

import embedge
from embedge import EdgeModel
from embedge.errors import ParamsError, PromptError, ShapeError
from embedge.integrations.sentence_transformers import SentenceTransformer
from embedge.testing import tiny_bundle

pytestmark = pytest.mark.skipif(
    not SENTENCE_TRANSFORMERS_6, reason="it has the methods of sentence-transformers 6"
)

TEXTS = [
    "How do I reset my password?",
    "Wie setze ich mein Passwort zurück?",
    "",
    "猫はソファで眠っている",
]
LONG = "The invoice is due on Friday. " * 90
CALLS = {
    "long": {"inputs": [TEXTS[0], LONG]},
    "plain": {},
    "tuple": {"inputs": tuple(TEXTS)},
    "array": {"inputs": np.array(TEXTS)},
    "one": {"inputs": TEXTS[0]},
    "one-int": {"inputs": TEXTS[0], "precision": "ubinary"},
    "prompt": {"prompt": "query: "},
    "both": {"prompt": "query: ", "prompt_name": "query"},
    "empty-prompt": {"prompt": ""},
    "named": {"prompt_name": "query"},
    "normal": {"normalize_embeddings": True},
    "cut": {"truncate_dim": 10},
    "cut-normal": {"truncate_dim": 10, "normalize_embeddings": True, "batch_size": 2},
    "uncut": {"truncate_dim": 4000},
    "int8": {"precision": "int8"},
    "uint8": {"precision": "uint8", "normalize_embeddings": True},
    "binary": {"precision": "binary", "truncate_dim": 13},
    "ubinary": {"precision": "ubinary"},
    "sided": {"task": "query"},
}
KINDS = ("default-prompt", "truncate-dim", "weightedmean-prompt", "normalize-dense")


def of_library(folder, **settings):
    from sentence_transformers import SentenceTransformer as Library

    return Library(str(folder), device="cpu", **settings)


def same(ours, theirs, packed: bool = False) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if not packed:
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)  # distances are up to 30
    elif len(ours.shape) == 2 and ours.dtype == theirs.dtype:
        # a component at the edge of a step may fall on either side
        assert (ours != theirs).mean() < 0.05


@pytest.fixture(scope="module", params=["minilm", *KINDS])
def both(request):
    """The library's model and ours."""
    if request.param == "minilm":
        folders = request.getfixturevalue("minilm_checkpoint"), request.getfixturevalue("minilm_bundle")
    else:
        folders = request.getfixturevalue("exported")(request.param)
    with EdgeModel(folders[1], variant="fp32", device="cpu") as model:
        yield of_library(folders[0]), SentenceTransformer(model)


@pytest.mark.parametrize("call", CALLS)
def test_encode(both, call) -> None:
    theirs, ours = both
    options = {"inputs": TEXTS, **CALLS[call]}
    same(ours.encode(**options), theirs.encode(**options), packed="precision" in options)


def test_sides_prompts_and_sizes(both) -> None:
    theirs, ours = both
    for options in ({}, {"prompt": "query: "}, {"prompt_name": "document"}, {"normalize_embeddings": True}):
        same(ours.encode_query(TEXTS, **options), theirs.encode_query(TEXTS, **options))
        same(ours.encode_document(TEXTS[0], **options), theirs.encode_document(TEXTS[0], **options))
    assert ours.prompts == theirs.prompts
    assert ours.default_prompt_name == theirs.default_prompt_name
    assert ours.max_seq_length == theirs.max_seq_length
    assert ours.truncate_dim == theirs.truncate_dim
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension()
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    same(ours.encode([]), theirs.encode([]))
    for mine, other in zip(
        ours.encode(TEXTS, output_value="token_embeddings"),
        theirs.encode(TEXTS, output_value="token_embeddings"),
        strict=True,
    ):
        same(mine, other)
    one = ours.encode(TEXTS[0], output_value="token_embeddings")
    same(one, theirs.encode(TEXTS[0], output_value="token_embeddings"))


def test_similarity(both) -> None:
    theirs, ours = both
    queries, documents = theirs.encode_query(TEXTS), theirs.encode_document(TEXTS)
    for name in ("dot", "euclidean", "manhattan", "cosine"):
        theirs.similarity_fn_name = ours.similarity_fn_name = name
        same(ours.similarity(queries, documents), theirs.similarity(queries, documents).numpy())
        same(ours.similarity(queries[0], documents), theirs.similarity(queries[0], documents).numpy())


def test_what_the_class_is_told(exported, minilm_checkpoint, minilm_bundle) -> None:
    settings = {
        "prompts": {"query": "ask: ", "web": "web: "},
        "default_prompt_name": "web",
        "similarity_fn_name": "dot",
        "truncate_dim": 7,
    }
    theirs = of_library(minilm_checkpoint, **settings)
    ours = SentenceTransformer(minilm_bundle, device="cpu", local_files_only=True, backend="onnx", **settings)
    theirs.max_seq_length = ours.max_seq_length = 12
    for asked in ("encode", "encode_query", "encode_document"):
        same(getattr(ours, asked)(TEXTS), getattr(theirs, asked)(TEXTS))
    assert ours.prompts == theirs.prompts
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == 7
    assert ours.device == str(theirs.device) == "cpu"
    same(
        ours.similarity(ours.encode(TEXTS), ours.encode(TEXTS)),
        theirs.similarity(*[theirs.encode(TEXTS)] * 2),
    )

    checkpoint, bundle = exported("truncate-dim")
    theirs, ours = of_library(checkpoint), SentenceTransformer(bundle)
    theirs.truncate_dim = ours.truncate_dim = None
    same(ours.encode(TEXTS), theirs.encode(TEXTS))


def test_every_argument_of_the_library_is_known() -> None:
    from sentence_transformers import SentenceTransformer as Library

    deprecated = {"use_auth_token"}
    for name in ("__init__", "encode"):
        there, here = (
            inspect.signature(getattr(kind, name)).parameters for kind in (Library, SentenceTransformer)
        )
        assert set(there) - set(here) <= deprecated | {"kwargs"}
        for parameter in set(there) & set(here) - {"model_name_or_path"}:
            assert here[parameter].default == there[parameter].default, parameter
        assert [each for each in there if each in here] == [each for each in here if each in there]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modules", []), ("cache_folder", "x"), ("trust_remote_code", True), ("revision", "main"), ("token", "t"),
        ("model_kwargs", {"torch_dtype": "float16"}), ("processor_kwargs", {}), ("config_kwargs", {}),
        ("model_card_data", {}), ("backend", "openvino"), ("similarity_fn_name", "maxsim"),
        ("default_prompt_name", "web"),
    ],
)  # fmt: skip
def test_what_the_class_does_not_take(tiny, name, value) -> None:
    with pytest.raises(ParamsError, match=value if name == "default_prompt_name" else name):
        SentenceTransformer(tiny, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("convert_to_numpy", False), ("convert_to_tensor", True), ("device", "cuda"), ("pool", {}), ("chunk_size", 5),
        ("output_value", None), ("precision", "float16"), ("task", "web"), ("batch_size", 0), ("prompt_name", "web"),
    ],
)  # fmt: skip
def test_what_a_call_does_not_take(tiny, name, value) -> None:
    with pytest.raises(ParamsError, match="web" if name == "prompt_name" else name):
        SentenceTransformer(tiny).encode(["the river"], **{name: value})


def test_bad_inputs(tiny) -> None:
    model = SentenceTransformer(tiny)
    with pytest.raises(PromptError, match="input 1 is a int"):
        model.encode(["the river", 7])
    with pytest.raises(ParamsError, match="single text"):
        model.encode(["the river"], precision="int8")
    with pytest.raises(ParamsError, match="max_seq_length=99"):
        model.max_seq_length = 99
    with pytest.raises(ShapeError):
        model.similarity(np.zeros((1, 3)), np.zeros((1, 4)))


def test_it_is_pickled_and_copied(tiny) -> None:
    model = SentenceTransformer(tiny, truncate_dim=5)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.encode(["the river"]), model.encode(["the river"]))
    assert SentenceTransformer(tiny).model is model.model  # loaded once
    assert embedge.EdgeModel is type(model.model)
