"""Classifiers of texts, tokens and steps: what their logits mean, by labels, problem type and activations."""

from __future__ import annotations

import math
from typing import Any, cast, get_args

import msgspec

from embedge.errors import ExportError
from embedge.manifest import HeadSpec, ProblemType, TemplateSpec
from embedge.types import Activation
from embedge_export.source.embedder import sequence_of
from embedge_export.source.fields import some_object
from embedge_export.source.files import Files
from embedge_export.source.modules import SCORES, Chain, chain_to, pooling_of, row_size
from embedge_export.source.tokens import token_id
from embedge_export.source.transformer import Transformer
from embedge_export.spec import ExportSpec

_ACTIVATIONS: dict[str, Activation] = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}


_ONE = "LABEL_0"
"""What transformers calls a score that has no name, and needs none."""


class Classifier(msgspec.Struct, frozen=True, kw_only=True, tag="classifier"):
    """One row of logits for each text or pair; a reranker where there is one label.

    Attributes:
        head, template: as in the manifest.
    """

    head: HeadSpec
    template: TemplateSpec | None = None


class PooledClassifier(msgspec.Struct, frozen=True, kw_only=True, tag="pooled_classifier"):
    """A CrossEncoder whose head is a sequence of modules.

    Attributes:
        head: as in the manifest.
        rows: modules that make the logits of the hidden states.
    """

    head: HeadSpec
    rows: Chain


class TokenClassifier(msgspec.Struct, frozen=True, kw_only=True, tag="token_classifier"):
    """One row of logits for each token.

    Attributes:
        head: as in the manifest.
    """

    head: HeadSpec


class Reward(msgspec.Struct, frozen=True, kw_only=True, tag="reward"):
    """A process reward model: one row of logits for each step.

    Attributes:
        head: as in the manifest.
        step_tag: text of the token at which a step is read; None where the caller names it at each call.
        step_tag_id: its id.
    """

    head: HeadSpec
    step_tag: str | None = None
    step_tag_id: int | None = None


def read_reward(files: Files, spec: ExportSpec, tokenizer: Any) -> Reward:
    """Read a process reward model.

    Raises:
        ExportError: as `read_head`, or the step tag is not one token of the vocabulary.
    """
    tag = spec.step_tag
    return Reward(
        head=read_head(files, spec),
        step_tag=tag,
        step_tag_id=None if tag is None else token_id(tokenizer, tag),
    )


def is_pooled_classifier(files: Files) -> bool:
    """Whether modules.json makes scores of the hidden states, for a CrossEncoder."""
    modules = files.modules
    if modules is None or files.stated.get("model_type", "CrossEncoder") != "CrossEncoder":
        return False
    return any(module.module_output_name == SCORES for module in modules.sequence)


def read_pooled_classifier(files: Files, spec: ExportSpec, transformer: Transformer) -> PooledClassifier:
    """Read a CrossEncoder whose head is a sequence of modules.

    Raises:
        ExportError: they do not pool, sizes do not chain, or labels or activation are not known.
    """
    sequence, given = sequence_of(files, transformer)
    rows = chain_to(SCORES, sequence, given) or ()
    pooling = pooling_of(rows)
    if pooling is None:
        raise ExportError(
            "modules.json makes scores of every token, without a Pooling module before; expected one row per text. "
            "Run the model with sentence-transformers, or export its rows of tokens with --task token_embed."
        )
    if files.stated.get("prompts") and not pooling.include_prompt:
        raise ExportError(
            "the Pooling module of a CrossEncoder leaves its prompt out (include_prompt false), which is not exported; "
            "expected include_prompt true. Run it with sentence-transformers, or leave its prompts out in a copy."
        )
    labels = _labels_of(row_size(rows, transformer.hidden_size), spec, files.config)
    # what CrossEncoder applies where its config names nothing
    activation = score_activation(files)
    if activation is None:
        activation = "sigmoid" if len(labels) == 1 else "identity"
    head = HeadSpec(labels=labels, activation=activation, score_activation=activation)
    return PooledClassifier(head=head, rows=rows)


def read_head(files: Files, spec: ExportSpec) -> HeadSpec:
    """Describe a classifier's logits.

    Args:
        files: the checkpoint's files.
        spec: the caller's labels.

    Raises:
        ExportError: labels are missing or do not fit, or an activation is not one that the SDK has.
    """
    raw = files.config
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
        score_activation=score_activation(files) or activation,
        logit_bias=None if bias is None else _number(bias),
    )


def score_activation(files: Files) -> Activation | None:
    """The activation that sentence-transformers applies to scores, where the checkpoint names one.

    It reads config_sentence_transformers.json beside a modules.json alone.

    Raises:
        ExportError: it lies outside of torch.nn.modules, or is not one that the SDK has.
    """
    raw, stated = files.config, files.stated if files.modules else {}
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
    if not stated and raw.get("num_labels") == 1:
        return (_ONE,)
    if not isinstance(stated, dict) or not stated:
        raise ExportError(
            "labels are missing: config.json has no id2label; expected a name for each logit. "
            "Add it to config.json, or pass --labels A,B"
        )
    if len(stated) == 1:
        ((index, name),) = stated.items()
        if str(index).isdigit():  # whichever index its one name has, transformers makes one logit of it
            return (_ONE if name is None else str(name),)
    by_index = {int(index): str(label) for index, label in stated.items() if str(index).isdigit()}
    if sorted(by_index) != list(range(len(stated))):
        raise ExportError(
            f"id2label in config.json has the keys {', '.join(map(str, stated))}; expected 0 to {len(stated) - 1}"
        )
    return tuple(by_index[index] for index in range(len(by_index)))


def _labels_of(count: int, spec: ExportSpec, raw: dict[str, Any]) -> tuple[str, ...]:
    """Names of a number of logits: config.json's are those of the transformer, and may be others."""
    if spec.labels and len(spec.labels) != count:
        raise ExportError(
            f"{len(spec.labels)} labels are given, the modules give {count} scores; expected one for each"
        )
    stated = raw.get("id2label")
    if spec.labels or (isinstance(stated, dict) and len(stated) == count):
        return _labels(spec, raw)
    return tuple(f"LABEL_{index}" for index in range(count))


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
