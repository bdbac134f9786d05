"""A careful script around OpenVINO: IR in float32 with the pooling in the graph, length-sorted batches."""

from __future__ import annotations

from pathlib import Path

from benchmarks.subjects.sorting import embed_sorted, open_tokenizer

PACKAGES = ("openvino", "tokenizers")
BATCH_TOKENS = 2048


def prepare(job):
    import openvino
    from openvino import opset13
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    folder = Path(job["prepared"])
    ORTModelForFeatureExtraction.from_pretrained(job["checkpoint"], export=True).save_pretrained(
        folder / "trace"
    )
    model = openvino.Core().read_model(folder / "trace" / "model.onnx")
    hidden_states = model.output(0).get_node().input_value(0)
    mask = next(p for p in model.get_parameters() if "attention_mask" in p.output(0).get_names()).output(0)
    weights = opset13.unsqueeze(opset13.convert(mask, "f32"), opset13.constant([2]))
    total = opset13.reduce_sum(
        opset13.multiply(hidden_states, weights), opset13.constant([1]), keep_dims=False
    )
    means = opset13.divide(total, opset13.reduce_sum(weights, opset13.constant([1]), keep_dims=False))
    unit = opset13.normalize_l2(means, opset13.constant([1]), 1e-12, "max")
    pooled = openvino.Model([unit.output(0)], model.get_parameters(), "pooled")
    openvino.save_model(pooled, folder / "model.xml", compress_to_fp16=False)


def files(job):
    return [Path(job["checkpoint"]) / "tokenizer.json", *Path(job["prepared"]).glob("model.*")]


def load(job):
    import numpy as np
    import openvino

    tokenizer = open_tokenizer(job)
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

    def run(token_ids, attention_mask):
        given = {
            "input_ids": token_ids,
            "attention_mask": attention_mask,
            "token_type_ids": np.zeros_like(token_ids),
        }
        return request.infer([given[name] for name in names], share_inputs=True, share_outputs=True)[0]

    return lambda texts: embed_sorted(tokenizer, texts, run, BATCH_TOKENS)
