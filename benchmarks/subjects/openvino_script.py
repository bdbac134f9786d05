"""A careful script around OpenVINO: IR in float32 with the pooling in the graph, length-sorted batches."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer

PACKAGES = ("openvino", "tokenizers")
BATCH_TOKENS = 2048


def prepare(job):
    import openvino

    from benchmarks.subjects.onnxruntime_script import trace

    folder = Path(job["prepared"])
    trace(job, folder / "trace")
    model = openvino.Core().read_model(folder / "trace" / "model.onnx")
    if job["kind"] == "encoder":
        model = _pooled(model)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _pooled(model):
    import openvino
    from openvino import opset13

    hidden_states = model.output(0).get_node().input_value(0)
    mask = next(p for p in model.get_parameters() if "attention_mask" in p.output(0).get_names()).output(0)
    weights = opset13.unsqueeze(opset13.convert(mask, "f32"), opset13.constant([2]))
    total = opset13.reduce_sum(
        opset13.multiply(hidden_states, weights), opset13.constant([1]), keep_dims=False
    )
    means = opset13.divide(total, opset13.reduce_sum(weights, opset13.constant([1]), keep_dims=False))
    unit = opset13.normalize_l2(means, opset13.constant([1]), 1e-12, "max")
    return openvino.Model([unit.output(0)], model.get_parameters(), "pooled")


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.*")]


def load(job):
    tokenizer, infer = open_tokenizer(job), _open(job)
    return lambda texts: embed_sorted(tokenizer, texts, infer, BATCH_TOKENS)


def load_pairs(job):
    tokenizer, infer = open_tokenizer(job), _open(job)
    return lambda query, documents: embed_sorted(
        tokenizer, [(query, document) for document in documents], infer, BATCH_TOKENS
    )[:, 0]


def _open(job):
    import openvino

    compiled = openvino.Core().compile_model(
        f"{job['prepared']}/model.xml",
        "CPU",
        {
            "INFERENCE_NUM_THREADS": job["threads"],
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[job["precision"]],
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    names = [value.get_any_name() for value in compiled.inputs]
    request = compiled.create_infer_request()

    def infer(token_ids, attention_mask, token_type_ids):
        given = {
            "input_ids": token_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        return request.infer([given[name] for name in names], share_inputs=True, share_outputs=True)[0]

    return infer
