"""embedge, float32, as a program would use it."""

from __future__ import annotations

PACKAGES = ("embedge", "onnxruntime", "tokenizers", "numpy")


def load(job):
    from embedge import EdgeModel

    model = EdgeModel(
        job["bundle"], variant="fp32", device="cpu", threads=job["threads"], truncate_prompt_tokens=-1
    )
    return lambda texts: model.embed(texts).numpy()
