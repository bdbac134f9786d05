"""Tiny bundles whose graph takes prefixes: what it gives for a text is a sum over its tokens, each times its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.bundles import rewrite

from embedge.manifest import PREFIX_TOKENS, Manifest, PrefixSpec, made_names, prefix_names
from embedge.testing import TinyKind, tiny_bundle

SIZE = 4
TABLE = np.random.default_rng(3).integers(-3, 4, (64, SIZE)).astype(np.float32)
_INT, _FLOAT = TensorProto.INT64, TensorProto.FLOAT


def row(token_ids: Sequence[int]) -> np.ndarray:
    """What the graph gives for a text."""
    return (TABLE[list(token_ids)] * np.arange(1, len(token_ids) + 1)[:, None]).sum(axis=0)


def summing_bundle(folder: Path, kind: TinyKind = "embed", **prefix: int) -> Path:
    """A bundle of kind "embed" with pooling LAST, or "llm_reranker", whose score is the first component."""
    changes = {
        "max_seq_len": 2048,
        **({"embedding_size": SIZE, "hidden_size": SIZE} if kind == "embed" else {}),
    }
    bundle = tiny_bundle(folder, kind, pooling=("LAST",), special_tokens=False, changes=changes)

    def changed(manifest: Manifest) -> Manifest:
        graph = msgspec.structs.replace(manifest.graph, inputs=("input_ids", "attention_mask"))
        onnx.save(_graph(graph.inputs, graph.pooled), bundle / "onnx" / "model.onnx")
        spec = PrefixSpec(num_layers=1, numbers_per_token=2 * SIZE, score_heads=1, **prefix)
        variant = msgspec.structs.replace(manifest.variants["fp32"], prefix=spec)
        return msgspec.structs.replace(manifest, graph=graph, variants={"fp32": variant})

    rewrite(bundle, changed)
    return bundle


def _graph(inputs: Sequence[str], pooled: str | None) -> onnx.ModelProto:
    assert pooled is not None
    (keys, values), (made_keys, made_values) = prefix_names(0), made_names(0)
    empty = np.zeros((1, 1, 0, SIZE), np.float32)
    weights = {
        "table": TABLE, keys: empty, values: empty, PREFIX_TOKENS: np.zeros(1, np.int64), "zero": np.array([0]),
        "one": np.array([1]), "two": np.array([2]), "one and two": np.array([1, 2]),
        "size": np.array([1 if pooled == "logits" else SIZE]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
        helper.make_node("CumSum", ["attention_mask", "one"], ["count"]),
        helper.make_node("Shape", [values], ["before"], start=2, end=3),
        helper.make_node("Add", ["count", "before"], ["places"]),
        helper.make_node("Mul", ["places", "attention_mask"], ["real"]),
        helper.make_node("Cast", ["real"], ["factors"], to=_FLOAT),
        helper.make_node("Unsqueeze", ["factors", "two"], ["columns"]),
        helper.make_node("Mul", ["last_hidden_state", "columns"], ["each"]),
        helper.make_node("ReduceSum", ["each", "one"], ["own"], keepdims=0),
        helper.make_node("ReduceSum", [values, "one and two"], ["far"], keepdims=0),
        helper.make_node("Add", ["own", "far"], ["sums"]),
        helper.make_node("Slice", ["sums", "zero", "size", "one"], [pooled]),
        helper.make_node("Unsqueeze", ["each", "one"], ["by head"]),
        *(
            helper.make_node("Slice", ["by head", "zero", PREFIX_TOKENS, "two"], [name])
            for name in (made_keys, made_values)
        ),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "sums",
        [
            *(info(name, _INT, ["batch", "length"]) for name in inputs),
            *(info(name, _FLOAT, [1, 1, "before", SIZE]) for name in (keys, values)),
            info(PREFIX_TOKENS, _INT, [1]),
        ],
        [
            info("last_hidden_state", _FLOAT, ["batch", "length", SIZE]),
            info(pooled, _FLOAT, ["batch", int(weights["size"][0])]),
            *(info(name, _FLOAT, [1, 1, "made", SIZE]) for name in (made_keys, made_values)),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
