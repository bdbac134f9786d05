"""An encoder as NomicBERT's own code has it: rotary positions, SwiGLU, norms after the residual, no biases.

The settings have GPT-2's names, and this one file holds configuration and model, as in many repositories.
"""

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class NomicTinyConfig(PretrainedConfig):
    model_type = "nomic_tiny"
    attribute_map = {  # noqa: RUF012  # transformers' own way
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    }

    def __init__(
        self,
        vocab_size=30528,
        n_positions=2048,
        n_embd=768,
        n_layer=12,
        n_head=12,
        n_inner=3072,
        type_vocab_size=2,
        rotary_emb_base=1000.0,
        prenorm=False,
        layer_norm_epsilon=1e-12,
        initializer_range=0.02,
        pad_token_id=0,
        **kwargs,
    ):
        self.vocab_size, self.n_positions, self.type_vocab_size = vocab_size, n_positions, type_vocab_size
        self.n_embd, self.n_layer, self.n_head, self.n_inner = n_embd, n_layer, n_head, n_inner
        self.rotary_emb_base, self.prenorm = rotary_emb_base, prenorm
        self.layer_norm_epsilon, self.initializer_range = layer_norm_epsilon, initializer_range
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class NomicTinyAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, self.base = config.n_head, config.rotary_emb_base
        self.Wqkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def rotate(self, states):
        # states: (batch, heads, seq, size); halves, not neighbours, form a pair
        length, size = states.shape[-2:]
        frequencies = self.base ** -(torch.arange(0, size, 2, device=states.device).float() / size)
        angles = torch.arange(length, device=states.device).float()[:, None] * frequencies
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        first, second = states.chunk(2, dim=-1)
        return states * cos + torch.cat([-second, first], dim=-1) * sin

    def forward(self, hidden_states, bias):
        batch, length, width = hidden_states.shape
        projected = self.Wqkv(hidden_states).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(
            self.rotate(query), self.rotate(key), value, attn_mask=bias
        )
        return self.out_proj(attended.transpose(1, 2).reshape(batch, length, width))


class NomicTinyMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.fc11 = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.fc12 = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.fc2 = nn.Linear(config.n_inner, config.n_embd, bias=False)

    def forward(self, hidden_states):
        return self.fc2(self.fc11(hidden_states) * nn.functional.silu(self.fc12(hidden_states)))


class NomicTinyBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attn, self.mlp = NomicTinyAttention(config), NomicTinyMLP(config)
        self.norm1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.norm2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(self, hidden_states, bias):
        hidden_states = self.norm1(hidden_states + self.attn(hidden_states, bias))
        return self.norm2(hidden_states + self.mlp(hidden_states))


class NomicTinyModel(PreTrainedModel):
    config_class = NomicTinyConfig
    base_model_prefix = "model"

    def __init__(self, config, add_pooling_layer=False):
        super().__init__(config)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(config.vocab_size, config.n_embd),
                "token_type_embeddings": nn.Embedding(config.type_vocab_size, config.n_embd),
            }
        )
        self.emb_ln = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        layers = nn.ModuleList(NomicTinyBlock(config) for _ in range(config.n_layer))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings["word_embeddings"]

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, return_dict=True, **kwargs):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        hidden_states = self.embeddings["word_embeddings"](input_ids)
        hidden_states = hidden_states + self.embeddings["token_type_embeddings"](token_type_ids)
        hidden_states = self.emb_ln(hidden_states)
        bias = (1.0 - attention_mask[:, None, None, :].to(hidden_states.dtype)) * -1e9
        for layer in self.encoder["layers"]:
            hidden_states = layer(hidden_states, bias)
        if not return_dict:
            return (hidden_states, None)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states)
