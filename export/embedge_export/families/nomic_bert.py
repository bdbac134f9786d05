"""NomicBERT, as nomic-embed-text stores it: rotary positions, gated units, BERT's norms."""

from __future__ import annotations

from embedge_export.families.family import Family
from embedge_export.families.parts import (
    Config,
    UnsupportedError,
    expect,
    layer_norm,
    linear,
)
from embedge_export.families.rotary import rotary
from embedge_export.families.rotary_layers import RotaryLayer, embedding_with_types, rotary_encoder
from embedge_export.families.spelling import FULL
from embedge_export.families.structure import Encoder, FeedForward, HiddenActivation, Sublayer

_ACTIVATIONS: dict[str, HiddenActivation] = {"geglu": "gelu", "swiglu": "silu"}


def _encoder(config: Config) -> Encoder:
    if "n_embd" not in config:
        config = _in_own_words(config)
    expect(
        config,
        prenorm=False,
        use_rms_norm=False,
        parallel_block=False,
        causal=False,
        rotary_emb_fraction=1.0,
        rotary_emb_interleaved=False,
        rotary_emb_scale_base=None,
        rotary_scaling_factor=None,
        max_position_embeddings=0,
        num_experts=0,
    )
    size, inner, heads = int(config["n_embd"]), config.get("n_inner"), int(config["n_head"])
    inner = 4 * size if inner is None else int(inner)
    act = config["activation_function"]
    if act not in _ACTIVATIONS:
        raise UnsupportedError(
            f"activation_function={act!r} has no built graph; expected 'swiglu' or 'geglu'"
        )
    epsilon = float(config["layer_norm_epsilon"])
    qkv_bias = bool(config["qkv_proj_bias"])
    bias1, bias2 = bool(config["mlp_fc1_bias"]), bool(config["mlp_fc2_bias"])
    positions = rotary({"rope_theta": config["rotary_emb_base"], "rope_type": "default"}, size // heads)

    def layer(index: int) -> RotaryLayer:
        at = f"encoder.layers.{index}"
        return RotaryLayer(
            merged=linear(f"{at}.attn.Wqkv", 3 * size, size, qkv_bias),
            output=linear(f"{at}.attn.out_proj", size, size, qkv_bias),
            rotary=positions,
            feed_forward=FeedForward(
                up=linear(f"{at}.mlp.fc11", inner, size, bias1),
                gate=linear(f"{at}.mlp.fc12", inner, size, bias1),
                down=linear(f"{at}.mlp.fc2", size, inner, bias2),
                activation=_ACTIVATIONS[act],
            ),
            around_attention=Sublayer(norm_after=layer_norm(f"{at}.norm1", size, epsilon)),
            around_feed_forward=Sublayer(norm_after=layer_norm(f"{at}.norm2", size, epsilon)),
        )

    # the table of words has a padded number of rows
    multiple = int(config.get("pad_vocab_size_multiple") or 1)
    vocab_size = int(config["vocab_size"])
    rows = -(-vocab_size // multiple) * multiple
    embedding = embedding_with_types(config, rows, size, layer_norm("emb_ln", size, epsilon))
    return rotary_encoder(size, heads, int(config["n_layer"]), layer, embedding, vocab_size=vocab_size)


def _in_own_words(config: Config) -> Config:
    """The configuration of transformers' own class, in the words of the code that it replaces."""
    size, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    expect(config, hidden_act="silu", head_dim=size // heads)
    stated = config["rope_parameters"][FULL]
    if stated["rope_type"] != "default":
        raise UnsupportedError(f"rope_type {stated['rope_type']!r} has no built graph; expected 'default'")
    return {
        "activation_function": "swiglu",
        "layer_norm_epsilon": config["layer_norm_eps"],
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": size,
        "n_head": heads,
        "n_inner": config["intermediate_size"],
        "n_layer": config["num_hidden_layers"],
        "qkv_proj_bias": False,
        "rotary_emb_base": stated["rope_theta"],
        "type_vocab_size": config["type_vocab_size"],
        "vocab_size": config["vocab_size"],
    }


NOMIC_BERT = Family(
    pooling="MEAN",
    bounded_positions=False,
    remote=True,
    native=True,
    encoder=_encoder,
    prefixes=("model.", "bert.", "nomic_bert."),
)
