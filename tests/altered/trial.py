"""One alteration: what the exporter makes of it, and where it makes something, what the library does."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tests.altered.values import Alteration, passed_over
from tests.export.graph.test_graphs import largest_difference, run, token_batch, torch_rows

from embedge.errors import EmbedgeError
from embedge_export.graph.route import build_from_weights, check_values, choose_route
from embedge_export.source.read import open_checkpoint
from embedge_export.source.torch_model import quiet
from embedge_export.source.weights import load_weights
from embedge_export.spec import ExportSpec

Reference = Literal["torch", "numpy"]


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        alteration: which.
        verdict: "refused" by a sentence, "equal" to the library, "traced" as the library computes it, "passed over"
            where the library refuses what a key says that cannot change numbers; the rest must not be: "differs"
            silently, "laxer" than the library, which refuses it, "failed" with a foreign exception.
        words: the difference, or the message.
    """

    alteration: Alteration
    verdict: str
    words: str = ""

    @property
    def is_right(self) -> bool:
        return self.verdict in ("refused", "equal", "traced", "passed over")


def attempt(alteration: Alteration, folder: Path, scratch: Path, reference: Reference) -> Outcome:
    """Alter a checkpoint's config.json, build its graph, and put the file back.

    Args:
        alteration: what.
        folder: the checkpoint.
        scratch: where graphs are written.
        reference: "torch" reads the configuration with transformers, "numpy" without.
    """
    path = folder / "config.json"
    content = path.read_bytes()
    path.write_text(json.dumps(alteration.apply(json.loads(content))))
    try:
        with warnings.catch_warnings(), quiet(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _attempt(alteration, folder, scratch, reference)
    finally:
        path.write_bytes(content)


def _attempt(alteration: Alteration, folder: Path, scratch: Path, reference: Reference) -> Outcome:
    spec = ExportSpec(model=str(folder), reference=reference, pooling=("MEAN",))
    light = reference == "numpy"
    batch = token_batch()
    try:
        checkpoint = open_checkpoint(spec).checkpoint
        weights = load_weights(checkpoint, with_model=not light)
        described = choose_route(checkpoint, spec).described
        if described is None:
            return Outcome(alteration, "traced")
        if light:
            check_values(described)
        actual = run(*build_from_weights(described), scratch, batch)
    except EmbedgeError as error:
        return Outcome(alteration, "refused", str(error))
    except Exception as error:
        return Outcome(alteration, "failed", f"{type(error).__name__}: {error}")
    del weights
    try:
        expected = torch_rows(_library(folder), batch)
    except Exception as error:
        verdict = "passed over" if alteration.key in passed_over(alteration.family) else "laxer"
        return Outcome(alteration, verdict, f"{type(error).__name__}: {error}")
    difference = largest_difference(actual, expected, batch)
    if not difference <= 1e-4:
        return Outcome(alteration, "differs", f"by {difference:.2g}")
    return Outcome(alteration, "equal", f"{difference:.1e}")


def _library(folder: Path) -> Any:
    import torch
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
