"""sentence-transformers with its OpenVINO backend in static int8, as its own export makes it: calibrated on texts.

The calibration texts come from where the measured ones do; the export's default is a data set of a hub.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from benchmarks.corpus import documents
from benchmarks.subjects.sentence_transformers_backend import settings

PACKAGES = ("sentence-transformers", "torch", "optimum-intel", "openvino", "nncf")
GRAPH = "openvino_model_qint8_quantized.xml"
CALIBRATION_TEXTS = 300


def prepare(job):
    from optimum.intel import OVQuantizationConfig
    from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

    if job["kind"] == "cross-encoder":
        raise SystemExit("is measured with embedders alone")
    folder = Path(job["prepared"])
    model = SentenceTransformer(
        job["checkpoint"], device="cpu", backend="openvino", model_kwargs={"export": True}
    )
    model.save_pretrained(str(folder))
    data = folder / "calibration"
    data.mkdir()
    texts = random.Random(job["seed"]).sample(documents(), CALIBRATION_TEXTS)
    lines = [json.dumps({"text": text}) for text in texts]
    (data / "train.jsonl").write_text("\n".join(lines) + "\n")
    export_static_quantized_openvino_model(
        model,
        OVQuantizationConfig(num_samples=CALIBRATION_TEXTS),
        str(folder),
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )


def files(job):
    folder = Path(job["prepared"])
    graph = folder / "openvino" / GRAPH
    return [folder / "tokenizer.json", graph, graph.with_suffix(".bin")]


def load(job):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job["prepared"], **settings(job, "openvino", GRAPH))
    model.max_seq_length = job["max_tokens"]
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)
