"""What runs in a subject's process: a library, opened and asked as its users do, which answers its parent line by line.

It is run as a file by any Python that has the library, which embedge need not be installed in; so it imports nothing of
embedge but where the library is embedge.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Job = dict[str, Any]
Embed = Callable[[list[str]], npt.NDArray[np.float32]]

_BATCH = 32
"""Texts of a batch, where a library leaves that to its users: what sentence-transformers takes by itself."""
_BATCH_TOKENS = 2048


def main() -> None:
    """Read the job, open the library, and answer until the parent goes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def answer(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    lines = _lines()
    job = json.loads(next(lines))
    try:
        embed = OPENERS[job["library"]](job)
        embed([job["first"]])
        answer({"ready": True, "peak_rss_bytes": _peak_rss_bytes()})
        for line in lines:
            request = json.loads(line)
            answer(ACTIONS[request["action"]](embed, request["texts"]))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})


def _lines() -> Any:
    """What the parent sends; when it has gone, so has this process, whatever it is at."""
    from queue import SimpleQueue

    waiting: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            waiting.put(line.decode())
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield waiting.get()


def vectors(embed: Embed, texts: list[str]) -> dict[str, Any]:
    """The vectors themselves, for comparison, and the seconds that they took."""
    before = time.perf_counter()
    found = np.ascontiguousarray(embed(texts), dtype="<f4")
    seconds = time.perf_counter() - before
    return {
        "shape": found.shape,
        "vectors": base64.b64encode(found.tobytes()).decode(),
        "seconds": [seconds],
    }


def one_by_one(embed: Embed, texts: list[str]) -> dict[str, Any]:
    """Seconds of each text alone."""
    seconds = []
    for text in texts:
        before = time.perf_counter()
        embed([text])
        seconds.append(time.perf_counter() - before)
    return {"seconds": seconds, "peak_rss_bytes": _peak_rss_bytes()}


def together(embed: Embed, texts: list[str]) -> dict[str, Any]:
    """Seconds of all texts in one call."""
    before = time.perf_counter()
    embed(texts)
    return {"seconds": [time.perf_counter() - before], "peak_rss_bytes": _peak_rss_bytes()}


def _peak_rss_bytes() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def open_embedge(job: Job) -> Embed:
    """A variant of the bundle."""
    from embedge import EdgeModel

    model = EdgeModel(job["bundle"], device="cpu", variant=job["variant"], threads=job["threads"])
    return lambda texts: model.embed(texts, truncate_prompt_tokens=-1).numpy()


def open_sentence_transformers(job: Job) -> Embed:
    """On torch, or on the graph that its ONNX or OpenVINO backend finds in the checkpoint or makes of it."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(job["threads"])
    settings: dict[str, Any] = {"model_kwargs": {"dtype": torch.float32}}
    if job["backend"] == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        settings = {"model_kwargs": {"provider": "CPUExecutionProvider", "session_options": options}}
    elif job["backend"] == "openvino":
        settings = {"model_kwargs": {"ov_config": {"INFERENCE_NUM_THREADS": job["threads"]}}}
    model = SentenceTransformer(job["checkpoint"], device="cpu", backend=job["backend"], **settings)
    model.max_seq_length = job["max_tokens"]
    return lambda texts: model.encode(texts, batch_size=_BATCH, show_progress_bar=False)


def open_fastembed(job: Job) -> Embed:
    """A model of the user's own, as its documentation has it."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="local/model",
        pooling=PoolingType[job["pooling"]],
        normalization=True,
        sources=ModelSource(hf="local/model"),
        dim=job["dim"],
        model_file=job["graph"],
        additional_files=job["graph_data"],
    )
    model = TextEmbedding("local/model", specific_model_path=job["folder"], threads=job["threads"])
    model.model.tokenizer.enable_truncation(job["max_tokens"])
    # its default of 256 puts texts of all lengths in one batch, which is slower on a CPU
    return lambda texts: np.stack(list(model.embed(texts, batch_size=_BATCH)))


def open_light_embed(job: Job) -> Embed:
    """A local model; the number of threads is onnxruntime's own choice, so that it is bound to as many processors."""
    from light_embed import TextEmbedding

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    model = TextEmbedding(
        job["folder"],
        model_config={
            "onnx_file": job["graph"],
            "pooling_mode": {"MEAN": "mean", "CLS": "cls"}[job["pooling"]],
            "normalize": True,
        },
    )
    model.tokenizer.tokenizer.enable_truncation(job["max_tokens"])
    return lambda texts: np.asarray(model.encode(texts, batch_size=_BATCH))


def open_script(job: Job) -> Embed:
    """A careful script around onnxruntime: batches of texts of about one length, cut by tokens, mean or first token."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(job["folder"], "tokenizer.json")))
    tokenizer.enable_truncation(job["max_tokens"])
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(
        str(Path(job["folder"], job["graph"])), options, providers=["CPUExecutionProvider"]
    )
    names = {value.name for value in session.get_inputs()}

    def run(rows: list[list[int]]) -> npt.NDArray[np.float32]:
        token_ids = np.zeros((len(rows), len(rows[0])), dtype=np.int64)
        mask = np.zeros_like(token_ids)
        for row, ids in enumerate(rows):
            token_ids[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        feeds = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": np.zeros_like(token_ids)}
        hidden = session.run(None, {name: feeds[name] for name in names})[0]
        if job["pooling"] == "CLS":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)

    def embed(texts: list[str]) -> npt.NDArray[np.float32]:
        rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        found, start = [], 0
        while start < len(order):
            batch = order[start : start + max(1, _BATCH_TOKENS // len(rows[order[start]]))]
            found.append(run([rows[index] for index in batch]))
            start += len(batch)
        return np.concatenate(found)[np.argsort(order)]

    return embed


ACTIONS = {"vectors": vectors, "one_by_one": one_by_one, "together": together}
OPENERS = {
    "embedge": open_embedge,
    "sentence_transformers": open_sentence_transformers,
    "fastembed": open_fastembed,
    "light_embed": open_light_embed,
    "script": open_script,
}

if __name__ == "__main__":
    main()
