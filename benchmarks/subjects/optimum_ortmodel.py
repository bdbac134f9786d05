"""optimum's ORTModelForFeatureExtraction with a transformers tokenizer, on its own trace, in sorted batches of 32."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("optimum-onnx", "onnxruntime", "transformers")


def prepare(job):
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    ORTModelForFeatureExtraction.from_pretrained(job["checkpoint"], export=True).save_pretrained(
        job["prepared"]
    )
    AutoTokenizer.from_pretrained(job["checkpoint"]).save_pretrained(job["prepared"])


def files(job):
    return [Path(job["prepared"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.onnx*")]


def load(job):
    import numpy as np
    import onnxruntime
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    from benchmarks.subjects.sorting import pool

    tokenizer = AutoTokenizer.from_pretrained(job["prepared"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    model = ORTModelForFeatureExtraction.from_pretrained(
        job["prepared"], provider="CPUExecutionProvider", session_options=options
    )

    def embed(texts):
        order = np.argsort([-len(text) for text in texts], kind="stable")
        found = []
        for start in range(0, len(order), 32):
            inputs = tokenizer(
                [texts[i] for i in order[start : start + 32]],
                padding=True,
                truncation=True,
                max_length=job["max_tokens"],
                return_tensors="np",
            )
            found.append(pool(model(**inputs).last_hidden_state, inputs["attention_mask"]))
        embeddings = np.concatenate(found)
        return embeddings[np.argsort(order)]

    return embed
