"""PoolingParams: validation at construction, verify's order and messages, round trips."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from embedge import ModelConfig, ParamsError, PoolerConfig, PoolingParams, RequestOutputKind

ALL_FIELDS = (
    "truncate_prompt_tokens", "dimensions", "normalize", "use_activation", "step_tag_id", "returned_token_ids",
    "task", "requires_token_ids", "skip_reading_prefix_cache", "extra_kwargs", "output_kind",
)  # fmt: skip


def test_fields_and_order_are_vllms() -> None:
    assert PoolingParams.__struct_fields__ == ALL_FIELDS
    assert PoolingParams(-1, 128).dimensions == 128


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("truncate_prompt_tokens", -2),
        ("truncate_prompt_tokens", True),
        ("truncate_prompt_tokens", 1.0),
        ("dimensions", "256"),
        ("dimensions", True),
        ("dimensions", float("nan")),
        ("normalize", 1),
        ("use_activation", "yes"),
        ("step_tag_id", -1),
        ("step_tag_id", "x"),
        ("returned_token_ids", (1, 2)),
        ("returned_token_ids", [1, -2]),
        ("returned_token_ids", [True]),
        ("task", "generate"),
        ("requires_token_ids", None),
        ("skip_reading_prefix_cache", 0),
        ("extra_kwargs", [1]),
        ("extra_kwargs", {1: 2}),
        ("output_kind", RequestOutputKind.DELTA),
        ("output_kind", 7),
    ],
)
def test_a_wrong_value_raises_at_once_and_names_the_field(field, value) -> None:
    with pytest.raises(ParamsError, match=field) as caught:
        PoolingParams(**{field: value})
    assert isinstance(caught.value, ValueError)


def test_a_wrong_value_set_later_is_found_by_verify() -> None:
    params = PoolingParams()
    params.dimensions = "256"
    with pytest.raises(ParamsError, match="dimensions"):
        params.verify("embed")


def test_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="foo"):
        PoolingParams(foo=1)


def test_decoding_enforces_the_same_ranges() -> None:
    for data in (
        b'{"truncate_prompt_tokens":-2}',
        b'{"step_tag_id":-1}',
        b'{"returned_token_ids":[-1]}',
        b'{"output_kind":1}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(data, type=PoolingParams)


def test_clone_is_deep() -> None:
    params = PoolingParams(extra_kwargs={"a": [1]}, returned_token_ids=[1])
    clone = params.clone()
    clone.extra_kwargs["a"].append(2)
    clone.returned_token_ids.append(2)
    assert params == PoolingParams(extra_kwargs={"a": [1]}, returned_token_ids=[1])


def test_defaults_are_filled() -> None:
    embed = PoolingParams()
    embed.verify("embed")
    assert (embed.task, embed.normalize, embed.use_activation) == ("embed", True, None)
    classify = PoolingParams()
    classify.verify("classify")
    assert (classify.normalize, classify.use_activation) == (None, True)


def test_task_cannot_be_overwritten() -> None:
    with pytest.raises(ParamsError, match=r"^You cannot overwrite self.task='score' with task='classify'!$"):
        PoolingParams(task="score").verify("classify")


def test_unknown_task() -> None:
    params = PoolingParams()
    with pytest.raises(ParamsError, match=r"^Unknown pooling task: generate$"):
        params.verify("generate")
    assert params == PoolingParams()
    with pytest.raises(ParamsError, match="You cannot overwrite"):
        PoolingParams(task="embed").verify("generate")


def test_plugin_checks_nothing() -> None:
    params = PoolingParams(dimensions=-5, use_activation=True, step_tag_id=1)
    params.verify("plugin", ModelConfig())
    assert params.normalize is None


@pytest.mark.parametrize(
    ("task", "params"),
    [
        ("embed", {"use_activation": True}),
        ("token_embed", {"use_activation": False}),
        ("classify", {"normalize": True}),
        ("score", {"dimensions": 4}),
        ("token_classify", {"dimensions": 4, "normalize": False}),
    ],
)
def test_parameters_of_other_tasks_are_refused(task, params) -> None:
    with pytest.raises(ParamsError) as caught:
        PoolingParams(**params).verify(task)
    assert str(caught.value).startswith(f"Task {task} only supports [")
    assert str(caught.value).endswith(f"parameters, does not support {list(params)} parameters")


def test_step_fields_need_a_step_pooler() -> None:
    for task in ("embed", "classify", "score"):
        with pytest.raises(ParamsError, match="step_tag_id"):
            PoolingParams(step_tag_id=1).verify(task)
    for task in ("token_embed", "token_classify"):
        PoolingParams(step_tag_id=1).verify(task)
        config = ModelConfig(pooler_config=PoolerConfig(pooling_type="ALL"))
        with pytest.raises(ParamsError, match="returned_token_ids"):
            PoolingParams(returned_token_ids=[1]).verify(task, config)


def test_step_defaults_come_from_the_pooler_and_the_request_wins() -> None:
    config = ModelConfig(
        pooler_config=PoolerConfig(pooling_type="STEP", step_tag_id=7, returned_token_ids=[1, 2])
    )
    params = PoolingParams(step_tag_id=9)
    params.verify("token_classify", config)
    assert (params.step_tag_id, params.returned_token_ids) == (9, [1, 2])


def test_every_default_of_a_pooler_is_taken_by_the_tasks_that_it_is_valid_for() -> None:
    pooler = PoolerConfig(pooling_type="CLS", normalize=False, dimensions=64, use_activation=False)
    config = ModelConfig(pooler_config=pooler, is_matryoshka=True, embedding_size=384)
    for task in ("embed", "token_embed"):
        params = PoolingParams()
        params.verify(task, config)
        assert params == PoolingParams(task=task, normalize=False, dimensions=64)
    for task in ("classify", "score", "token_classify"):
        params = PoolingParams()
        params.verify(task, config)
        assert params == PoolingParams(task=task, use_activation=False)


def test_a_model_config_may_lack_attributes() -> None:
    params = PoolingParams()
    params.verify("embed", SimpleNamespace())
    assert params.normalize is True
    with pytest.raises(ParamsError, match='Model "None" does not support matryoshka'):
        PoolingParams(dimensions=8).verify("embed", SimpleNamespace())
    free = SimpleNamespace(is_matryoshka=True, pooler_config=None)
    PoolingParams(dimensions=10**6).verify("token_embed", free)


def test_what_is_wrong_is_refused_in_the_order_of_the_steps() -> None:
    config = ModelConfig(pooler_config=PoolerConfig(pooling_type="CLS"))
    wrong = {"task": "classify", "step_tag_id": 1, "dimensions": 8, "use_activation": True}
    for field, message in (
        ("task", "You cannot overwrite"),
        ("step_tag_id", r"does not support \['step_tag_id'\]"),
        ("dimensions", "does not support matryoshka"),
        ("use_activation", r"does not support \['use_activation'\]"),
    ):
        with pytest.raises(ParamsError, match=message):
            PoolingParams(**wrong).verify("embed", config)
        del wrong[field]
    PoolingParams(**wrong).verify("embed", config)


def test_pooler_config_gives_defaults_and_the_request_wins() -> None:
    config = SimpleNamespace(pooler_config=SimpleNamespace(normalize=False, pooling_type="MEAN"))
    params = PoolingParams()
    params.verify("embed", config)
    assert params.normalize is False
    params = PoolingParams(normalize=True)
    params.verify("embed", config)
    assert params.normalize is True


MATRYOSHKA = ModelConfig(
    is_matryoshka=True, matryoshka_dimensions=[64, 128], served_model_name="m", embedding_size=384
)


@pytest.mark.parametrize(
    ("config", "dimensions", "message"),
    [
        (ModelConfig(served_model_name="m"), 64, 'Model "m" does not support matryoshka representation'),
        (MATRYOSHKA, 65, r'Model "m" only supports \[64, 128\] matryoshka dimensions'),
        (ModelConfig(is_matryoshka=True), 0, "Dimensions must be greater than 0"),
        (ModelConfig(is_matryoshka=True, embedding_size=384), 385, "dimensions=385 is more than the 384"),
    ],
)
def test_dimensions(config, dimensions, message) -> None:
    with pytest.raises(ParamsError, match=message):
        PoolingParams(dimensions=dimensions).verify("embed", config)


def test_dimensions_without_a_model_config_pass() -> None:
    PoolingParams(dimensions=12345).verify("embed")
    PoolingParams(dimensions=128).verify("token_embed", MATRYOSHKA)


@pytest.mark.parametrize(
    "fields",
    [
        {"pooling_type": "FIRST"},
        {"dimensions": 0},
        {"logit_bias": float("inf")},
        {"logit_bias": "1"},
        {"normalize": 0},
    ],
)
def test_pooler_config_validates(fields) -> None:
    with pytest.raises(ParamsError, match=next(iter(fields))):
        PoolerConfig(**fields)
