"""Encoders with rotary positions and gated feed-forward: ModernBERT, NomicBERT, GTE's new layout."""

from __future__ import annotations

from embedge_export.families.parts import (
    Config,
    UnsupportedError,
    activation,
    expect,
    layer_norm,
    linear,
    post_norms,
    rows,
    self_attention,
)
from embedge_export.families.rotary import ntk_rotary, rotary
from embedge_export.families.structure import Embedding, Encoder, FeedForward, Layer, Sublayer, Tensor


def modernbert(config: Config) -> Encoder:
    """ModernBERT: norms before, windows and another theta in two layers of three."""
    size, inner, heads = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    epsilon, norm_bias = float(config["norm_eps"]), bool(config["norm_bias"])
    bias, mlp_bias = bool(config["attention_bias"]), bool(config["mlp_bias"])
    act = activation(config["hidden_activation"])
    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = f"layers.{index}"
        local = index % int(config["global_attn_every_n_layers"]) != 0
        theta = config["global_rope_theta"]
        if local and config.get("local_rope_theta") is not None:
            theta = config["local_rope_theta"]
        side = int(config["local_attention"]) // 2
        merged = linear(f"{at}.attn.Wqkv", 3 * size, size, bias)
        units = linear(f"{at}.mlp.Wi", 2 * inner, size, mlp_bias)
        layers.append(
            Layer(
                attention=self_attention(
                    size,
                    heads,
                    (rows(merged, part * size, (part + 1) * size) for part in range(3)),
                    linear(f"{at}.attn.Wo", size, size, bias),
                    rotary=rotary(float(theta), size // heads, config.get("rope_scaling")),
                    window=(side, side) if local else None,
                ),
                feed_forward=FeedForward(
                    gate=rows(units, 0, inner),
                    up=rows(units, inner, 2 * inner),
                    down=linear(f"{at}.mlp.Wo", size, inner, mlp_bias),
                    activation=act,
                ),
                around_attention=Sublayer(
                    norm_in=layer_norm(f"{at}.attn_norm", size, epsilon, norm_bias) if index else None
                ),
                around_feed_forward=Sublayer(norm_in=layer_norm(f"{at}.mlp_norm", size, epsilon, norm_bias)),
            )
        )
    vocab_size = int(config["vocab_size"])
    return Encoder(
        embedding=Embedding(
            words=Tensor(name="embeddings.tok_embeddings.weight", shape=(vocab_size, size)),
            norm=layer_norm("embeddings.norm", size, epsilon, norm_bias),
        ),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=vocab_size,
        final_norm=layer_norm("final_norm", size, epsilon, norm_bias),
    )


def nomic_bert(config: Config) -> Encoder:
    """NomicBERT, as nomic-embed-text stores it."""
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
    if config["activation_function"] not in ("swiglu", "geglu"):
        raise UnsupportedError(
            f"activation_function={config['activation_function']!r} has no built graph; expected 'swiglu' or 'geglu'"
        )
    epsilon = float(config["layer_norm_epsilon"])
    qkv_bias = bool(config["qkv_proj_bias"])
    bias1, bias2 = bool(config["mlp_fc1_bias"]), bool(config["mlp_fc2_bias"])
    layers = []
    for index in range(int(config["n_layer"])):
        at = f"encoder.layers.{index}"
        merged = linear(f"{at}.attn.Wqkv", 3 * size, size, qkv_bias)
        layers.append(
            Layer(
                attention=self_attention(
                    size,
                    heads,
                    (rows(merged, part * size, (part + 1) * size) for part in range(3)),
                    linear(f"{at}.attn.out_proj", size, size, qkv_bias),
                    rotary=rotary(float(config["rotary_emb_base"]), size // heads),
                ),
                feed_forward=FeedForward(
                    up=linear(f"{at}.mlp.fc11", inner, size, bias1),
                    gate=linear(f"{at}.mlp.fc12", inner, size, bias1),
                    down=linear(f"{at}.mlp.fc2", size, inner, bias2),
                    activation="silu" if config["activation_function"] == "swiglu" else "gelu",
                ),
                **post_norms(
                    layer_norm(f"{at}.norm1", size, epsilon), layer_norm(f"{at}.norm2", size, epsilon)
                ),
            )
        )
    multiple = int(config.get("pad_vocab_size_multiple") or 1)
    vocab_size = -(-int(config["vocab_size"]) // multiple) * multiple
    types = int(config.get("type_vocab_size") or 0)
    return Encoder(
        embedding=Embedding(
            words=Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, size)),
            types=Tensor(name="embeddings.token_type_embeddings.weight", shape=(types, size))
            if types
            else None,
            norm=layer_norm("emb_ln", size, epsilon),
        ),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=int(config["vocab_size"]),
    )


def gte_new(config: Config) -> Encoder:
    """GTE's new layout (model_type "new"): BERT's norms, rotary positions, gated units."""
    expect(
        config,
        position_embedding_type="rope",
        pack_qkv=True,
        layer_norm_type="layer_norm",
        logn_attention_scale=False,
    )
    size, inner, heads = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    epsilon = float(config["layer_norm_eps"])
    theta, scaling = float(config["rope_theta"]), config.get("rope_scaling")
    positions = rotary(theta, size // heads)
    if scaling is not None:
        if scaling.get("type") != "ntk":
            raise UnsupportedError(f"rope_scaling {scaling.get('type')!r} has no built graph; expected 'ntk'")
        positions = ntk_rotary(theta, size // heads, float(scaling["factor"]), scaling.get("mixed_b"))
    act = activation(config["hidden_act"])
    layers = []
    for index in range(int(config["num_hidden_layers"])):
        at = f"encoder.layer.{index}"
        merged = linear(f"{at}.attention.qkv_proj", 3 * size, size)
        units = linear(f"{at}.mlp.up_gate_proj", 2 * inner, size, bias=False)
        layers.append(
            Layer(
                attention=self_attention(
                    size,
                    heads,
                    (rows(merged, part * size, (part + 1) * size) for part in range(3)),
                    linear(f"{at}.attention.o_proj", size, size),
                    rotary=positions,
                ),
                feed_forward=FeedForward(
                    up=rows(units, 0, inner),
                    gate=rows(units, inner, 2 * inner),
                    down=linear(f"{at}.mlp.down_proj", size, inner),
                    activation=act,
                ),
                **post_norms(
                    layer_norm(f"{at}.attn_ln", size, epsilon), layer_norm(f"{at}.mlp_ln", size, epsilon)
                ),
            )
        )
    vocab_size, types = int(config["vocab_size"]), int(config.get("type_vocab_size") or 0)
    return Encoder(
        embedding=Embedding(
            words=Tensor(name="embeddings.word_embeddings.weight", shape=(vocab_size, size)),
            types=Tensor(name="embeddings.token_type_embeddings.weight", shape=(types, size))
            if types
            else None,
            norm=layer_norm("embeddings.LayerNorm", size, epsilon),
        ),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=vocab_size,
    )
