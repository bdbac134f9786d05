"""torch.onnx without optimum: remote code, encoder halves, and heads that optimum does not describe.

The classic exporter (dynamo=False) gives the same bytes twice and needs no further package; what it bakes in by
mistake, such as a length, the verification finds.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_BATCH, _SEQ = 2, 16
_PADDING = 3


def trace_plainly(model: torch.nn.Module, output: str, path: Path, opset: int) -> None:
    """Trace a model that answers like those of transformers to one output.

    Args:
        model: takes input_ids, attention_mask and perhaps token_type_ids.
        output: "last_hidden_state" or "logits", first of what the model returns.
        path: file to write.
        opset: version of the ONNX operator set.
    """
    import torch

    names = input_names(model)
    example = {name: torch.zeros((_BATCH, _SEQ), dtype=torch.int64) for name in names}
    example["input_ids"] += torch.arange(_SEQ) % _PADDING + 1
    example["attention_mask"] += 1
    example["attention_mask"][1, -_PADDING:] = 0
    axes = {0: "batch_size", 1: "sequence_length"}
    with torch.no_grad():
        torch.onnx.export(
            _traced(model, names),
            tuple(example.values()),
            str(path),
            input_names=names,
            output_names=[output],
            dynamic_axes={
                **dict.fromkeys(names, axes),
                output: axes if _by_token(model, output) else {0: axes[0]},
            },
            opset_version=opset,
            dynamo=False,
        )


def input_names(model: Any) -> list[str]:
    """Which of the usual inputs a model takes; segment ids only where it has a choice of them."""
    takes_segments = "token_type_ids" in inspect.signature(model.forward).parameters
    if takes_segments and int(getattr(model.config, "type_vocab_size", None) or 0) > 1:
        return ["input_ids", "attention_mask", "token_type_ids"]
    return ["input_ids", "attention_mask"]


def _by_token(model: Any, output: str) -> bool:
    return output == "last_hidden_state" or type(model).__name__.endswith("ForTokenClassification")


def _traced(model: Any, names: list[str]) -> torch.nn.Module:
    import torch

    class Traced(torch.nn.Module):
        """The model with positional inputs and a single output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            first: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True)))[0]
            return first

    class ClassifiedAtEnd(Traced):
        """T5ForSequenceClassification: encoder, decoder, then a head on the row of the last end-of-text token.

        The model finds that token by comparing and selecting, which no trace can follow; every text ends in it, so it
        is the last real token.
        """

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            input_ids, attention_mask = inputs[:2]
            hidden = self.model.transformer(
                input_ids, attention_mask=attention_mask, decoder_input_ids=self.model._shift_right(input_ids)
            )[0]
            # (batch, 1, hidden): positions of the last real tokens
            last = (attention_mask.sum(1) - 1).reshape(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
            logits: torch.Tensor = self.model.classification_head(hidden.gather(1, last).squeeze(1))
            return logits

    at_end = hasattr(model, "classification_head") and hasattr(model, "_shift_right")
    return (ClassifiedAtEnd() if at_end else Traced()).eval()
