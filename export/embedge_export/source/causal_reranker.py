"""Causal rerankers: the tokens that they answer with, and the template that a pair is put into."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import HeadSpec, TemplateSpec
from embedge_export.source.classifier import score_activation
from embedge_export.source.fields import whole
from embedge_export.source.files import Files
from embedge_export.source.tokens import token_id
from embedge_export.spec import ExportSpec

_Options = dict[str, bool | int | str]
QWEN3_RERANKER = TemplateSpec(
    prefix=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    ),
    body="<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
    suffix="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    instruction="Given a web search query, retrieve relevant passages that answer the query",
)
"""Template of Qwen3-Reranker's model card, for causal rerankers that bring no chat template of their own."""

_QUERY, _DOCUMENT, _INSTRUCTION = "\ue000query\ue000", "\ue000document\ue000", "\ue000instruction\ue000"
_MARKS = {_QUERY: "query", _DOCUMENT: "document", _INSTRUCTION: "instruction"}


class CausalReranker(msgspec.Struct, frozen=True, kw_only=True, tag="causal_reranker"):
    """A language model that is asked whether a document suits a query.

    Attributes:
        head, template: as in the manifest.
        yes_id: token whose logit speaks for the document.
        no_id: token whose logit speaks against it; None where the logit of `yes_id` alone is the score.
    """

    head: HeadSpec
    template: TemplateSpec
    yes_id: int
    no_id: int | None = None


def read_causal_reranker(
    files: Files, spec: ExportSpec, tokenizer: Any, instruction: str | None
) -> CausalReranker:
    """Read what a causal reranker compares and how it is asked.

    Args:
        files: the checkpoint's files.
        spec: tokens that the caller names.
        tokenizer: the checkpoint's own.
        instruction: that the caller or the checkpoint's default prompt states.

    Raises:
        ExportError: the settings or the chat template cannot be used, or a word is not one token of the vocabulary.
    """
    activation = score_activation(files.config, files.stated) or "sigmoid"
    yes, no = _answers(files, spec)
    options = files.settings.chat_template
    template = QWEN3_RERANKER if isinstance(yes, str) else _chat_template(tokenizer, options, instruction)
    if instruction is not None:
        template = msgspec.structs.replace(template, instruction=instruction)
    return CausalReranker(
        head=HeadSpec(labels=("relevance",), activation=activation, score_activation=activation),
        template=template,
        yes_id=token_id(tokenizer, yes),
        no_id=None if no is None else token_id(tokenizer, no),
    )


def _answers(files: Files, spec: ExportSpec) -> tuple[int | str, int | str | None]:
    """The two tokens as id or text: the caller's, the LogitScore module's, else yes and no."""
    if spec.yes_token is not None:
        return spec.yes_token, spec.no_token
    config = files.modules.logit_score if files.modules else None
    if not config:
        return "yes", "no"
    if "true_token_id" not in config:
        raise ExportError(
            "the LogitScore module states no true_token_id; expected the id of the token that means yes"
        )
    no = config.get("false_token_id")
    file = "the LogitScore module's config.json"
    return (
        whole(config["true_token_id"], "true_token_id", file, least=0),
        None if no is None else whole(no, "false_token_id", file, least=0),
    )


def _chat_template(tokenizer: Any, options: _Options, instruction: str | None) -> TemplateSpec:
    """Split the chat template of a sentence-transformers reranker around the texts that it shows.

    sentence-transformers fills it with the roles query and document, and system where there is an instruction;
    its own flag restore_suffix is no option of the template.
    """
    options = {name: value for name, value in options.items() if name != "restore_suffix"}
    plain = _render(tokenizer, options)
    instructed = _render(tokenizer, options, _INSTRUCTION)
    before, _, after = instructed.partition(_INSTRUCTION)
    if _INSTRUCTION in instructed and plain.startswith(before) and plain.endswith(after):
        default = plain[len(before) : len(plain) - len(after)]
        return msgspec.structs.replace(_split(instructed), instruction=default)
    return _split(plain if instruction is None else instructed)


def _render(tokenizer: Any, options: _Options, instruction: str | None = None) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ExportError(
            "the checkpoint has a LogitScore module but no chat template; expected one that shows a query and a "
            "document. For Qwen3-Reranker's own template, pass --yes-token yes --no-token no."
        )
    messages = [{"role": "query", "content": _QUERY}, {"role": "document", "content": _DOCUMENT}]
    if instruction is not None:
        messages.insert(0, {"role": "system", "content": instruction})
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception as error:  # jinja2 raises many classes, and templates raise their own
        raise ExportError(
            f"the chat template cannot be filled in with a query and a document: {error}. Check chat_template.jinja."
        ) from error
    if text.count(_QUERY) != 1 or text.count(_DOCUMENT) != 1:
        raise ExportError(
            "the chat template does not show the roles query and document once each; expected both of them. "
            "For Qwen3-Reranker's own template, pass --yes-token yes --no-token no."
        )
    return text


def _split(text: str) -> TemplateSpec:
    spans = [(start, start + len(mark)) for mark in _MARKS if (start := text.find(mark)) >= 0]
    start, end = min(span[0] for span in spans), max(span[1] for span in spans)
    body = text[start:end]
    for mark, field in _MARKS.items():
        body = body.replace(mark, f"{{{field}}}")
    return TemplateSpec(prefix=text[:start], body=body, suffix=text[end:])
