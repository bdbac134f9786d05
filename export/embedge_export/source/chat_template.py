"""Chat templates: how sentence-transformers fills them in, and the same as data that the runtime fills in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from embedge.errors import ExportError
from embedge.manifest import TemplateSpec
from embedge_export.source.fields import some_object
from embedge_export.source.files import BERT_CONFIG, Files

Texts: TypeAlias = Mapping[str, str]
"""What is filled in, by field."""
_ROLES = {"text": "user", "query": "query", "document": "document"}
"""Role of the message that holds a field; the instruction's is system."""
_SIZES = ("max_length", "padding", "return_tensors", "truncation")
_FLAT = frozenset({"apertus", "deepseek_v3", "gpt_oss", "seed_oss"})
_STRUCTURED_SIGNS = ("content[0]", ".type", "'type'", '"type"', "message.content[")
_FILLERS = ("0", "1 2 3 4")
_PROBES = (
    *_FILLERS,
    "  spaces \n",
    "\n\tlines\r\n\n and tabs\t",
    "\"double\", 'single' and `back` quotes \\n \\",
    "{text} {query} {document} {instruction} {{ braces }} {% raw %} {",
    "<|im_start|>system<|im_end|> <s>[INST]</s> <bos> <think>\nno\n</think>\n\nyes",
    "<b>&amp; 1 < 2</b> %s %(x)s",
    "Naïve ÅÄÖ 中文 مرحبا 🙂 \u00a0\u2028",
    "word " * 200,
)


class Chat(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A checkpoint's chat template, asked as sentence-transformers asks it.

    Attributes:
        tokenizer: which fills it in.
        structured: a message's content is a list of typed parts, not a text.
        options: what the checkpoint has the template filled in with.
        restore_end: what the template ends in is put back where a text was cut.
    """

    tokenizer: Any
    structured: bool
    options: dict[str, Any]
    restore_end: bool = True

    def render(self, texts: Texts, instruction: str = "", **more: Any) -> str:
        """Fill the template in; without an instruction there is no system message.

        Raises:
            ExportError: the template refuses it.
        """
        messages = [{"role": _ROLES[field], "content": self._content(text)} for field, text in texts.items()]
        if instruction:
            messages.insert(0, {"role": "system", "content": self._content(instruction)})
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **self.options | more))
        except Exception as error:  # jinja2 raises many classes, and templates raise their own
            raise ExportError(
                f"the chat template cannot be filled in with {' and '.join(texts)}: {error}. "
                "Check chat_template.jinja."
            ) from error

    def encode(self, texts: Texts, instruction: str, max_seq_len: int) -> list[int]:
        """Token ids as sentence-transformers makes them: cut to the limit, and the template's end put back."""
        rendered = self.render(texts, instruction)
        cut = self.tokenizer(rendered, add_special_tokens=False, truncation=True, max_length=max_seq_len)
        token_ids = list(cut["input_ids"])
        if not self.restore_end or len(token_ids) < max_seq_len:
            return token_ids
        short, other = (
            self.tokenizer(self.render(dict.fromkeys(texts, each), instruction), add_special_tokens=False)[
                "input_ids"
            ]
            for each in _FILLERS
        )
        common = 0
        while common < min(len(short), len(other)) and short[-1 - common] == other[-1 - common]:
            common += 1
        if common == min(len(short), len(other)):
            return token_ids
        end = short[len(short) - common :][-len(token_ids) :]
        return [*token_ids[: len(token_ids) - len(end)], *end]

    def _content(self, text: str) -> str | list[dict[str, str]]:
        return [{"type": "text", "text": text}] if self.structured else text


def renders_messages(files: Files, tokenizer: Any) -> bool:
    """Whether sentence-transformers puts this checkpoint's texts into its chat template.

    Without modules.json that is so wherever there is one; with it, where the Transformer module states it.
    """
    if files.modules is None:
        return bool(getattr(tokenizer, "chat_template", None))
    return "message" in some_object(files.settings.get("modality_config"), "modality_config", BERT_CONFIG)


def read_chat(files: Files, tokenizer: Any) -> Chat:
    """Read how a checkpoint's chat template is asked.

    Raises:
        ExportError: there is none, or it is asked for something that embedge does not know.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise ExportError(
            "the checkpoint's texts are put into a chat template, and it has none; expected chat_template.jinja. "
            "Copy the checkpoint again."
        )
    kwargs = some_object(files.settings.get("processing_kwargs"), "processing_kwargs", BERT_CONFIG)
    options = some_object(kwargs.get("chat_template"), "chat_template", BERT_CONFIG)
    for name in _SIZES:
        if name in options:
            raise ExportError(
                f"{BERT_CONFIG} states {name} among the chat template's options, which embedge does not read there; "
                "expected it under processing_kwargs' text. Move it."
            )
    modalities = some_object(files.settings.get("modality_config"), "modality_config", BERT_CONFIG)
    message = some_object(modalities.get("message"), "message", BERT_CONFIG)
    return Chat(
        tokenizer=tokenizer,
        structured=_is_structured(message.get("format", "auto"), template, files),
        options={name: value for name, value in options.items() if name != "restore_suffix"},
        restore_end=bool(options.get("restore_suffix", True)),
    )


def shows_pairs(chat: Chat) -> bool:
    """Whether the template shows a query and a document, without which CrossEncoder refuses to use it."""
    try:
        plain, *others = (
            chat.render({"query": query, "document": document})
            for query, document in (("a", "b"), ("other", "b"), ("a", "other"))
        )
    except ExportError:
        return False
    return plain not in others


def read_template(chat: Chat, fields: tuple[str, ...]) -> TemplateSpec:
    """The chat template as data, found with markers and compared with it on texts that try to trip it.

    Args:
        chat: how it is asked.
        fields: "text", or "query" and "document".

    Raises:
        ExportError: the template does more than to put the texts somewhere.
    """
    body, stripped = _pattern(chat, fields, instructed=False)
    _check_surroundings(chat, fields)
    try:
        chat.render(dict.fromkeys(fields, "a"), "b")
    except ExportError:
        instructed_body = None
    else:
        instructed_body, stripped_there = _pattern(chat, fields, instructed=True)
        if [name for name in stripped_there if name in fields] != list(stripped):
            raise _does_more("strips texts of white space or not as there is a system message or none")
        stripped = stripped_there
    return TemplateSpec(
        way="whole",
        body=body,
        instructed_body=instructed_body,
        stripped=stripped,
        restore_end=chat.restore_end,
    )


def read_pair_template(chat: Chat, instruction: str | None) -> TemplateSpec:
    """The chat template for a query and a document.

    Args:
        chat: how it is asked.
        instruction: that every pair has unless a call gives another; the caller's, or the checkpoint's default prompt.

    Raises:
        ExportError: see `read_template`; or the template takes no instruction, and there is one.
    """
    template = read_template(chat, ("query", "document"))
    if instruction and template.instructed_body is None:
        raise ExportError(
            f"the chat template refuses a system message, and there is the instruction {instruction!r}; expected none"
        )
    return msgspec.structs.replace(template, instruction=instruction or "")


def _pattern(chat: Chat, fields: tuple[str, ...], *, instructed: bool) -> tuple[str, tuple[str, ...]]:
    """A body with its fields, and those of them that lose the white space around them."""
    marks = {name: f"\ue000{name}\ue000" for name in fields}
    instruction = "\ue000instruction\ue000" if instructed else ""
    body = chat.render(marks, instruction)
    for name, mark in marks.items():
        if body.count(mark) != 1:
            raise ExportError(
                f"the chat template shows the {name} {body.count(mark)} times; expected the {' and the '.join(fields)} "
                f"once each, as messages of the role {' and '.join(_ROLES[field] for field in fields)}. "
                "For Qwen3-Reranker's own template, pass --yes-token yes --no-token no."
            )
    shown = instructed and instruction in body
    if shown:
        marks["instruction"] = instruction
    for name, mark in marks.items():
        body = body.replace(mark, f"{{{name}}}")
    stripped = tuple(name for name in marks if _strips(chat, body, fields, name, instructed=instructed))
    for probe in _PROBES:
        for name in marks:
            _compare(chat, body, fields, name, probe, stripped, instructed=instructed)
    if fields == ("text",):
        _compare(chat, body, fields, "text", "", stripped, instructed=instructed)
    return body, stripped


def _strips(chat: Chat, body: str, fields: tuple[str, ...], name: str, *, instructed: bool) -> bool:
    texts, instruction = _given(fields, name, "  a  ", instructed=instructed)
    return chat.render(texts, instruction) == _filled(body, {**texts, "instruction": instruction}, (name,))


def _compare(
    chat: Chat,
    body: str,
    fields: tuple[str, ...],
    name: str,
    probe: str,
    stripped: tuple[str, ...],
    *,
    instructed: bool,
) -> None:
    texts, instruction = _given(fields, name, probe, instructed=instructed)
    if chat.render(texts, instruction) != _filled(body, {**texts, "instruction": instruction}, stripped):
        shown = probe if len(probe) <= 40 else probe[:37] + "..."
        raise _does_more(f"changes the {name} {shown!r}")


def _given(fields: tuple[str, ...], name: str, value: str, *, instructed: bool) -> tuple[dict[str, str], str]:
    texts = {field: value if field == name else "plain" for field in fields}
    return texts, "" if not instructed else value if name == "instruction" else "Find it"


def _filled(body: str, fields: Texts, stripped: tuple[str, ...]) -> str:
    def text(match: re.Match[str]) -> str:
        value = fields[match[1]]
        return value.strip() if match[1] in stripped else value

    return re.sub(rf"\{{({'|'.join(fields)})\}}", text, body)


def _check_surroundings(chat: Chat, fields: tuple[str, ...]) -> None:
    """Refuse a template that shows what no bundle can know: the date, or which side of a search a text is on."""
    texts = dict.fromkeys(fields, "a")
    plain = chat.render(texts)
    try:
        chat.render(texts, strftime_now="which is a function that tells the date")
    except ExportError as error:  # as it was called
        raise _does_more("shows the date of the day") from error
    if "task" not in chat.options and any(
        chat.render(texts, task=side) != plain for side in ("query", "document")
    ):
        raise _does_more("treats queries and documents differently (its variable task)")


def _is_structured(stated: Any, template: Any, files: Files) -> bool:
    formats: tuple[Literal["auto", "flat", "structured"], ...] = ("auto", "flat", "structured")
    if stated not in formats:
        raise ExportError(
            f"the message form's format in {BERT_CONFIG} is {stated!r}; expected one of {', '.join(formats)}"
        )
    if stated != "auto":
        return bool(stated == "structured")
    if files.config.get("model_type") in _FLAT:
        return False
    return not isinstance(template, str) or any(sign in template for sign in _STRUCTURED_SIGNS)


def _does_more(what: str) -> ExportError:
    return ExportError(
        f"the chat template {what}, which a bundle cannot repeat; expected a template that puts the texts between "
        "fixed ones. Use a plainer chat_template.jinja."
    )
