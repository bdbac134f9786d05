"""Causal rerankers and late interaction: what their files say, and the token ids that their words stand for."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge.manifest import LateInteractionSpec, TemplateSpec
from embedge_export.source.checkpoint import Checkpoint, LateSettings, ScoreTokens
from embedge_export.source.fields import some_text, some_texts, whole
from embedge_export.source.modules import Modules
from embedge_export.source.repository import read_json
from embedge_export.spec import ExportSpec

COLBERT_METADATA = "artifact.metadata"
Options = dict[str, bool | int | str]
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

_STATED = "config_sentence_transformers.json"
_QUERY, _DOCUMENT, _INSTRUCTION = "\ue000query\ue000", "\ue000document\ue000", "\ue000instruction\ue000"
_MARKS = {_QUERY: "query", _DOCUMENT: "document", _INSTRUCTION: "instruction"}


def read_score_tokens(spec: ExportSpec, modules: Modules | None) -> ScoreTokens:
    """Which tokens a causal reranker compares: the caller's, the LogitScore module's, else yes and no."""
    if spec.yes_token is not None:
        return ScoreTokens(yes=spec.yes_token, no=spec.no_token)
    config = modules.logit_score if modules else None
    if config:
        if "true_token_id" not in config:
            raise ExportError(
                "the LogitScore module states no true_token_id; expected the id of the token that means yes"
            )
        no = config.get("false_token_id")
        file = "the LogitScore module's config.json"
        return ScoreTokens(
            yes=whole(config["true_token_id"], "true_token_id", file, least=0),
            no=None if no is None else whole(no, "false_token_id", file, least=0),
        )
    return ScoreTokens(yes="yes", no="no")


def read_late_settings(folder: Path, stated: dict[str, Any]) -> LateSettings:
    """Read PyLate's settings, or those of the original ColBERT."""
    path = folder / COLBERT_METADATA
    if path.is_file():
        metadata = read_json(folder, COLBERT_METADATA)
        return LateSettings(
            query_marker=some_text(metadata.get("query_token_id", "[unused0]"), "query_token_id", path.name),
            document_marker=some_text(metadata.get("doc_token_id", "[unused1]"), "doc_token_id", path.name),
            query_len=whole(metadata.get("query_maxlen", 32), "query_maxlen", path.name),
            document_len=whole(metadata.get("doc_maxlen", 180), "doc_maxlen", path.name),
            expand_query=True,
            attend_to_expansion=bool(metadata.get("attend_to_mask_tokens", False)),
            skip_words=tuple(string.punctuation) if metadata.get("mask_punctuation", True) else (),
        )
    skip_words = stated.get("skiplist_words")
    if skip_words is not None:
        skip_words = some_texts(skip_words, "skiplist_words", _STATED)
    return LateSettings(
        query_marker=some_text(stated.get("query_prefix", "[Q] "), "query_prefix", _STATED),
        document_marker=some_text(stated.get("document_prefix", "[D] "), "document_prefix", _STATED),
        query_len=whole(stated.get("query_length") or 32, "query_length", _STATED),
        document_len=whole(stated.get("document_length") or 180, "document_length", _STATED),
        expand_query=bool(stated.get("do_query_expansion", True)),
        attend_to_expansion=bool(stated.get("attend_to_expansion_tokens", False)),
        skip_words=tuple(string.punctuation if skip_words is None else skip_words),
    )


def resolve_tokens(checkpoint: Checkpoint, tokenizer: Any, spec: ExportSpec) -> Checkpoint:
    """Turn the words of a checkpoint's settings into token ids.

    Raises:
        ExportError: a word is not one token of the vocabulary.
    """
    replace = msgspec.structs.replace
    if checkpoint.step_tag is not None and checkpoint.pooling is not None:
        tag = token_id(tokenizer, checkpoint.step_tag)
        return replace(checkpoint, pooling=replace(checkpoint.pooling, step_tag_id=tag))
    if checkpoint.late is not None:
        return replace(checkpoint, late_interaction=_late_interaction(checkpoint.late, tokenizer))
    if checkpoint.score_tokens is not None:
        tokens = checkpoint.score_tokens
        words = [tokens.yes] if tokens.no is None else [tokens.yes, tokens.no]
        stated = spec.instruction or checkpoint.prompts.get(checkpoint.default_prompt_name or "")
        template = (
            QWEN3_RERANKER
            if isinstance(tokens.yes, str)
            else _chat_template(tokenizer, checkpoint.template_options, stated)
        )
        if stated is not None:
            template = replace(template, instruction=stated)
        return replace(
            checkpoint, score_ids=tuple(token_id(tokenizer, word) for word in words), template=template
        )
    return checkpoint


def token_id(tokenizer: Any, token: int | str) -> int:
    """Id of a single token, given as id or text.

    Raises:
        ExportError: the text is several tokens, or the id lies outside of the vocabulary.
    """
    if isinstance(token, int):
        if not 0 <= token < len(tokenizer):
            raise ExportError(
                f"token id {token} lies outside of the vocabulary; expected 0 to {len(tokenizer) - 1}"
            )
        return token
    known = tokenizer.get_vocab().get(token)
    ids = [known] if known is not None else tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ExportError(
            f"{token!r} is {len(ids)} tokens of this vocabulary or unknown to it; expected a single token. "
            "Name another one."
        )
    return int(ids[0])


def _late_interaction(late: LateSettings, tokenizer: Any) -> LateInteractionSpec:
    def marker(text: str | None) -> int | None:
        return token_id(tokenizer, text) if text else None

    if late.expand_query and tokenizer.mask_token_id is None:
        raise ExportError(
            "queries are to be expanded with the mask token, and the tokenizer has none; expected mask_token in "
            "tokenizer_config.json, or do_query_expansion false in config_sentence_transformers.json"
        )
    vocabulary = tokenizer.get_vocab()
    return LateInteractionSpec(
        query_len=late.query_len,
        document_len=late.document_len,
        query_marker_id=marker(late.query_marker),
        document_marker_id=marker(late.document_marker),
        expand_query=late.expand_query,
        expansion_token_id=tokenizer.mask_token_id if late.expand_query else None,
        attend_to_expansion=late.attend_to_expansion,
        # a word outside of the vocabulary can never be met
        skip_token_ids=tuple(sorted({vocabulary[word] for word in late.skip_words if word in vocabulary})),
    )


def _chat_template(tokenizer: Any, options: Options, instruction: str | None) -> TemplateSpec:
    """Split the chat template of a sentence-transformers reranker around the places where texts go.

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


def _render(tokenizer: Any, options: Options, instruction: str | None = None) -> str:
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
    spans = [(place, place + len(mark)) for mark in _MARKS if (place := text.find(mark)) >= 0]
    start, end = min(span[0] for span in spans), max(span[1] for span in spans)
    body = text[start:end]
    for mark, field in _MARKS.items():
        body = body.replace(mark, f"{{{field}}}")
    return TemplateSpec(prefix=text[:start], body=body, suffix=text[end:])
