"""A careful script around onnxruntime and optimum's plain trace; int8 is onnxruntime's own dynamic quantisation."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer, pool

PACKAGES = ("onnxruntime", "tokenizers", "numpy")
BATCH_TOKENS = 2048


def trace(job, folder):
    """optimum's plain trace of the checkpoint."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification

    kinds = {"encoder": ORTModelForFeatureExtraction, "cross-encoder": ORTModelForSequenceClassification}
    kinds[job["kind"]].from_pretrained(job["checkpoint"], export=True).save_pretrained(folder)


def prepare(job):
    folder = Path(job["prepared"])
    trace(job, folder)
    if job["precision"] == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            folder / "model.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True
        )
        (folder / "int8.onnx").replace(folder / "model.onnx")


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.onnx*")]


def load(job):
    infer = _open(job, "last_hidden_state")

    def run(token_ids, attention_mask, token_type_ids):
        return pool(infer(token_ids, attention_mask, token_type_ids), attention_mask)

    tokenizer = open_tokenizer(job)
    return lambda texts: embed_sorted(tokenizer, texts, run, BATCH_TOKENS)


def load_pairs(job):
    tokenizer, infer = open_tokenizer(job), _open(job, "logits")
    return lambda query, documents: embed_sorted(
        tokenizer, [(query, document) for document in documents], infer, BATCH_TOKENS
    )[:, 0]


def _open(job, output):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(
        f"{job['prepared']}/model.onnx", options, providers=["CPUExecutionProvider"]
    )
    names = {value.name for value in session.get_inputs()}

    def infer(token_ids, attention_mask, token_type_ids):
        feeds = {
            "input_ids": token_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        return session.run([output], {name: feeds[name] for name in names})[0]

    return infer
