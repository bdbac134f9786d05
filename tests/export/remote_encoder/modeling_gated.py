"""A rotary encoder with gated feed-forward layers, in the manner of NomicBERT and GTE-new."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput, TokenClassifierOutput

from .configuration_gated import GatedConfig  # noqa: TID252  # as remote code has to


def rotate(x, positions):
    """Turn pairs of the last axis by angles that grow with the position; x is (batch, heads, seq, size)."""
    half = x.shape[-1] // 2
    angles = positions[:, None] / 1000.0 ** (torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.up_gate = nn.Linear(size, 2 * inner, bias=False)
        self.down = nn.Linear(inner, size)
        self.norm1 = nn.LayerNorm(size)
        self.norm2 = nn.LayerNorm(size)

    def forward(self, hidden, bias, positions):
        batch, length, size = hidden.shape
        q, k, v = (
            self.qkv(hidden).view(batch, length, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        )
        q, k = rotate(q, positions), rotate(k, positions)
        probs = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1)
        mixed = (probs @ v).transpose(1, 2).reshape(batch, length, size)
        hidden = self.norm1(hidden + self.out(mixed))
        up, gate = self.up_gate(hidden).chunk(2, -1)
        return self.norm2(hidden + self.down(up * nn.functional.silu(gate)))


class GatedPreTrainedModel(PreTrainedModel):
    config_class = GatedConfig
    base_model_prefix = "encoder"


class GatedModel(GatedPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.types = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, return_dict=True):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        bias = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        positions = torch.arange(input_ids.shape[1], dtype=torch.float32)
        hidden = self.words(input_ids) + self.types(token_type_ids)
        for layer in self.layers:
            hidden = layer(hidden, bias, positions)
        return BaseModelOutput(last_hidden_state=hidden)


class GatedForSequenceClassification(GatedPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.encoder = GatedModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, return_dict=True):
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(hidden[:, 0]))


class GatedForTokenClassification(GatedForSequenceClassification):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, return_dict=True):
        hidden = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state
        return TokenClassifierOutput(logits=self.classifier(hidden))
