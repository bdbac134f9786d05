"""A tiny seeded checkpoint whose architecture comes as Python code beside its weights."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from tests.export.tiny import word_piece, write_json
from tests.export.tiny_kinds import labels, modules

CODE = Path(__file__).with_name("remote_encoder")
FILES = ("configuration_gated.py", "modeling_gated.py")
_AUTO_CLASSES = {
    "GatedModel": "AutoModel",
    "GatedForSequenceClassification": "AutoModelForSequenceClassification",
    "GatedForTokenClassification": "AutoModelForTokenClassification",
}


def gated(folder: Path, model_class: str = "GatedModel", *names: str, pooling: str | None = "mean") -> Path:
    """Save a model with its code, as `save_pretrained` does for custom code."""
    import torch

    torch.manual_seed(5)
    configuration = importlib.import_module("tests.export.remote_encoder.configuration_gated")
    modeling = importlib.import_module("tests.export.remote_encoder.modeling_gated")
    tokenizer = word_piece()
    config = configuration.GatedConfig(vocab_size=len(tokenizer), **(labels(*names) if names else {}))
    config.auto_map = {
        "AutoConfig": "configuration_gated.GatedConfig",
        _AUTO_CLASSES[model_class]: f"modeling_gated.{model_class}",
    }
    model = getattr(modeling, model_class)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name in FILES:
        shutil.copyfile(CODE / name, folder / name)
    if pooling is not None and not names:
        modules(folder, ("1_Pooling", "Pooling"))
        write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": pooling})
    return folder
