"""What a checkpoint's files state that does not go together, or goes otherwise in its library: refused by name."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.source.checkpoint import Checkpoint
from embedge_export.source.fields import positive
from embedge_export.source.files import Files
from embedge_export.source.kinds import Kind, What
from embedge_export.source.modules import in_words
from embedge_export.source.stated import STATED
from embedge_export.source.tokenizer import Tokenization
from embedge_export.spec import ExportSpec

_WITHOUT_LIMIT = 1_000_000
_SPEAKING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")

_TRANSFORMER_TASKS: dict[Kind, str] = {
    "classifier": "sequence-classification",
    "embedding": "feature-extraction",
    "late_interaction": "feature-extraction",
    "pooled_classifier": "feature-extraction",
    "sparse": "fill-mask",
}
"""What modules.json loads the transformer for."""


_KINDS: dict[str, tuple[Kind, ...]] = {
    "SentenceTransformer": ("embedding", "static"),
    "CrossEncoder": ("classifier", "pooled_classifier", "causal_reranker"),
    "SparseEncoder": ("sparse",),
    "MultiVectorEncoder": ("late_interaction",),
    "ColBERT": ("late_interaction",),
}
"""What the modules of a model_type make."""


def check_model_type(kind: Kind, files: Files, spec: ExportSpec) -> None:
    """Refuse modules that make something else than the class that config_sentence_transformers.json names.

    Raises:
        ExportError: they do, and the caller does not say what the checkpoint is.
    """
    stated = files.stated.get("model_type")
    if files.modules is None or stated is None or spec.task or spec.kind or spec.yes_token:
        return
    # a SentenceTransformer with PyLate's settings is one that PyLate saved
    if kind not in _KINDS[stated] and not (stated == "SentenceTransformer" and files.by_token):
        raise ExportError(
            f"{STATED} states model_type {stated!r}, and modules.json is that of a model for {kind}; expected "
            f"{' or '.join(_KINDS[stated])}. Restore both from the model's origin, or pass --ignore-key model_type to "
            "export what the modules make."
        )


_FLAGS: dict[str, tuple[Kind, ...]] = {
    "instruction": ("causal_reranker", "classifier"),
    "labels": ("classifier", "pooled_classifier", "reward", "token_classifier"),
    "matryoshka": ("embedding", "late_interaction", "sparse", "static"),
    "no_token": ("causal_reranker",),
    "normalize": ("embedding", "static"),
    "pooling": ("embedding", "pooled_classifier", "reward"),
    "step_tag": ("reward",),
    "tower": ("embedding", "sparse", "static"),
    "yes_token": ("causal_reranker",),
}
"""What the caller may say, and of which kinds of checkpoint."""


def check_flags(kind: Kind, files: Files, spec: ExportSpec) -> None:
    """Refuse what the caller says and nothing would heed.

    Raises:
        ExportError: it is about another kind of checkpoint.
    """
    architecture = (files.architectures or ("none",))[0]
    if spec.step_tag is not None and architecture.endswith(_SPEAKING):
        raise ExportError(
            f"--step-tag {spec.step_tag!r} asks {architecture} for its words at each step, which no bundle answers; "
            "expected a token classifier. Make one: ...ForTokenClassification of the same base, whose score.weight are "
            "the rows of lm_head.weight of those words, with a bias of 0 and the words as id2label."
        )
    for name, kinds in _FLAGS.items():
        value = getattr(spec, name)
        if value not in (None, ()) and kind not in kinds:
            raise _misplaced(name, value, f"a checkpoint of the kind {kind}", " or ".join(kinds))
    if spec.yes_token is not None and not architecture.endswith(_SPEAKING):
        raise _misplaced(
            "yes_token", spec.yes_token, architecture, "a language model, such as ...ForCausalLM"
        )


def check_instruction(what: What, spec: ExportSpec) -> None:
    """Refuse an instruction that no template takes.

    Raises:
        ExportError: there is one.
    """
    if spec.instruction and getattr(what, "template", None) is None:
        raise _misplaced("instruction", spec.instruction, "a classifier without a chat template", "one with")


def _misplaced(name: str, value: object, given: str, expected: str) -> ExportError:
    flag = f"--{name.replace('_', '-')}"
    return ExportError(f"{flag} {value!r} does not apply to {given}; expected {expected}. Leave out {flag}.")


def check_modules(kind: Kind, files: Files, spec: ExportSpec) -> None:
    """Refuse what sentence-transformers would do with the transformer and the bundle would not.

    Raises:
        ExportError: another class is loaded, modules stand after a head, or lengths go by the task.
    """
    modules, settings = files.modules, files.settings
    if modules is None or kind == "static":
        return
    wanted = _TRANSFORMER_TASKS.get(kind)
    if (
        wanted is not None
        and settings.transformer_task != wanted
        and spec.task is None
        and not spec.yes_token
    ):
        raise ExportError(
            f"{settings.file} states transformer_task {settings.transformer_task!r}, and modules.json is that of a "
            f"model for {wanted}; expected {wanted}. Restore both from the model's origin."
        )
    if kind in ("classifier", "causal_reranker") and modules.sequence:
        raise ExportError(
            f"modules.json has {in_words(modules.sequence[0])} after a transformer that gives logits; expected none. "
            "Save the model without it, or run it with sentence-transformers."
        )
    if modules.mask is not None and kind != "late_interaction":
        raise ExportError(
            f"modules.json has a MultiVectorMask module, and the rest is that of a model for {kind}; expected one for "
            "late interaction. Save the model without it, or run it with sentence-transformers."
        )
    for name in ("query_length", "document_length", "query_expansion"):
        if getattr(settings, name) is not None and modules.mask is None:
            raise ExportError(
                f"{settings.file} states {name}, so that queries and documents are cut apart, which is not exported "
                "from there yet; expected it in config_sentence_transformers.json. Please report this with the "
                "model's name."
            )


def check_sparse(files: Files, architecture: str) -> None:
    """Refuse `--kind sparse` for anything but a masked language model alone.

    Raises:
        ExportError: it is something else, or modules.json says otherwise.
    """
    if (files.modules is None and not architecture.endswith("ForMaskedLM")) or (
        files.modules is not None and files.modules.splade is None
    ):
        raise ExportError(
            f"kind 'sparse' does not fit {architecture or 'a checkpoint that names no architecture'}"
            f"{' with a modules.json that says otherwise' if files.modules else ''}; expected a masked language model "
            "alone. Leave out --kind."
        )


def check_types(files: Files, tokenizer: Any) -> None:
    """Refuse a tokenizer that gives the sides of a pair more types than the model has; the libraries fail, too."""
    known = positive(files.config.get("type_vocab_size"))
    given = 1 + max(tokenizer("a", "a").get("token_type_ids", [0]))
    if known is not None and given > known:
        raise ExportError(
            f"the tokenizer gives a pair tokens of {given} types, and config.json states type_vocab_size {known}; "
            'expected as many. Set "model_input_names": ["input_ids", "attention_mask"] in tokenizer_config.json if '
            "the model was trained without types."
        )


def check_room(tokenization: Tokenization) -> None:
    """Refuse a template that leaves no token of a text within the limit.

    Raises:
        ExportError: it takes as many tokens as there may be.
    """
    template, limit = tokenization.template, tokenization.max_seq_len
    if template is None:
        return
    empty = msgspec.structs.replace(tokenization, max_seq_len=_WITHOUT_LIMIT).encode("", "")
    fixed = len(empty["input_ids"])
    if fixed >= limit:
        raise ExportError(
            f"the template around a pair takes {fixed} tokens, and the limit is {limit}, which leaves no room for "
            "texts; expected a larger one. Pass --max-seq-len, or correct model_max_length in tokenizer_config.json."
        )


def check_prompts(checkpoint: Checkpoint, tokenization: Tokenization) -> None:
    """Refuse prompts that are left out of the pooling where texts are cut from their beginning.

    The library leaves as many of the first tokens out as the prompt has, which the cut has taken already.

    Raises:
        ExportError: the checkpoint states both.
    """
    pooling = checkpoint.pooling
    left = tokenization.spec.truncation_side == "left"
    if left and pooling is not None and not pooling.include_prompt and any(checkpoint.prompts.values()):
        raise ExportError(
            "the Pooling module leaves prompts out (include_prompt false), and the tokenizer cuts texts on the left, "
            "where their prompts are; expected one of the two. Set truncation_side to right in tokenizer_config.json, "
            "or include_prompt to true."
        )
