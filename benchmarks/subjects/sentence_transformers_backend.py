"""sentence-transformers with its ONNX or OpenVINO backend, on the graph that it exports itself."""

from __future__ import annotations

from pathlib import Path

PACKAGES = ("sentence-transformers", "torch", "optimum-onnx", "onnxruntime")
GRAPHS = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}


def packages(job):
    if job["options"]["backend"] == "openvino":
        return ("sentence-transformers", "torch", "optimum-intel", "openvino")
    return PACKAGES


def prepare(job):
    from sentence_transformers import CrossEncoder, SentenceTransformer

    kind = CrossEncoder if job["kind"] == "cross-encoder" else SentenceTransformer
    backend = job["options"]["backend"]
    model = kind(job["checkpoint"], device="cpu", backend=backend, model_kwargs={"export": True})
    model.save_pretrained(job["prepared"])


def files(job):
    graph = Path(job["prepared"]) / GRAPHS[job["options"]["backend"]]
    return [graph.parent.parent / "tokenizer.json", *graph.parent.iterdir()]


def load(job):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job["prepared"], **settings(job, job["options"]["backend"]))
    model.max_seq_length = job["max_tokens"]
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def load_pairs(job):
    from sentence_transformers import CrossEncoder

    from benchmarks.subjects.sentence_transformers_torch import logits

    model = CrossEncoder(
        job["prepared"], max_length=job["max_tokens"], **settings(job, job["options"]["backend"])
    )
    return lambda query, documents: logits(model, query, documents)


def settings(job, backend, graph=None):
    """Arguments of a model on a graph that is there, of the backend's own name unless it is given."""
    import torch

    torch.set_num_threads(job["threads"])
    if backend == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        chosen = {"provider": "CPUExecutionProvider", "session_options": options}
    else:
        chosen = {"ov_config": {"INFERENCE_NUM_THREADS": job["threads"], "INFERENCE_PRECISION_HINT": "f32"}}
    file = {"file_name": graph or GRAPHS[backend].split("/")[1], "export": False}
    return {"device": "cpu", "backend": backend, "model_kwargs": file | chosen}
