"""Models of other layouts at a real size, drawn from a seed: a decoder, and an encoder with windows and rotations."""

from __future__ import annotations

import gc

import numpy as np

from benchmarks.gpu import device, kernels
from benchmarks.gpu.models import SEED, feeds, fill, for_cuda, pooled
from benchmarks.gpu.timing import seconds_per_run

_ROPE = {"rope_theta": 1000000.0, "rope_scaling": None}
CONFIGS = {
    # the sizes of Qwen3-Embedding-0.6B, with fewer words
    "qwen3, 0.6 B": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "attention_bias": False, "vocab_size": 30522, "max_position_embeddings": 32768,
        "layer_types": ["full_attention"] * 28, **_ROPE,
    },
    # those of ModernBERT-base, likewise
    "modernbert, base": {
        "model_type": "modernbert", "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
        "num_attention_heads": 12, "norm_eps": 1e-5, "norm_bias": False, "attention_bias": False, "mlp_bias": False,
        "hidden_activation": "gelu", "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        "local_attention": 128, "local_rope_theta": 10000.0, "vocab_size": 30522, "max_position_embeddings": 8192,
        "pad_token_id": 0, "cls_token_id": 101, "bos_token_id": 101, "sep_token_id": 102, "eos_token_id": 102,
    },
}  # fmt: skip
SHAPES = [(64, 128), (32, 512)]
POOLING = {"qwen3, 0.6 B": "LAST", "modernbert, base": "MEAN"}


def flop_per_token(name: str, seq_len: int) -> float:
    """Floating-point operations of a model's matrix products for one token of a text of seq_len tokens.

    A causal token attends to half of them on average, one in a window to no more than the window holds.
    """
    config = CONFIGS[name]
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    size = config.get("head_dim", hidden // config["num_attention_heads"])
    queries = size * config["num_attention_heads"]
    keys = size * config.get("num_key_value_heads", config["num_attention_heads"])
    weights = 2 * hidden * (queries + keys) + 3 * hidden * inner
    if "layer_types" in config:
        attended = layers * seq_len / 2
    else:
        wide = -(-layers // config["global_attn_every_n_layers"])
        attended = wide * seq_len + (layers - wide) * min(seq_len, config["local_attention"] + 1)
    return 2 * layers * weights + 4 * queries * attended


def _graph(name: str, precision: str | None) -> bytes:
    """With pooling; in float32 for the CPU where precision is None."""
    from embedge_export.families.table import read_encoder
    from embedge_export.graph.built.build import build
    from embedge_export.graph.built.weights import SeededWeights

    encoder, weights = read_encoder(CONFIGS[name]), SeededWeights(SEED)
    if precision is None:
        model = fill(*build(encoder, weights))
    else:
        model, _ = for_cuda(encoder, weights, precision)
    return pooled(model, encoder, POOLING[name]).SerializeToString()


def _torch_rates(name: str, dtype: str) -> dict[str, float]:
    """Tokens a second of transformers with SDPA, pooling left out."""
    import torch
    from transformers import AutoConfig, AutoModel

    settings = dict(CONFIGS[name])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device("cuda"):
        model = AutoModel.from_config(config, attn_implementation="sdpa", dtype=getattr(torch, dtype)).eval()
    rates = {}
    with torch.inference_mode():
        for rows, size in SHAPES:
            host = feeds(rows, size)
            batch = {key: torch.from_numpy(host[key]).cuda() for key in ("input_ids", "attention_mask")}
            options = {"use_cache": False} if POOLING[name] == "LAST" else {}
            seconds = seconds_per_run(
                lambda batch=batch, options=options: model(**batch, **options), torch.cuda.synchronize
            )
            rates[f"{rows}x{size}"] = rows * size / seconds
    return rates


def measure(name: str) -> dict:
    """Device-only rates in half precision beside torch's, and agreement with float32 on the CPU."""
    batches = [feeds(6, 48, ragged=True)]
    wanted = ("input_ids", "attention_mask")
    inputs = [{key: batch[key] for key in wanted} for batch in batches]
    full = _graph(name, None)
    expected = [device.run_once(full, "CPUExecutionProvider", batch)[0] for batch in inputs]
    del full
    result: dict = {}
    for precision in ("fp16", "bf16"):
        made = device.DeviceGraph(_graph(name, precision))
        rows = [made.rows(batch) for batch in inputs]
        result[precision] = {
            "elsewhere": made.placement(),
            "agreement": device.agreement([row.astype(np.float64) for row in rows], expected),
            "tokens_per_s": made.rates(SHAPES),
            "query_ms": made.query_ms(),
        }
        del made
        gc.collect()
    result["torch"] = {dtype: _torch_rates(name, dtype) for dtype in ("float16", "bfloat16")}
    return result


def shares() -> dict[str, dict[str, dict[str, float]]]:
    """Where a run's time goes, by model and shape."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in CONFIGS:
        made = device.DeviceGraph(_graph(name, "fp16"))
        found[name] = {f"{rows}x{size}": kernels.shares(made, (rows, size)) for rows, size in SHAPES}
        found[name]["ragged"] = kernels.shares(made, (256, 128), ragged=True)
        del made
        gc.collect()
    return found
