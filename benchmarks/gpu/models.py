"""Checkpoints with weights drawn from a seed, and our graphs and bundles of them, made on the spot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

SEED = 0
MAX_TOKENS = 512
VOCAB_SIZE = 30522


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes that decide the work per token."""

    layers: int
    hidden: int
    heads: int

    def flop_per_token(self, seq_len: float) -> float:
        """Floating-point operations of the matrix products for one token of a text of seq_len tokens."""
        weights = 12 * self.hidden * self.hidden
        return self.layers * (2 * weights + 4 * seq_len * self.hidden)


SIZES = {
    "bert-base": Size(layers=12, hidden=768, heads=12),
    "minilm": Size(layers=6, hidden=384, heads=12),
}
_ONE = {"separate_from": None}
_STANDARD = _ONE | {"packed": False, "attention": "standard"}
FORMS = {
    "packed": {},
    "attention": _ONE | {"packed": False, "attention": "merged"},
    "multi_head_attention": _ONE | {"packed": False, "attention": "separate"},
    "packed_attention": _ONE | {"packed": True, "attention": "merged"},
    "packed_multi_head_attention": _ONE | {"packed": True, "attention": "separate"},
    "standard": _STANDARD,
    "query": _STANDARD | {"split_matrices": True},
    "bfloat16": _STANDARD | {"precision": "bf16"},
}
"""Choices that differ from CUDA_FP16."""


def checkpoint(name: str, root: Path, tokenizer: Path) -> Path:
    """Folder of a sentence-transformers checkpoint in BERT's form; written on first use."""
    folder = root / name
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    size = SIZES[name]
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        num_hidden_layers=size.layers,
        hidden_size=size.hidden,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        # large enough for texts to differ: with BERT's 0.02 all outputs are nearly the same
        initializer_range=0.05,
        architectures=["BertModel"],
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            # biases and norms as a trained model has them, not zeros and ones
            torch.nn.init.normal_(parameter, parameter.mean().item(), 0.05)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    special = {f"{word}_token": f"[{word.upper()}]" for word in ("unk", "sep", "pad", "cls", "mask")}
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_TOKENS, **special}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": size.hidden, "pooling_mode_mean_tokens": True}
    for path, content in (
        ("tokenizer_config.json", facts),
        ("modules.json", modules),
        ("sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False}),
        ("1_Pooling/config.json", pooling),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content))
    return folder


def graph(folder: Path, form: str | None):
    """Our graph of a checkpoint with mean pooling: a form for CUDA in float16, or None for the CPU's in float32."""
    return fill(*graph_without_weights(folder, form))


def graph_without_weights(folder: Path, form: str | None):
    """The same graph before its weights are read, and what reads them by name."""
    from embedge_export.families.table import FAMILIES, read_encoder
    from embedge_export.graph.built.build import build
    from embedge_export.graph.built.choices import CUDA_FP16
    from embedge_export.graph.built.cuda import build_cuda
    from embedge_export.graph.built.weights import StoredWeights

    config = json.loads((folder / "config.json").read_text())
    facts = {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0} | config
    encoder = read_encoder(facts)
    weights = StoredWeights([folder / "model.safetensors"], FAMILIES[config["model_type"]].prefixes)
    if form is None:
        model, loads = build(encoder, weights)
    else:
        choices = msgspec.structs.replace(CUDA_FP16, **FORMS[form])
        model, loads = build_cuda(encoder, weights, choices)
    return pooled(model, encoder, "MEAN"), loads


def pooled(model, encoder, mode: str):
    """A graph with one more output: its hidden states pooled."""
    from embedge_export.graph.pooling_nodes import PoolingNodes

    head = PoolingNodes(model)
    head.pool("last_hidden_state", (mode,), output="sentence_embedding")
    head.output("sentence_embedding", ["batch_size", encoder.hidden_size])
    return model


def for_cuda(encoder, weights, precision: str):
    """An encoder's graph for CUDA as the exporter writes it, filled, and its form of attention."""
    from embedge_export.graph.built.choices import CUDA_BF16, CUDA_FP16
    from embedge_export.graph.built.cuda import build_cuda, suited

    choices = suited(encoder, {"fp16": CUDA_FP16, "bf16": CUDA_BF16}[precision])
    form = choices.attention if choices.packed_below is None else "by batch"
    return fill(*build_cuda(encoder, weights, choices)), form


def fill(model, loads):
    """Read every weight into a graph."""
    for tensor in model.graph.initializer:
        if tensor.name in loads:
            tensor.raw_data = loads[tensor.name]().tobytes()
    return model


def families() -> dict[str, dict]:
    """Configurations of small encoders of every family."""
    found: dict[str, dict] = json.loads(Path(__file__).with_name("families.json").read_text())
    return found


def family_graphs(name: str, precision: str):
    """A small encoder of a family: its float32 graph, its graph for CUDA, and inputs for both.

    Returns:
        Both as bytes, the form of attention of the second, and the inputs.
    """
    from embedge_export.families.table import read_encoder
    from embedge_export.graph.built.build import build
    from embedge_export.graph.built.weights import SeededWeights

    encoder, weights = read_encoder(families()[name]), SeededWeights(SEED)
    full = fill(*build(encoder, weights))
    made, form = for_cuda(encoder, weights, precision)
    inputs = feeds(8, 48, ragged=True)
    inputs["input_ids"] = np.where(inputs["attention_mask"], inputs["input_ids"] % 900 + 50, 0)
    wanted = {value.name for value in full.graph.input}
    return (
        full.SerializeToString(),
        made.SerializeToString(),
        form,
        {key: value for key, value in inputs.items() if key in wanted},
    )


def bundle(folder: Path, target: Path, form: str) -> Path:
    """A bundle of the float32 graph and one form for CUDA; nothing in it was verified, which the benchmark does."""
    from embedge import manifest as m
    from embedge.bundle import sha256_file
    from embedge.runtime import __version__
    from embedge_export.write.graph_files import save_graph

    if (target / m.MANIFEST_FILE).is_file():
        return target
    (target / "onnx").mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (target / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    unknown = m.Fidelity(num_texts=0, max_abs_diff=0.0, max_batch_diff=0.0)
    variants = {}
    for name, dtype, device, made_as in (
        ("fp32", "float32", "cpu", None),
        ("fp16_cuda", "float16", "cuda", form),
    ):
        model, loads = graph_without_weights(folder, made_as)
        file, data_files = save_graph(model, target, f"model_{name}", loads)
        query_file = None
        if device == "cuda":
            query, query_loads = graph_without_weights(folder, "query")
            query_file, _ = save_graph(query, target, "model_query", query_loads, beside=(model, data_files))
        variants[name] = m.Variant(
            file=file,
            data_files=data_files,
            dtype=dtype,
            target=device,
            fidelity=unknown,
            query_file=query_file,
            disabled_optimizers=("SkipLayerNormFusion",) if device == "cpu" else (),
        )
    (target / m.PROBES_FILE).write_bytes(msgspec.json.encode(m.Probes(tolerances={"fp32": 1e-3}, probes=())))
    manifest = m.Manifest(
        schema_version=m.SCHEMA_VERSION,
        name=folder.name,
        architecture="BertModel",
        tasks=("embed",),
        hidden_size=config["hidden_size"],
        embedding_size=config["hidden_size"],
        vocab_size=VOCAB_SIZE,
        max_seq_len=MAX_TOKENS,
        tokenizer=m.TokenizerSpec(pad_token_id=0, prefix_ids=(101,), suffix_ids=(102,)),
        pooling=m.PoolingSpec(modes=("MEAN",)),
        graph=m.GraphSpec(
            inputs=("input_ids", "attention_mask", "token_type_ids"),
            hidden="last_hidden_state",
            pooled="sentence_embedding",
        ),
        normalize=True,
        variants=variants,
        files={
            path.relative_to(target).as_posix(): m.FileRecord(
                size_bytes=path.stat().st_size, sha256=sha256_file(path)
            )
            for path in sorted(target.rglob("*"))
            if path.is_file()
        },
        source=m.SourceSpec(name=folder.name, weights_sha256={}),
        exporter={"embedge": __version__},
        fingerprint="0" * 64,
    )
    manifest = msgspec.structs.replace(manifest, fingerprint=m.fingerprint(manifest))
    (target / m.MANIFEST_FILE).write_bytes(m.dump_manifest(manifest))
    return target


def feeds(batch_size: int, seq_len: int, ragged: bool = False) -> dict[str, np.ndarray]:
    """Token ids without a tokenizer; ragged rows have lengths of 4 to seq_len, half of it on average."""
    rng = np.random.default_rng([SEED, batch_size, seq_len])
    ids = rng.integers(1000, 30000, (batch_size, seq_len), dtype=np.int64)
    mask = np.ones_like(ids)
    if ragged:
        lengths = np.clip(rng.normal(63 / 128 * seq_len, seq_len / 5, batch_size), 4, seq_len).astype(int)
        lengths[0] = seq_len
        mask = (np.arange(seq_len) < lengths[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
