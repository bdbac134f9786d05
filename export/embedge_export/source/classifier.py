"""What the logits of a classifier or reranker mean: labels, problem type and activations from the config."""

from __future__ import annotations

import math
from typing import Any, cast, get_args

from embedge.errors import ExportError
from embedge.manifest import HeadSpec, ProblemType
from embedge.types import Activation
from embedge_export.source.fields import some_object
from embedge_export.spec import ExportSpec

_ACTIVATIONS: dict[str, Activation] = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}


def read_head(spec: ExportSpec, raw: dict[str, Any], stated: dict[str, Any]) -> HeadSpec:
    """Describe a classifier's logits.

    Args:
        spec: the caller's labels.
        raw: config.json.
        stated: config_sentence_transformers.json.

    Raises:
        ExportError: labels are missing or do not fit, or an activation is not one that the SDK has.
    """
    labels = _labels(spec, raw)
    problem_type = raw.get("problem_type")
    if problem_type is not None and problem_type not in get_args(ProblemType):
        raise ExportError(
            f"problem_type {problem_type!r} in config.json is not known; expected one of "
            f"{', '.join(get_args(ProblemType))}"
        )
    activation = _default_activation(problem_type, len(labels))
    bias = raw.get("logit_bias")
    return HeadSpec(
        labels=labels,
        problem_type=cast("ProblemType | None", problem_type),
        activation=activation,
        score_activation=score_activation(raw, stated) or activation,
        logit_bias=None if bias is None else _number(bias),
    )


def score_activation(raw: dict[str, Any], stated: dict[str, Any]) -> Activation | None:
    """The activation that sentence-transformers applies to scores, where the checkpoint names one.

    Raises:
        ExportError: it lies outside of torch.nn.modules, or is not one that the SDK has.
    """
    nested = some_object(raw.get("sentence_transformers"), "sentence_transformers", "config.json")
    for name in (
        stated.get("activation_fn"),
        nested.get("activation_fn"),
        raw.get("sbert_ce_default_activation_function"),
    ):
        if name is None:
            continue
        activation = _ACTIVATIONS.get(str(name).rsplit(".", 1)[-1])
        if activation is None or not str(name).startswith(("torch.nn.modules.", "torch.nn.")):
            raise ExportError(
                f"activation {name!r} of the scores is not one that embedge knows; expected torch.nn.modules' "
                f"{', '.join(_ACTIVATIONS)}. Set activation_fn in the checkpoint's config."
            )
        return activation
    return None


def _labels(spec: ExportSpec, raw: dict[str, Any]) -> tuple[str, ...]:
    stated = raw.get("id2label")
    if spec.labels:
        if stated and len(stated) != len(spec.labels):
            raise ExportError(
                f"{len(spec.labels)} labels are given, the checkpoint has {len(stated)}; expected one for each logit"
            )
        return spec.labels
    if not isinstance(stated, dict) or not stated:
        raise ExportError(
            "labels are missing: config.json has no id2label; expected a name for each logit. "
            "Add it to config.json, or pass --labels A,B"
        )
    by_index = {int(index): str(label) for index, label in stated.items() if str(index).isdigit()}
    if sorted(by_index) != list(range(len(stated))):
        raise ExportError(
            f"id2label in config.json has the keys {', '.join(map(str, stated))}; expected 0 to {len(stated) - 1}"
        )
    return tuple(by_index[index] for index in range(len(by_index)))


def _number(bias: Any) -> float:
    if isinstance(bias, bool) or not isinstance(bias, (int, float)) or not math.isfinite(bias):
        raise ExportError(
            f"logit_bias in config.json is {bias!r}; expected a finite number. Correct the file."
        )
    return float(bias)


def _default_activation(problem_type: str | None, num_labels: int) -> Activation:
    if problem_type == "regression":
        return "identity"
    if problem_type == "multi_label_classification" or num_labels == 1:
        return "sigmoid"
    return "softmax"
