"""Decoders used as encoders, by the traits in which they differ; and EuroBERT."""

from __future__ import annotations

from typing import Literal

import msgspec

from embedge_export.families.decoder_layers import Traits, decoder, windows_of
from embedge_export.families.family import Family, HeadKind
from embedge_export.families.parts import Config, UnsupportedError, classifier, expect, linear
from embedge_export.families.spelling import FULL, SLIDING
from embedge_export.families.structure import Encoder, Growth, Head, WordLogits

FACTS = Family(pooling="LAST", bounded_positions=False, rounding_units=1024, prefixes=("model.",))
"""What decoders have in common.

Their hidden states reach magnitudes of 10 to 100, so that float32 itself leaves a hundred times its rounding of 1.
"""


def _llama(config: Config) -> Encoder:
    return decoder(config, _llama_traits(config, window=None))


def _eurobert(config: Config) -> Encoder:
    """EuroBERT: Llama whose tokens see each other."""
    return decoder(config, msgspec.structs.replace(_llama_traits(config, window=None), sight="both"))


def _mistral(config: Config) -> Encoder:
    """Mistral: Llama with a window."""
    return decoder(config, _llama_traits(config, window=config.get("sliding_window")))


def _ministral(config: Config) -> Encoder:
    """Ministral: Mistral with windows in some layers."""
    traits = _llama_traits(config, window=None)
    return decoder(config, msgspec.structs.replace(traits, windows=windows_of(config)))


def _ministral3(config: Config) -> Encoder:
    """Ministral3: Mistral whose queries grow with their positions."""
    ropes = config["rope_parameters"]
    rate, length = (
        ropes[FULL].get(key) for key in ("llama_4_scaling_beta", "original_max_position_embeddings")
    )
    if rate is None or length is None:
        raise UnsupportedError(
            "rope_parameters of a ministral3 model state no llama_4_scaling_beta or no "
            "original_max_position_embeddings; expected both"
        )
    # the second one is read by nothing
    idle = ("llama_4_scaling_beta", "max_position_embeddings")
    plain = {kind: {key: rope[key] for key in rope if key not in idle} for kind, rope in ropes.items()}
    traits = _llama_traits(config, window=config.get("sliding_window"))
    growth = Growth(rate=float(rate), length=int(length))
    return decoder(config, msgspec.structs.replace(traits, growth=growth, rotations=plain))


def _granite(config: Config) -> Encoder:
    """Granite: Llama with factors on words, scores and what blocks give."""
    traits = _llama_traits(config, window=None)
    factors = {
        "scale": float(config["attention_multiplier"]),
        "embedding_scale": float(config["embedding_multiplier"]),
        "residual_scale": float(config["residual_multiplier"]),
    }
    return decoder(config, msgspec.structs.replace(traits, **factors))


def _smollm3(config: Config) -> Encoder:
    """SmolLM3: Llama with layers that know no positions."""
    rotates = config["no_rope_layers"]
    unrotated = tuple(index for index in range(int(config["num_hidden_layers"])) if not rotates[index])
    traits = _llama_traits(config, window=None)
    return decoder(config, msgspec.structs.replace(traits, windows=windows_of(config), unrotated=unrotated))


def _olmo2(config: Config) -> Encoder:
    """OLMo 2: norms on what blocks give, and on all queries and keys of a token."""
    traits = _llama_traits(config, window=None)
    return decoder(config, msgspec.structs.replace(traits, norms="out", query_norms="all heads"))


def _olmo3(config: Config) -> Encoder:
    """OLMo 3: OLMo 2 with windows, whose layers no scaling of positions is for."""
    ropes = config["rope_parameters"]
    if config.get("rope_theta") is not None:  # in the words of transformers 4
        ropes = {**ropes, SLIDING: {"rope_type": "default", "rope_theta": config["rope_theta"]}}
    traits = msgspec.structs.replace(
        _llama_traits(config, window=None),
        windows=windows_of(config),
        norms="out",
        query_norms="all heads",
        rotations=ropes,
    )
    return decoder(config, traits)


def _phi3(config: Config) -> Encoder:
    """Phi3: Mistral with merged projections."""
    kinds = {rope["rope_type"] for rope in config["rope_parameters"].values()}
    if not kinds <= {"default", "longrope"}:
        raise UnsupportedError(
            f"rope_type {sorted(kinds)} is not one that Phi3 has; expected default or longrope"
        )
    traits = _llama_traits(config, window=config.get("sliding_window"))
    return decoder(config, msgspec.structs.replace(traits, qkv_bias=False, output_bias=False, merged=True))


def _gemma(config: Config) -> Encoder:
    """Gemma: Llama with scaled embeddings and norms that multiply by 1 + w."""
    expect(config, use_bidirectional_attention=False)
    traits = _llama_traits(config, window=None)
    scale = int(config["hidden_size"]) ** 0.5
    return decoder(config, msgspec.structs.replace(traits, norm_offset=1.0, embedding_scale=scale))


def _llama_traits(config: Config, window: int | None) -> Traits:
    bias = bool(config.get("attention_bias", False))
    windows = (window,) * int(config["num_hidden_layers"])
    return Traits(windows=windows, qkv_bias=bias, output_bias=bias, sight=_sight(config))


def _qwen2(config: Config) -> Encoder:
    """Qwen2: biases on queries, keys and values."""
    windows = windows_of(config)
    return decoder(config, Traits(windows=windows, qkv_bias=True, output_bias=False, sight=_sight(config)))


def _qwen3(config: Config) -> Encoder:
    """Qwen3: queries and keys are normalised per head."""
    bias = bool(config.get("attention_bias", False))
    traits = Traits(
        windows=windows_of(config), qkv_bias=bias, output_bias=bias, query_norms="head", sight=_sight(config)
    )
    return decoder(config, traits)


def _gemma2(config: Config) -> Encoder:
    """Gemma2: four norms a layer, scaled embeddings, scores that are capped, windows in every other layer."""
    expect(config, use_bidirectional_attention=False)
    cap = config["attn_logit_softcapping"]
    traits = msgspec.structs.replace(
        _llama_traits(config, window=None),
        windows=windows_of(config),
        norm_offset=1.0,
        norms="both",
        scale=float(config["query_pre_attn_scalar"]) ** -0.5,
        softcap=None if cap is None else float(cap),
        embedding_scale=int(config["hidden_size"]) ** 0.5,
        activation="hidden_activation",
    )
    return decoder(config, traits)


def _capped_words(config: Config) -> WordLogits:
    cap = config.get("final_logit_softcapping")
    return WordLogits(cap=None if cap is None else float(cap))


def _divided_words(config: Config) -> WordLogits:
    return WordLogits(divisor=float(config["logits_scaling"]))


def _gemma3_text(config: Config) -> Encoder:
    """Gemma3 text: four norms a layer, scaled embeddings, windows with a theta of their own."""
    expect(config, attn_logit_softcapping=None)
    bias = bool(config.get("attention_bias", False))
    both = bool(config.get("use_bidirectional_attention", False))
    traits = Traits(
        windows=windows_of(config),
        qkv_bias=bias,
        output_bias=bias,
        query_norms="head",
        norm_offset=1.0,
        norms="both",
        sight="both_exclusive" if both and config["is_causal"] else _sight(config),
        scale=float(config["query_pre_attn_scalar"]) ** -0.5,
        embedding_scale=int(config["hidden_size"]) ** 0.5,
        activation="hidden_activation",
    )
    return decoder(config, traits)


def _sight(config: Config) -> Literal["causal", "both"]:
    return "causal" if config["is_causal"] else "both"


def _eurobert_head(config: Config, kind: HeadKind) -> Head:
    size = int(config["hidden_size"])
    if kind == "token":
        return Head(last=classifier(config, size))
    if kind == "vocabulary":
        return Head(last=linear("lm_head", int(config["vocab_size"]), size, bool(config["mlp_bias"])))
    pooling = {"bos": "CLS", "mean": "MEAN"}.get(config["classifier_pooling"])
    if pooling is None:
        raise UnsupportedError(
            f"classifier_pooling={config['classifier_pooling']!r} has no built head; expected 'bos' or 'mean'"
        )
    return Head(
        pooling="CLS" if pooling == "CLS" else "MEAN",
        first=linear("dense", size, size),
        activation="gelu",
        last=classifier(config, size),
    )


EUROBERT = msgspec.structs.replace(FACTS, pooling="MEAN", encoder=_eurobert, head=_eurobert_head)
GEMMA = msgspec.structs.replace(FACTS, encoder=_gemma)
GEMMA2 = msgspec.structs.replace(FACTS, encoder=_gemma2, word_logits=_capped_words)
GEMMA3_TEXT = msgspec.structs.replace(FACTS, encoder=_gemma3_text, word_logits=_capped_words)
GRANITE = msgspec.structs.replace(FACTS, encoder=_granite, word_logits=_divided_words)
LLAMA = msgspec.structs.replace(FACTS, encoder=_llama)
MINISTRAL = msgspec.structs.replace(FACTS, encoder=_ministral)
MINISTRAL3 = msgspec.structs.replace(FACTS, encoder=_ministral3)
MISTRAL = msgspec.structs.replace(FACTS, encoder=_mistral)
OLMO2 = msgspec.structs.replace(FACTS, encoder=_olmo2)
OLMO3 = msgspec.structs.replace(FACTS, encoder=_olmo3)
PHI3 = msgspec.structs.replace(FACTS, encoder=_phi3)
QWEN2 = msgspec.structs.replace(FACTS, encoder=_qwen2)
QWEN3 = msgspec.structs.replace(FACTS, encoder=_qwen3)
SMOLLM3 = msgspec.structs.replace(FACTS, encoder=_smollm3)
