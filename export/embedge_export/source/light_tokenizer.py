"""A tokenizer without transformers: what the exporter asks of one, answered by the tokenizers library."""

from __future__ import annotations

from typing import Any

import msgspec

from embedge.errors import MissingExtraError

_UNLIMITED = int(1e20)
"""model_max_length above which transformers does not cut."""


class LightTokenizer(msgspec.Struct, kw_only=True, eq=False):
    """A loaded tokenizer in the call form of transformers 5.

    Attributes:
        backend_tokenizer: of the tokenizers library.
        class_name: what transformers 5 calls its class.
        special_tokens_map: named special tokens.
        extra_special_tokens: those without a name.
        model_max_length, truncation_side, model_input_names, split_special_tokens: as in tokenizer_config.json.
        chat_template: one, some by name, or none.
    """

    backend_tokenizer: Any
    class_name: str
    special_tokens_map: dict[str, str]
    model_max_length: int
    truncation_side: str
    model_input_names: list[str]
    split_special_tokens: bool
    extra_special_tokens: tuple[str, ...] = ()
    chat_template: str | dict[str, str] | None = None

    def __len__(self) -> int:
        """Tokens of the vocabulary, added ones included."""
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __call__(
        self,
        text: str,
        pair: str | None = None,
        *,
        truncation: bool = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
    ) -> dict[str, list[int]]:
        """Tokenise one text or pair; of a pair that is too long the longer side loses tokens, one by one."""
        backend = self.backend_tokenizer
        limit = self.model_max_length if max_length is None else max_length
        if truncation and limit <= _UNLIMITED:
            backend.enable_truncation(
                limit, stride=0, strategy="longest_first", direction=self.truncation_side
            )
        else:
            backend.no_truncation()
        backend.encode_special_tokens = self.split_special_tokens
        # an empty second side is none, as in transformers
        (encoding,) = backend.encode_batch(
            [(text, pair) if pair else text], add_special_tokens=add_special_tokens
        )
        rows = {"input_ids": encoding.ids}
        if "token_type_ids" in self.model_input_names:
            rows["token_type_ids"] = encoding.type_ids
        if "attention_mask" in self.model_input_names:
            rows["attention_mask"] = encoding.attention_mask
        return rows

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text, uncut."""
        return self(text, add_special_tokens=add_special_tokens)["input_ids"]

    def get_vocab(self) -> dict[str, int]:
        """Ids by token, added ones included."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token; None without one, like those below."""
        return self._special_id("pad_token")

    @property
    def eos_token(self) -> str | None:
        """Text of the closing token."""
        return self.special_tokens_map.get("eos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Id of the closing token."""
        return self._special_id("eos_token")

    @property
    def mask_token_id(self) -> int | None:
        """Id of the mask token."""
        return self._special_id("mask_token")

    @property
    def unk_token_id(self) -> int | None:
        """Id of the unknown token."""
        return self._special_id("unk_token")

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False, **variables: Any
    ) -> str:
        """Fill the chat template in, as transformers does without tools and documents.

        Raises:
            MissingExtraError: jinja2 is not installed.
        """
        try:
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "the checkpoint's texts are put into a chat template, which jinja2 fills in, and it is not installed. "
                "Install it with: pip install 'embedge[export-torch]'"
            ) from error
        template = self.chat_template
        if isinstance(template, dict):
            template = template["default"]
        variables.pop("tokenize", None)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _tell_date}
        names = {"messages": messages, "tools": None, "documents": None}
        return environment.from_string(str(template)).render(
            **names, add_generation_prompt=add_generation_prompt, **{**self.special_tokens_map, **variables}
        )

    def _special_id(self, name: str) -> int | None:
        token = self.special_tokens_map.get(name)
        found = None if token is None else self.backend_tokenizer.token_to_id(token)
        return None if found is None else int(found)


def _refuse(message: str) -> None:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def _tell_date(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)  # as transformers does, by the clock of the machine


def _to_json(value: Any, *, ensure_ascii: bool = False, indent: int | None = None) -> str:
    import json

    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
