"""config_sentence_transformers.json: each key is read, known to change no number, or refused by name."""

from __future__ import annotations

import pytest
from tests.checkpoints import make
from tests.checkpoints.saving import edit_json
from tests.export import tiny_kinds
from tests.export.tiny import make_bert, write_json
from tests.installed import generation

from embedge.errors import ExportError
from embedge_export.source.generations import KNOWN
from embedge_export.source.read import open_checkpoint
from embedge_export.source.repository import read_json
from embedge_export.source.stated import _CUTS, _TYPES, IGNORED, STATED
from embedge_export.spec import ExportSpec


def read(folder, **options):
    return open_checkpoint(ExportSpec(model=str(folder), **options)).checkpoint


@pytest.fixture
def bert(tmp_path):
    make_bert(tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"swirl": 3}, r"states swirl \(3\), which embedge does not know; .*--ignore-key swirl"),
        ({"model_type": "Swirl"}, r"states model_type 'Swirl', which embedge does not know; expected one of Sent"),
        ({"model_type": 3}, r"model_type in .* is 3; expected a text"),
        ({"__version__": "6.0"}, r"__version__ in .* is '6.0'; expected an object"),
        ({"__version__": {"sentence_transformers": "7.1.0"}}, r"was saved by sentence_transformers 7.1.0 \(__ver"),
        ({"__version__": {"transformers": "6.0.0.dev0"}}, r"was saved by transformers 6.0.0.dev0"),
        ({"prompts": ["query: "]}, r"prompts in .*; expected an object"),
        ({"prompts": {"query": 1}}, r"prompts in .*; expected an object whose values are texts"),
        ({"default_prompt_name": 1}, r"default_prompt_name in .* is 1; expected a text"),
        ({"similarity_fn_name": 1}, r"similarity_fn_name in .* is 1; expected a text"),
        ({"similarity_fn_name": "maxsim"}, r"'maxsim' is not known for a model of one row for each text"),
        ({"similarity_fn_name": "dot_product"}, r"'dot_product' is not known"),
        ({"truncate_dim": 0}, r"truncate_dim in .* is 0; expected a whole number from 1"),
        ({"truncate_dim": "8"}, r"truncate_dim in .* is '8'"),
        ({"max_active_dims": 8}, r"states max_active_dims 8, and a bundle keeps every term; expected none"),
        ({"model_type": "CrossEncoder"}, r"model_type 'CrossEncoder', and modules.json is that of a model for embed"),
        ({"model_type": "SparseEncoder"}, r"model_type 'SparseEncoder', .*expected sparse"),
        ({"model_type": "MultiVectorEncoder"}, r"model_type 'MultiVectorEncoder', .*expected late_interaction"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(bert, stated, message):
    write_json(bert / STATED, stated)
    with pytest.raises(ExportError, match=message):
        read(bert)


@pytest.mark.parametrize(
    ("make_kind", "model_type"),
    [
        (tiny_kinds.splade, "SentenceTransformer"),
        (tiny_kinds.splade, "CrossEncoder"),
        (tiny_kinds.pylate, "SparseEncoder"),
        (tiny_kinds.pylate, "CrossEncoder"),
        (tiny_kinds.static, "CrossEncoder"),
    ],
)
def test_a_class_that_its_modules_contradict_is_refused(tmp_path, make_kind, model_type):
    folder = make_kind(tmp_path / "m")
    write_json(folder / STATED, read_json(folder, STATED) | {"model_type": model_type})
    with pytest.raises(
        ExportError, match=rf"model_type '{model_type}', and modules.json is that of a model for"
    ):
        read(folder)
    assert read(folder, ignore_keys=("model_type",)).kind


def test_null_says_nothing(bert):
    write_json(bert / STATED, dict.fromkeys((*_TYPES, *IGNORED, _CUTS, "swirl")))
    assert read(bert).similarity == "cosine"
    write_json(bert / STATED, {"prompts": {"query": None, "document": "d: "}})
    assert read(bert).prompts == {"query": "", "document": "d: "}


@pytest.mark.parametrize("key", ["__version__", "model_type", "swirl", "max_active_dims"])
def test_a_key_that_the_caller_answers_for_is_passed_over(bert, key):
    value = {"__version__": {"transformers": "99"}, "model_type": "CrossEncoder"}.get(key, 3)
    write_json(bert / STATED, {key: value})
    assert read(bert, ignore_keys=(key,)).kind == "embedding"


@pytest.mark.parametrize(("key", "value"), [("default_prompt_name", "query"), ("truncate_dim", 8)])
def test_what_the_library_reads_beside_modules_alone(bert, key, value):
    write_json(bert / STATED, {"prompts": {"query": "q: "}, key: value})
    assert getattr(read(bert), "dimensions" if key == "truncate_dim" else key) == value
    (bert / "modules.json").unlink()
    with pytest.raises(ExportError, match=rf"states {key} {value!r}, and there is no modules.json"):
        read(bert, pooling=("MEAN",))
    assert read(bert, pooling=("MEAN",), ignore_keys=(key,)).default_prompt_name is None


def test_a_later_generation_of_transformers_is_refused(bert):
    edit_json(bert / "config.json", transformers_version="6.1.0")
    with pytest.raises(
        ExportError, match=r"config.json was saved by transformers 6.1.0 \(transformers_version\)"
    ):
        read(bert)
    assert read(bert, ignore_keys=("transformers_version",)).kind == "embedding"


def test_the_installed_libraries_are_known():
    for library, newest in KNOWN.items():
        assert generation(library.replace("_", "-")) <= newest


CLASSES = {
    "SentenceTransformer": ("bert-st", {"truncate_dim": 8, "similarity_fn_name": "euclidean"}),
    "CrossEncoder": ("cross-encoder-bert-1", {"keep_in_fp32_modules": ["classifier"]}),
    "SparseEncoder": ("splade", {"max_active_dims": 4}),
    "MultiVectorEncoder": ("colbert", {}),
}


@pytest.mark.parametrize("name", CLASSES)
def test_every_key_that_the_library_writes_is_known(tmp_path, name):
    import sentence_transformers

    made, options = CLASSES[name]
    folder = make(made, tmp_path / "m")
    library = getattr(sentence_transformers, name, None)
    if library is None:
        pytest.skip(f"this sentence-transformers has no {name}")
    model = library(str(folder), device="cpu")
    for option, value in options.items():
        setattr(model, option, value)
    written = model._get_model_config()
    assert set(written) <= {*_TYPES, *IGNORED, _CUTS}
    assert written["model_type"] == name
