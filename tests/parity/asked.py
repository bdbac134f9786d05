"""What the parity tests ask, and how they load what answers."""

from __future__ import annotations

from pathlib import Path

from tests.corpus import texts

from embedge import EdgeModel

# mixed lengths, scripts and oddities; cut so that float32 sums over thousands of tokens are not what is compared
TEXTS = [text[:1500] for text in texts(80, seed=3) if text.strip()][:56]
PAIRS = [(f"how do foxes jump {TEXTS[i * 7 % 20][:30]}", text) for i, text in enumerate(TEXTS)]


def load(bundle: Path, **arguments) -> EdgeModel:
    """A model on the CPU that cuts what is too long, as the reference libraries do."""
    return EdgeModel(bundle, **{"device": "cpu", "truncate_prompt_tokens": -1, **arguments})
