"""Decoders used as encoders: Llama, Mistral, Qwen2, Qwen3, Gemma3 text."""

from __future__ import annotations

from embedge_export.families.parts import Config, UnsupportedError, activation, expect, linear, rms_norm
from embedge_export.families.rotary import rotary
from embedge_export.families.structure import (
    Attention,
    Embedding,
    Encoder,
    FeedForward,
    Layer,
    Norm,
    Rotary,
    Sublayer,
    Tensor,
    Window,
)


def llama(config: Config) -> Encoder:
    """Llama, and Mistral with its window."""
    bias = bool(config.get("attention_bias", False))
    window = config.get("sliding_window") if config["model_type"] == "mistral" else None
    windows = [window] * int(config["num_hidden_layers"])
    return _decoder(config, qkv_bias=bias, output_bias=bias, windows=windows)


def qwen2(config: Config) -> Encoder:
    """Qwen2: biases on queries, keys and values."""
    return _decoder(config, qkv_bias=True, output_bias=False, windows=_qwen_windows(config))


def qwen3(config: Config) -> Encoder:
    """Qwen3: queries and keys are normalised per head."""
    bias = bool(config.get("attention_bias", False))
    return _decoder(config, qkv_bias=bias, output_bias=bias, windows=_qwen_windows(config), head_norms=True)


def gemma3_text(config: Config) -> Encoder:
    """Gemma3 text: four norms a layer, scaled embeddings, windows with a theta of their own."""
    expect(config, attn_logit_softcapping=None, final_logit_softcapping=None)
    size = int(config["hidden_size"])
    both = bool(config.get("use_bidirectional_attention", False))
    windows = [
        int(config["sliding_window"]) if kind == "sliding_attention" else None
        for kind in config["layer_types"]
    ]
    bias = bool(config.get("attention_bias", False))
    return _decoder(
        config,
        qkv_bias=bias,
        output_bias=bias,
        windows=windows,
        head_norms=True,
        norm_offset=1.0,
        four_norms=True,
        causal=not both,
        scale=float(config["query_pre_attn_scalar"]) ** -0.5,
        embedding_scale=size**0.5,
        local_theta=float(config["rope_local_base_freq"]),
    )


def _qwen_windows(config: Config) -> list[int | None]:
    kinds = config.get("layer_types") or ["full_attention"] * int(config["num_hidden_layers"])
    return [int(config["sliding_window"]) if kind == "sliding_attention" else None for kind in kinds]


def _decoder(
    config: Config,
    *,
    qkv_bias: bool,
    output_bias: bool,
    windows: list[int | None],
    head_norms: bool = False,
    norm_offset: float = 0.0,
    four_norms: bool = False,
    causal: bool = True,
    scale: float | None = None,
    embedding_scale: float = 1.0,
    local_theta: float | None = None,
) -> Encoder:
    expect(config, partial_rotary_factor=1.0)
    size, inner, heads = (
        int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_dim = int(config.get("head_dim") or size // heads)
    if heads % kv_heads:
        raise UnsupportedError(f"{heads} heads do not divide among {kv_heads} heads of keys")
    epsilon = float(config["rms_norm_eps"])
    act = activation(config.get("hidden_activation") or config.get("hidden_act"))
    mlp_bias = bool(config.get("mlp_bias", False))
    everywhere = rotary(float(config["rope_theta"]), head_dim, config.get("rope_scaling"))
    # Gemma's windowed layers have their own theta, without scaling
    nearby = everywhere if local_theta is None else rotary(local_theta, head_dim)

    def norm(name: str, length: int = size) -> Norm:
        return rms_norm(name, length, epsilon, norm_offset)

    layers = []
    for index, window in enumerate(windows):
        at = f"layers.{index}"
        self_attn = f"{at}.self_attn"
        layers.append(
            Layer(
                attention=Attention(
                    query=linear(f"{self_attn}.q_proj", heads * head_dim, size, qkv_bias),
                    key=linear(f"{self_attn}.k_proj", kv_heads * head_dim, size, qkv_bias),
                    value=linear(f"{self_attn}.v_proj", kv_heads * head_dim, size, qkv_bias),
                    output=linear(f"{self_attn}.o_proj", size, heads * head_dim, output_bias),
                    num_heads=heads,
                    num_kv_heads=kv_heads,
                    head_dim=head_dim,
                    scale=head_dim**-0.5 if scale is None else scale,
                    query_norm=norm(f"{self_attn}.q_norm", head_dim) if head_norms else None,
                    key_norm=norm(f"{self_attn}.k_norm", head_dim) if head_norms else None,
                    rotary=_rotary_of(window, everywhere, nearby),
                    causal=causal,
                    window=_window(window, causal),
                ),
                feed_forward=FeedForward(
                    gate=linear(f"{at}.mlp.gate_proj", inner, size, mlp_bias),
                    up=linear(f"{at}.mlp.up_proj", inner, size, mlp_bias),
                    down=linear(f"{at}.mlp.down_proj", size, inner, mlp_bias),
                    activation=act,
                ),
                around_attention=Sublayer(
                    norm_in=norm(f"{at}.input_layernorm"),
                    norm_out=norm(f"{at}.post_attention_layernorm") if four_norms else None,
                ),
                around_feed_forward=Sublayer(
                    norm_in=norm(
                        f"{at}.pre_feedforward_layernorm" if four_norms else f"{at}.post_attention_layernorm"
                    ),
                    norm_out=norm(f"{at}.post_feedforward_layernorm") if four_norms else None,
                ),
            )
        )
    vocab_size = int(config["vocab_size"])
    return Encoder(
        embedding=Embedding(
            words=Tensor(name="embed_tokens.weight", shape=(vocab_size, size)), scale=embedding_scale
        ),
        layers=tuple(layers),
        hidden_size=size,
        vocab_size=vocab_size,
        final_norm=norm("norm"),
    )


def _rotary_of(window: int | None, everywhere: Rotary, nearby: Rotary) -> Rotary:
    return everywhere if window is None else nearby


def _window(window: int | None, causal: bool) -> Window | None:
    """Sides of a window; transformers counts the token itself, so that the farthest one seen is window - 1 away."""
    if window is None:
        return None
    return (window - 1, 0 if causal else window - 1)
