"""sentence_bert_config.json: how sentence-transformers loads a transformer, feeds it, and what it takes from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import ExportError
from embedge_export.source.fields import account_for, optional_text, some_bool, some_object, whole
from embedge_export.source.repository import read_json

FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names that the file has had; the first that is there is read."""

LAST_HIDDEN_STATE = "last_hidden_state"
POOLER_OUTPUT = "pooler_output"
_FEATURES = "feature-extraction"
_OUTPUTS = {
    "feature-extraction": (LAST_HIDDEN_STATE, POOLER_OUTPUT),
    "fill-mask": ("logits",),
    "sequence-classification": ("logits",),
    "text-generation": ("logits",),
}
_NAMES = {
    "feature-extraction": "token_embeddings",
    "fill-mask": "token_embeddings",
    "sequence-classification": "scores",
    "text-generation": "causal_logits",
}
_MODALITIES = {"text", "message", "image", "audio", "video"}
_NEWER_NAMES = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}
_KNOWN = (
    "config_kwargs", "do_lower_case", "document_length", "max_seq_length", "modality_config", "model_kwargs",
    "module_output_name", "processing_kwargs", "processor_kwargs", "query_expansion", "query_length",
    "transformer_task",
)  # fmt: skip
_IGNORED = {"unpad_inputs": "texts are computed with or without padding; the numbers are the same"}
_OVERWRITTEN = dict.fromkeys(
    ("cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"),
    "the library puts the caller's own in its place",
)
_IGNORED_OF_MODEL = {
    **_OVERWRITTEN,
    "add_pooling_layer": "a pooler changes nothing but its own output",
    "attn_implementation": "another way to the same numbers",
    "device_map": "where the weights lie",
    "dtype": "the reference is float32",
    "low_cpu_mem_usage": "how the weights are loaded",
    "torch_dtype": "the reference is float32",
    "use_safetensors": "which file of the same weights is read",
}
_IGNORED_OF_TEXT = {
    "logits_to_keep": "how many positions' logits are computed; the last is among them",
    "pad_to_multiple_of": "padding is masked",
    "padding": "padding is masked",
    "return_attention_mask": "what the tokenizer returns",
    "return_tensors": "what the tokenizer returns",
    "return_token_type_ids": "what the tokenizer returns",
    "verbose": "what the tokenizer prints",
}
_OF_OTHERS = dict.fromkeys(("audio", "image", "video"), "of inputs that are no text")


class TransformerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the file states; the library's defaults where it states nothing.

    Attributes:
        file: its name, for messages.
        max_seq_length: limit in tokens.
        max_length: limit that goes before every other, of processing_kwargs.
        do_lower_case: texts are lowercased.
        transformer_task: which of transformers' classes is loaded.
        method_output_name: which of its outputs is taken.
        module_output_name: name of the feature that it becomes.
        message_format: how texts are made messages for the chat template; None where they are not.
        chat_template: options of the chat template.
        processor_kwargs: given to the tokenizer as it is loaded.
        config_kwargs: put in place of what config.json states.
        query_length, document_length, query_expansion: late interaction's.
    """

    file: str = FILES[0]
    max_seq_length: int | None = None
    max_length: int | None = None
    do_lower_case: bool = False
    transformer_task: str = _FEATURES
    method_output_name: str = LAST_HIDDEN_STATE
    module_output_name: str = "token_embeddings"
    message_format: str | None = None
    chat_template: dict[str, Any] = msgspec.field(default_factory=dict)
    processor_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    config_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    query_length: int | None = None
    document_length: int | None = None
    query_expansion: dict[str, Any] | None = None

    @property
    def limit(self) -> int | None:
        """Limit in tokens, the one that counts of those that are stated."""
        of_tokenizer = self.processor_kwargs.get("model_max_length")
        stated = (self.max_length, of_tokenizer, self.max_seq_length)
        return next((limit for limit in stated if limit is not None), None)


def read_settings(folder: Path, default_task: str, ignore_keys: Iterable[str] = ()) -> TransformerSettings:
    """Read the file of a transformer's folder.

    Args:
        folder: the folder.
        default_task: transformer_task where none is stated.
        ignore_keys: keys that the caller wants to be passed over.

    Raises:
        ExportError: a key that embedge does not know, a value of another type, or an output that it does not offer.
    """
    ignore_keys = tuple(ignore_keys)
    file, stated = next(
        ((name, found) for name in FILES if (found := read_json(folder, name))), (FILES[0], {})
    )
    stated = {_NEWER_NAMES.get(key, key): value for key, value in stated.items()}
    account_for(stated, file, known=_KNOWN, ignored=_IGNORED, ignore_keys=ignore_keys)
    of_model, of_tokenizer, of_config, expansion = (
        some_object(stated.get(key), key, file)
        for key in ("model_kwargs", "processor_kwargs", "config_kwargs", "query_expansion")
    )
    account_for(
        of_model, f"model_kwargs in {file}", known=(), ignored=_IGNORED_OF_MODEL, ignore_keys=ignore_keys
    )
    limit = of_tokenizer.get("model_max_length")
    if limit is not None:
        whole(limit, "model_max_length", file)
    facts = _output(stated, default_task, file) | _processing(stated, file, ignore_keys)
    return TransformerSettings(
        file=file,
        max_seq_length=_length(stated, "max_seq_length", file),
        query_length=_length(stated, "query_length", file),
        document_length=_length(stated, "document_length", file),
        do_lower_case=some_bool(stated.get("do_lower_case") or False, "do_lower_case", file),
        processor_kwargs={key: value for key, value in of_tokenizer.items() if key not in _OVERWRITTEN},
        config_kwargs={key: value for key, value in of_config.items() if key not in _OVERWRITTEN},
        query_expansion=expansion or None,
        **facts,
    )


def _length(stated: dict[str, Any], key: str, file: str) -> int | None:
    value = stated.get(key)
    return None if value is None else whole(value, key, file)


def _output(stated: dict[str, Any], default_task: str, file: str) -> dict[str, Any]:
    """What is taken of the transformer, and under which name."""
    task = optional_text(stated.get("transformer_task"), "transformer_task", file) or default_task
    if task not in _OUTPUTS:
        raise ExportError(
            f"transformer_task {task!r} in {file} is not one that embedge knows; expected one of {', '.join(_OUTPUTS)}"
        )
    facts: dict[str, Any] = {"transformer_task": task}
    modalities = some_object(stated.get("modality_config"), "modality_config", file)
    if not modalities:
        return facts | {"module_output_name": _NAMES[task], "method_output_name": _OUTPUTS[task][0]}
    modalities = {
        key: some_object(value, f"modality_config.{key}", file)
        for key, value in modalities.items()
        if key in _MODALITIES
    }
    # texts become messages wherever the transformer takes messages
    taken = modalities.get("message", modalities.get("text"))
    if taken is None:
        raise ExportError(
            f"modality_config in {file} has {', '.join(modalities) or 'nothing'}; expected text or message. "
            "Run a model of images or sounds alone with sentence-transformers."
        )
    if "message" in modalities:
        facts["message_format"] = str(taken.get("format", "auto"))
    account_for(
        taken, f"modality_config in {file}", known=("format", "method", "method_output_name"), ignored={}
    )
    output = taken.get("method_output_name")
    if isinstance(output, list) and len(output) == 1:
        output = output[0]
    if taken.get("method") != "forward" or output not in _OUTPUTS[task]:
        raise ExportError(
            f"modality_config in {file} takes method_output_name {output!r} of the method {taken.get('method')!r}; "
            f"embedge exports {' or '.join(_OUTPUTS[task])} of forward. State one of these in a copy "
            "of the checkpoint if its numbers are what you want, or run the model with sentence-transformers."
        )
    name = optional_text(stated.get("module_output_name"), "module_output_name", file)
    if name is None:
        raise ExportError(
            f"{file} has modality_config and no module_output_name; expected the name of the transformer's output, "
            "such as token_embeddings. Restore the file from the model's origin."
        )
    return facts | {"module_output_name": name, "method_output_name": output}


def _processing(stated: dict[str, Any], file: str, ignore_keys: Iterable[str]) -> dict[str, Any]:
    """What texts are tokenised with."""
    name = "processing_kwargs"
    kwargs = some_object(stated.get(name), name, file)
    known = ("chat_template", "common", "text")
    account_for(kwargs, f"{name} in {file}", known=known, ignored=_OF_OTHERS, ignore_keys=ignore_keys)
    # the library puts what is common over what is of texts
    merged: dict[str, Any] = {}
    for part in ("text", "common"):
        options = some_object(kwargs.get(part), f"{name}.{part}", file)
        account_for(
            options,
            f"{name}.{part} in {file}",
            known=("add_special_tokens", "max_length", "truncation"),
            ignored=_IGNORED_OF_TEXT,
            ignore_keys=ignore_keys,
        )
        merged |= options
    for key, honoured in (("truncation", (True, "longest_first")), ("add_special_tokens", (True,))):
        if merged.get(key, True) not in honoured:
            raise ExportError(
                f"{name} in {file} states {key} {merged[key]!r}, which is not exported; expected "
                f"{' or '.join(map(repr, honoured))}, or nothing. "
                "Remove it in a copy of the checkpoint if texts may be tokenised without it."
            )
    return {
        "max_length": _length(merged, "max_length", f"{name} in {file}"),
        "chat_template": some_object(kwargs.get("chat_template"), f"{name}.chat_template", file),
    }
