"""A careful script on the bundle's graph: tokenizers, length-sorted batches of 32, one session with all threads."""

from __future__ import annotations

PACKAGES = ("onnxruntime", "tokenizers", "numpy")


def load(job):
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{job['bundle']}/tokenizer.json")
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = onnxruntime.InferenceSession(
        f"{job['bundle']}/onnx/model.onnx", options, providers=["CPUExecutionProvider"]
    )

    def embed(texts):
        order = np.argsort([-len(text) for text in texts], kind="stable")
        vectors = np.empty((len(texts), 384), dtype=np.float32)
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            encodings = tokenizer.encode_batch([texts[i] for i in batch])
            feeds = {
                "input_ids": np.array([e.ids for e in encodings]),
                "attention_mask": np.array([e.attention_mask for e in encodings]),
                "token_type_ids": np.array([e.type_ids for e in encodings]),
            }
            vectors[batch] = session.run(["sentence_embedding"], feeds)[0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed
