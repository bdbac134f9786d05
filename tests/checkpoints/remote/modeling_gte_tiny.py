"""An encoder as GTE's own code has it (model_type "new"): rotary positions, one matrix for queries, keys and values,
one for both halves of a gated unit, biases on attention alone, norms after the residual.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class GteTinyConfig(PretrainedConfig):
    model_type = "gte_tiny"

    def __init__(
        self,
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        hidden_act="gelu",
        type_vocab_size=1,
        rope_theta=20000.0,
        rope_scaling=None,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        **kwargs,
    ):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.intermediate_size, self.hidden_act = intermediate_size, hidden_act
        self.type_vocab_size, self.rope_theta, self.rope_scaling = type_vocab_size, rope_theta, rope_scaling
        self.layer_norm_eps = layer_norm_eps
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class GteTinyLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.config = config
        self.attention = nn.ModuleDict(
            {"qkv_proj": nn.Linear(width, 3 * width), "o_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {
                "up_gate_proj": nn.Linear(width, 2 * inner, bias=False),
                "down_proj": nn.Linear(inner, width),
            }
        )
        self.attn_ln = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp_ln = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def inverse_frequencies(self, size):
        scaling, theta = self.config.rope_scaling, self.config.rope_theta
        places = torch.arange(0, size, 2).float()
        # transformers 5 answers with all of rope_parameters
        if "factor" not in (scaling or {}):
            return theta ** -(places / size)
        # NTK with a fixed factor
        factor, mixed = scaling["factor"], scaling.get("mixed_b")
        if mixed is None:
            return (theta * factor) ** -(places / size) / factor ** (2 / size)
        strength = torch.log(torch.tensor(factor)) / (size / 2) ** mixed
        return theta ** -(places / size) / (strength * torch.arange(1, size // 2 + 1).float() ** mixed).exp()

    def rotate(self, states):
        length, size = states.shape[1], states.shape[-1]
        angles = torch.arange(length).float()[:, None] * self.inverse_frequencies(size)
        cos, sin = angles.cos().repeat(1, 2)[:, None], angles.sin().repeat(1, 2)[:, None]
        first, second = states.chunk(2, dim=-1)
        return states * cos + torch.cat([-second, first], dim=-1) * sin

    def forward(self, hidden, bias):
        batch, length, width = hidden.shape
        heads = self.config.num_attention_heads
        query, key, value = (
            part.view(batch, length, heads, width // heads)
            for part in self.attention["qkv_proj"](hidden).split(width, dim=-1)
        )
        query, key, value = (x.transpose(1, 2) for x in (self.rotate(query), self.rotate(key), value))
        scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5 + bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
        hidden = self.attn_ln(hidden + self.attention["o_proj"](mixed))
        up, gate = self.mlp["up_gate_proj"](hidden).split(self.config.intermediate_size, dim=-1)
        return self.mlp_ln(hidden + self.mlp["down_proj"](nn.functional.gelu(gate) * up))


class GteTinyModel(PreTrainedModel):
    config_class = GteTinyConfig

    def __init__(self, config):
        super().__init__(config)
        tables = {"word_embeddings": nn.Embedding(config.vocab_size, config.hidden_size)}
        if config.type_vocab_size:
            tables["token_type_embeddings"] = nn.Embedding(config.type_vocab_size, config.hidden_size)
        tables["LayerNorm"] = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.embeddings = nn.ModuleDict(tables)
        layers = nn.ModuleList(GteTinyLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.post_init()

    def forward(self, input_ids, attention_mask, **options):
        hidden = self.embeddings["word_embeddings"](input_ids)
        if "token_type_embeddings" in self.embeddings:
            hidden = hidden + self.embeddings["token_type_embeddings"](torch.zeros_like(input_ids))
        hidden = self.embeddings["LayerNorm"](hidden)
        bias = (1.0 - attention_mask[:, None, None].float()) * -1e9
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, bias)
        return BaseModelOutput(last_hidden_state=hidden)
