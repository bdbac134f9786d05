"""A careful script around onnxruntime and optimum's plain trace; int8 is onnxruntime's own dynamic quantisation."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer, pool

PACKAGES = ("onnxruntime", "tokenizers", "numpy")
BATCH_TOKENS = 2048


def prepare(job):
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    folder = Path(job["prepared"])
    ORTModelForFeatureExtraction.from_pretrained(job["checkpoint"], export=True).save_pretrained(folder)
    if job["precision"] == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            folder / "model.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True
        )
        (folder / "int8.onnx").replace(folder / "model.onnx")


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.onnx*")]


def load(job):
    import numpy as np
    import onnxruntime

    tokenizer = open_tokenizer(job)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(
        f"{job['prepared']}/model.onnx", options, providers=["CPUExecutionProvider"]
    )
    names = {value.name for value in session.get_inputs()}

    def run(token_ids, attention_mask):
        feeds = {"input_ids": token_ids, "attention_mask": attention_mask}
        if "token_type_ids" in names:
            feeds["token_type_ids"] = np.zeros_like(token_ids)
        return pool(session.run(["last_hidden_state"], feeds)[0], attention_mask)

    return lambda texts: embed_sorted(tokenizer, texts, run, BATCH_TOKENS)
