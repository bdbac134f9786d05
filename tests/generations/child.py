"""What one environment does for all cases: save checkpoints and ask their library, or export and ask the bundles.

    python -m tests.generations.child save SAVED < cases.json
    python -m tests.generations.child export SAVED BUNDLES < cases.json

Answers lie beside each checkpoint and bundle as answers.npz, one array per task and text; outcomes.json says for each
case "" or, in one line, why there are none.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.generations.cases import CODE, Asked, Case
from tests.parity.asked import PAIRS, TEXTS, load

from embedge import EdgeModel, PoolingParams
from embedge.errors import EmbedgeError

ANSWERS = "answers.npz"
OUTCOMES = "outcomes.json"
ABSENT = "absent"
_ASKED = 24
Answers = dict[str, list[np.ndarray]]


def main(argv: list[str], cases: list[Case]) -> None:
    """Do one of the two for every case."""
    if find_spec("torch"):
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


def _tried(job: Callable[..., Answers], case: Case, *folders: Path) -> str:
    folders[-1].mkdir(parents=True)
    if len(folders) > 1 and not (folders[0] / ANSWERS).is_file():
        return "unsaved"
    try:
        answers = job(case, *folders)
    except NotImplementedError as error:
        return f"{ABSENT}: {error}"
    except EmbedgeError as error:
        return f"refused: {_line(error)}"
    except Exception as error:  # a table of what fails must not end at the first
        return f"{type(error).__name__}: {_line(error)}"
    rows = {f"{task}.{place}": row for task, found in answers.items() for place, row in enumerate(found)}
    np.savez(folders[-1] / ANSWERS, **rows)
    return ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:900]


def _inputs(case: Case) -> Asked:
    # those at both ends of the list: short, long, and other scripts
    texts = [*TEXTS[: _ASKED // 2], *TEXTS[-_ASKED // 2 :]]
    asked: dict[str, Any] = {"score": PAIRS[:_ASKED], "rerank": (PAIRS[0][0], texts)}
    return {task: asked.get(task, texts) for task in case.tasks}


def _save(case: Case, folder: Path) -> Answers:
    from tests.generations import saving

    saving.save(case, folder / "checkpoint")
    return saving.answers(case, folder / "checkpoint", _inputs(case))


def _export(case: Case, saved: Path, folder: Path) -> Answers:
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    # whether numbers are the library's is what the answers are compared for; tests/export is about the retrieval set
    spec = ExportSpec(model=str(saved / "checkpoint"), output=folder / "bundle", witness=False, **case.spec)
    with mock.patch("embedge_export.verify.questions.QUICK_DOCUMENTS", 24):
        bundle = export(spec)
    with load(bundle) as model:
        return {task: _ask(model, case, task, asked) for task, asked in _inputs(case).items()}


def _ask(model: EdgeModel, case: Case, task: str, asked: Any) -> list[np.ndarray]:
    """What the library's answer is compared with: embeddings as they come, a recipe's scores, else raw numbers."""
    if task == "embed":
        return list(model.embed(asked).numpy())
    if task == "score":
        params = None if case.source not in ("", CODE) else PoolingParams(use_activation=False)
        rows = model.score(*map(list, zip(*asked, strict=True)), pooling_params=params).numpy()
        return list(rows[:, None] if params else rows)
    if task == "rerank":
        places = {each.index: each.score for each in model.rerank(*asked)}
        return [np.array([places[place]]) for place in range(len(asked[1]))]
    raw = PoolingParams(normalize=False) if task == "token_embed" else PoolingParams(use_activation=False)
    return [np.asarray(row) for row in model.encode(asked, raw, pooling_task=task).numpy()]


if __name__ == "__main__":
    main(sys.argv[1:], [Case(**case) for case in json.load(sys.stdin)])
