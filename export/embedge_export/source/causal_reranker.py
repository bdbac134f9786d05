"""Causal rerankers: the tokens that they answer with, and the template that a pair is put into."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import HeadSpec, TemplateSpec
from embedge_export.source.chat_template import read_chat, read_pair_template, renders_messages
from embedge_export.source.classifier import score_activation
from embedge_export.source.fields import whole
from embedge_export.source.files import Files
from embedge_export.source.tokens import token_id
from embedge_export.spec import ExportSpec

QWEN3_RERANKER = TemplateSpec(
    way="apart",
    prefix=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    ),
    body="<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
    suffix="<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    instruction="Given a web search query, retrieve relevant passages that answer the query",
)
"""Qwen3-Reranker's model card: its template and its code's way, for causal rerankers without a LogitScore module."""


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

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens whose logits are compared."""
        return (self.yes_id,) if self.no_id is None else (self.yes_id, self.no_id)


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
    activation = score_activation(files) or "sigmoid"
    yes, no = _answers(files, spec)
    if isinstance(yes, str):
        template = QWEN3_RERANKER
        if instruction is not None:
            template = msgspec.structs.replace(template, instruction=instruction)
    else:
        if not renders_messages(files, tokenizer) or not getattr(tokenizer, "chat_template", None):
            raise ExportError(
                "the checkpoint has a LogitScore module but no chat template, or no message form in "
                "sentence_bert_config.json that fills it in; expected both. For Qwen3-Reranker's own template, pass "
                "--yes-token yes --no-token no."
            )
        template = read_pair_template(read_chat(files, tokenizer), instruction)
        if spec.instruction and "{instruction}" not in (template.instructed_body or ""):
            raise ExportError(
                f"instruction {spec.instruction!r} is given, and the chat template shows no system message; "
                "expected none. Leave out --instruction."
            )
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
