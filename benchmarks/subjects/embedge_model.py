"""embedge, as a program would use it."""

from __future__ import annotations

import json
from pathlib import Path

PACKAGES = ("embedge",)


def files(job):
    bundle = Path(job["bundle"])
    variant = json.loads((bundle / "manifest.json").read_text())["variants"][job["options"]["variant"]]
    return [
        bundle / "tokenizer.json",
        bundle / variant["file"],
        *(bundle / f for f in variant.get("data_files", ())),
    ]


def load(job):
    from embedge import EdgeModel

    model = EdgeModel(
        job["bundle"],
        variant=job["options"]["variant"],
        device="cpu",
        threads=job["threads"],
        truncate_prompt_tokens=-1,
    )
    return lambda texts: model.embed(texts).numpy()
