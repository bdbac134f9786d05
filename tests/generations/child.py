"""What one environment does for all cases: save checkpoints and ask their library, or export and ask the bundles.

    python -m tests.generations.child save SAVED < cases.json
    python -m tests.generations.child export SAVED BUNDLES < cases.json

Answers lie beside each checkpoint and bundle as answers.npz, one array per text; outcomes.json says for each case ""
or, in one line, why there are none.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.export import architectures
from tests.generations.cases import Case
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import EdgeModel, PoolingParams
from embedge.errors import EmbedgeError

ANSWERS = "answers.npz"
OUTCOMES = "outcomes.json"
ABSENT = "absent"
_ASKED = 24


def main(argv: list[str], cases: list[Case]) -> None:
    """Do one of the two for every case."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    job, *folders = argv
    saved = Path(folders[0])
    if job == "save":
        outcomes = {case.name: _tried(_save, case, saved / case.name) for case in cases}
    else:
        bundles = Path(folders[1])
        outcomes = {
            case.name: _tried(_export, case, saved / case.name, bundles / case.name) for case in cases
        }
    (saved if job == "save" else bundles).joinpath(OUTCOMES).write_text(json.dumps(outcomes), "utf-8")


def _tried(job: Callable[..., Iterable[np.ndarray]], case: Case, *folders: Path) -> str:
    folders[-1].mkdir(parents=True)
    try:
        answers = job(case, *folders)
    except NotImplementedError as error:
        return f"{ABSENT}: {error}"
    except EmbedgeError as error:
        return f"refused: {_line(error)}"
    except Exception as error:  # a table of what fails must not end at the first
        return f"{type(error).__name__}: {_line(error)}"
    np.savez(folders[-1] / ANSWERS, *answers)
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _inputs(case: Case) -> list[Any]:
    if case.task == "score":
        return PAIRS[:_ASKED]
    # those at both ends of the list: short, long, and other scripts
    return [*TEXTS[: _ASKED // 2], *TEXTS[-_ASKED // 2 :]]


def _save(case: Case, folder: Path) -> list[np.ndarray]:
    from tests.checkpoints import make
    from tests.checkpoints.reference import answers

    checkpoint = folder / "checkpoint"
    if not case.source and architectures.model_class(case.family, case.task) is None:
        raise NotImplementedError(f"transformers has no class for {case.family} here")
    if case.source:
        return answers(case.source, make(case.source, checkpoint), _inputs(case))
    main = "embed" if case.task == "token_embed" else case.task
    architectures.make(checkpoint, case.family, main)
    asked = [pair if case.task == "score" else (pair,) for pair in _inputs(case)]
    return architectures.answers(checkpoint, case.task, asked, "", _limit(checkpoint), remote=False)


def _limit(checkpoint: Path) -> int:
    return int(json.loads((checkpoint / "tokenizer_config.json").read_text("utf-8"))["model_max_length"])


def _export(case: Case, saved: Path, folder: Path) -> list[np.ndarray]:
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    spec = ExportSpec(model=str(saved / "checkpoint"), output=folder / "bundle", **case.spec)
    # whether numbers are equal is asked below; tests/export is about the retrieval set
    with mock.patch("embedge_export.verify.questions.QUICK_DOCUMENTS", 24):
        bundle = export(spec)
    with load(bundle) as model:
        return [np.asarray(row) for row in _ask(model, case)]


def _ask(model: EdgeModel, case: Case) -> Iterable[np.ndarray]:
    """What the library's answer is compared with: CrossEncoder's scores, embeddings as they come, else raw numbers."""
    inputs = _inputs(case)
    if case.task == "embed":
        return model.embed(inputs).numpy()
    if case.task == "score":
        params = None if case.source else PoolingParams(use_activation=False)
        rows = model.score(*map(list, zip(*inputs, strict=True)), pooling_params=params).numpy()
        return rows[:, 0] if case.source else rows
    raw = (
        PoolingParams(normalize=False) if case.task == "token_embed" else PoolingParams(use_activation=False)
    )
    return model.encode(inputs, raw, pooling_task=case.task).numpy()


if __name__ == "__main__":
    main(sys.argv[1:], [Case(**case) for case in json.load(sys.stdin)])
