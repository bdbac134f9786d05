"""optimum's ORTModelForFeatureExtraction with a transformers tokenizer, on its own trace, in sorted batches of 32."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("optimum-onnx", "onnxruntime", "transformers")


def prepare(job):
    from transformers import AutoTokenizer

    from benchmarks.subjects.onnxruntime_script import trace

    trace(job, job["prepared"])
    AutoTokenizer.from_pretrained(job["checkpoint"]).save_pretrained(job["prepared"])


def files(job):
    return [Path(job["prepared"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.onnx*")]


def load(job):
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    from benchmarks.subjects.sorting import pool

    return _embed(
        job,
        ORTModelForFeatureExtraction,
        lambda answer, inputs: pool(answer.last_hidden_state, inputs["attention_mask"]),
    )


def load_pairs(job):
    from optimum.onnxruntime import ORTModelForSequenceClassification

    embed = _embed(job, ORTModelForSequenceClassification, lambda answer, _inputs: answer.logits)
    return lambda query, documents: embed([(query, document) for document in documents])[:, 0]


def _embed(job, kind, read):
    import numpy as np
    import onnxruntime
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["prepared"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    model = kind.from_pretrained(job["prepared"], provider="CPUExecutionProvider", session_options=options)

    def embed(texts):
        order = np.argsort(
            [-len(text if isinstance(text, str) else text[1]) for text in texts], kind="stable"
        )
        found = []
        for start in range(0, len(order), 32):
            inputs = tokenizer(
                [texts[i] for i in order[start : start + 32]],
                padding=True,
                truncation=True,
                max_length=job["max_tokens"],
                return_tensors="np",
            )
            found.append(read(model(**inputs), inputs))
        embeddings = np.concatenate(found)
        return embeddings[np.argsort(order)]

    return embed
