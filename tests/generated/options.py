"""The table of what a generated checkpoint may state, and which of it is switched on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.checkpoints.saving import labels
from tests.generated.plan import Plan
from tests.installed import SENTENCE_TRANSFORMERS_6, TRANSFORMERS_5

Apply = Callable[[Plan, Random], None]
ROTARY = ("qwen3", "llama", "mistral")
DECODERS = (*ROTARY, "qwen3-causal")
ENCODERS = ("bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "electra", "albert")
_BERT_CONFIG = "sentence_bert_config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU")
MESSAGE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}{{- part.text }}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
)


@dataclass(frozen=True)
class Option:
    """One thing that a checkpoint may state.

    Attributes:
        apply: puts it into a plan.
        kinds: of checkpoints that can state it.
        share: how often it is drawn where it fits.
        networks: those that it fits; empty for all.
        on: whether it is drawn; off where an export is known to differ.
        needs: what else has to be in the plan.
    """

    apply: Apply
    kinds: tuple[str, ...] = ("embedder",)
    share: float = 0.15
    networks: tuple[str, ...] = ()
    on: bool = True
    needs: Callable[[Plan], bool] = lambda _: True

    def fits(self, plan: Plan) -> bool:
        networks = not self.networks or plan.network in self.networks
        return plan.kind in self.kinds and networks and self.needs(plan)


def _after(*modules: tuple[str, dict[str, Any]]) -> Apply:
    return lambda plan, _: plan.modules.extend(modules)


def _dense(plan: Plan, chance: Random, **more: Any) -> None:
    size = next((m["out_features"] for name, m in reversed(plan.modules) if name == "Dense"), plan.size)
    out = size if more.get("use_residual") else chance.choice((8, 16, 24, 40))
    settings = {
        "in_features": size,
        "out_features": out,
        "bias": chance.random() < 0.7,
        "activation": chance.choice(ACTIVATIONS),
    }
    plan.modules.append(("Dense", settings | more))


def _width(plan: Plan) -> int:
    return next((m["out_features"] for name, m in reversed(plan.modules) if name == "Dense"), plan.size)


def _dense_to(name: str) -> Apply:
    return lambda plan, chance: _dense(plan, chance, module_output_name=name)


def _layer_norm(plan: Plan, _: Random) -> None:
    plan.modules.append(("LayerNorm", {"dimension": _width(plan)}))


def _token_dense(plan: Plan, chance: Random) -> None:
    plan.modules.insert(
        0,
        (
            "TokenDense",
            {"in_features": 32, "out_features": 32, "bias": True, "activation": chance.choice(ACTIVATIONS)},
        ),
    )


def _any_order(plan: Plan, chance: Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        kind = chance.choice(("Dense", "Normalize", "Dropout"))
        if kind == "Dense":
            _dense(plan, chance)
        else:
            plan.modules.append((kind, {}))


def _prompts(plan: Plan, chance: Random) -> None:
    texts = {
        "query": "query: ",
        "document": "",
        "passage": "passage: ",
        "web": "Search the web for this:\nQuery:",
    }
    names = chance.sample(list(texts), chance.randrange(1, 4))
    plan.settings["prompts"] = {name: texts[name] for name in names}


def _default_prompt(plan: Plan, chance: Random) -> None:
    plan.settings["default_prompt_name"] = chance.choice(list(plan.settings["prompts"]))


def _has_prompts(plan: Plan) -> bool:
    return bool(plan.settings.get("prompts"))


def _is_cut_left(plan: Plan) -> bool:
    return plan.tokenizer.get("truncation_side") == "left"


def _state(**choices: tuple[Any, ...]) -> Apply:
    """Settings of the library's model."""
    return lambda plan, chance: plan.settings.update({name: chance.choice(c) for name, c in choices.items()})


def _edit(file: str, **choices: tuple[Any, ...]) -> Apply:
    return lambda plan, chance: plan.edit(file, **{name: chance.choice(c) for name, c in choices.items()})


def _config(**choices: tuple[Any, ...]) -> Apply:
    return lambda plan, chance: plan.config.update({name: chance.choice(c) for name, c in choices.items()})


def _tokenizer(**choices: tuple[Any, ...]) -> Apply:
    return lambda plan, chance: plan.tokenizer.update({name: chance.choice(c) for name, c in choices.items()})


def _two_poolings(plan: Plan, chance: Random) -> None:
    plan.pooling = tuple(chance.sample(("cls", "mean", "max", "lasttoken", "weightedmean"), 2))


def _truncated_json(plan: Plan, chance: Random) -> None:
    limit = chance.choice((8, 16))
    plan.edit(
        "tokenizer.json",
        truncation={"direction": "Right", "max_length": limit, "strategy": "LongestFirst", "stride": 0},
    )


def _half(plan: Plan, chance: Random) -> None:
    plan.dtype = chance.choice(("float16", "bfloat16"))


def _old(plan: Plan, _: Random) -> None:
    plan.is_old = True


def _labels(plan: Plan, chance: Random) -> None:
    plan.config["num_labels"] = chance.choice((2, 3, 5))


def _names(plan: Plan, chance: Random) -> None:
    names = ("yes", "no", "maybe", "never", "often")[
        : plan.config.get("num_labels", 1 if plan.kind == "cross_encoder" else 2)
    ]
    plan.config |= labels(*chance.sample(names, len(names)))


def _rope(plan: Plan, chance: Random) -> None:
    theta = chance.choice((500.0, 10_000.0, 1_000_000.0))
    plan.config["rope_parameters"] = chance.choice(
        (
            {"rope_type": "default", "rope_theta": theta},
            {"rope_type": "linear", "rope_theta": theta, "factor": 2.0},
            {"rope_type": "yarn", "rope_theta": theta, "factor": 4.0, "original_max_position_embeddings": 64},
            {
                "rope_type": "llama3", "rope_theta": theta, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
        )
    )  # fmt: skip


def _layer_types(plan: Plan, chance: Random) -> None:
    plan.config["num_hidden_layers"] = 3
    plan.config["layer_types"] = [chance.choice(("sliding_attention", "full_attention")) for _ in range(3)]


def _message(plan: Plan, _: Random) -> None:
    plan.tokenizer["chat_template"] = MESSAGE


_TEXT_KINDS = ("embedder", "sparse", "static")
_PAIRS = ("cross_encoder",)
_TEXTS = ("embedder", "classifier", "sparse")
_TRANSFORMERS = ("embedder", "cross_encoder", "classifier", "sparse")

OPTIONS: Mapping[str, Option] = {
    # the network
    "hidden_act": Option(
        _config(hidden_act=("relu", "gelu", "gelu_new", "silu")), ("embedder", "classifier"),
        networks=("bert", "roberta", "electra", "albert"),
    ),
    "one layer": Option(_config(num_hidden_layers=(1,)), networks=("bert", "roberta", "qwen3", "mistral")),
    "eps": Option(_config(layer_norm_eps=(1e-3, 1e-6)), networks=("bert", "mpnet", "roberta", "electra")),
    "rms eps": Option(_config(rms_norm_eps=(1e-3, 1e-5)), networks=ROTARY),
    "rope_parameters": Option(_rope, share=0.6 if TRANSFORMERS_5 else 0, networks=ROTARY),
    "sliding_window": Option(_config(sliding_window=(8, 32, None)), share=0.4, networks=("mistral",)),
    "is_causal false": Option(
        _config(is_causal=(False,)), share=0.3 if TRANSFORMERS_5 else 0, networks=("qwen3", "llama", "mistral")
    ),
    "layer_types": Option(
        _layer_types, ("embedder", "classifier"), share=0.6 if TRANSFORMERS_5 else 0, networks=("modernbert",)
    ),
    "half": Option(_half, (*_TEXT_KINDS, "cross_encoder", "classifier")),
    # the tokenizer
    "model_max_length": Option(
        _tokenizer(model_max_length=(12, 24, 64)), _TRANSFORMERS, needs=lambda plan: plan.network != "qwen3-causal"
    ),
    "limit shorter than the template": Option(
        _tokenizer(model_max_length=(64,)), _PAIRS, networks=("qwen3-causal",)
    ),
    "truncation_side": Option(_tokenizer(truncation_side=("left",)), _TEXTS, share=0.08),
    "truncation_side of pairs": Option(_tokenizer(truncation_side=("left",)), _PAIRS, share=0.1),
    "padding_side": Option(_tokenizer(padding_side=("left",)), ("embedder", "sparse"), share=0.1, networks=ENCODERS),
    "tokenizer.json truncates": Option(_truncated_json, ("embedder", "classifier", "sparse"), share=0.1),
    "message": Option(_message, networks=("qwen3",)),
    # modules
    "two poolings": Option(_two_poolings),
    "token dense": Option(_token_dense, share=0.08),
    "dense": Option(_dense, share=0.25),
    "second dense": Option(_dense, share=0.3, needs=lambda plan: bool(plan.modules)),
    "dense residual": Option(
        lambda plan, chance: _dense(plan, chance, use_residual=True), share=0.1 if SENTENCE_TRANSFORMERS_6 else 0
    ),
    "layer norm": Option(_layer_norm, share=0.1),
    "any order": Option(_any_order, share=0.15),
    "normalize": Option(_after(("Normalize", {})), ("embedder", "static"), share=0.5),
    "normalize then dense": Option(
        _dense, share=0.2, needs=lambda plan: ("Normalize", {}) in plan.modules
    ),
    "dropout": Option(_after(("Dropout", {})), share=0.1),
    "dense to another name": Option(_dense_to("other"), share=0.06),
    "module without a reader": Option(_after(("CNN", {})), share=0.04),
    # what the library's own files state
    "prompts": Option(_prompts, _TEXT_KINDS, share=0.4),
    "default_prompt_name": Option(_default_prompt, _TEXT_KINDS, share=0.4, needs=_has_prompts),
    "include_prompt false": Option(
        _state(include_prompt=(False,)), share=0.4,
        needs=lambda plan: _has_prompts(plan) and not _is_cut_left(plan) and "weightedmean" not in plan.pooling,
    ),
    "include_prompt false, truncation_side left": Option(
        _state(include_prompt=(False,)), share=0.8,
        needs=lambda plan: _has_prompts(plan) and _is_cut_left(plan),
    ),
    "include_prompt false, weightedmean": Option(
        _state(include_prompt=(False,)), share=0.8,
        needs=lambda plan: _has_prompts(plan) and "weightedmean" in plan.pooling,
    ),
    "truncate_dim": Option(_state(truncate_dim=(4, 8))),
    "similarity": Option(_state(similarity_fn_name=("dot", "euclidean", "manhattan")), share=0.2),
    "max_seq_length": Option(_edit(_BERT_CONFIG, max_seq_length=(10, 30)), ("embedder", "sparse")),
    "do_lower_case": Option(_edit(_BERT_CONFIG, do_lower_case=(True,)), share=0.1),
    "processing_kwargs": Option(
        _edit(_BERT_CONFIG, processing_kwargs=({"text": {"max_length": 12}}, {"common": {"max_length": 9}})),
        share=0.08,
    ),
    "processor_kwargs": Option(
        _edit(_BERT_CONFIG, processor_kwargs=({"truncation_side": "left"}, {"model_max_length": 12})),
        share=0.08,
    ),
    "tokenizer_args": Option(_edit(_BERT_CONFIG, tokenizer_args=({"model_max_length": 12},)), share=0.08),
    "config_args": Option(
        _edit(_BERT_CONFIG, config_args=({"num_hidden_layers": 1},)), share=0.08, networks=("bert",)
    ),
    "old layout": Option(
        _old, ("embedder", "sparse"), share=0.2,
        needs=lambda plan: not {"LayerNorm", "TokenDense"} & {name for name, _ in plan.modules},
    ),
    # cross-encoders and classifiers
    "labels": Option(
        _labels, ("cross_encoder", "classifier"), share=0.3,
        networks=("bert", "roberta", "electra", "modernbert", "distilbert"),
    ),
    "label names": Option(
        _names, ("cross_encoder", "classifier"), share=0.7, needs=lambda plan: "causal" not in plan.network
    ),
    "activation": Option(_state(activation_fn=("Identity", "Sigmoid", "Tanh")), _PAIRS, share=0.5),
    "problem_type": Option(
        _config(problem_type=("regression", "multi_label_classification", "single_label_classification")),
        ("classifier",), share=0.5,
    ),
    "cross-encoder prompts": Option(_prompts, _PAIRS),
    "cross-encoder default prompt": Option(_default_prompt, _PAIRS, share=0.6, needs=_has_prompts),
    "cross-encoder of modules": Option(
        lambda plan, _: plan.modules.append(("Scores", {})), _PAIRS, share=0.2,
        networks=("bert", "roberta", "electra", "modernbert"), needs=lambda plan: "num_labels" not in plan.config,
    ),
    # sparse and static
    "strategy": Option(
        _state(pooling_strategy=("max", "sum"), activation_function=("relu", "log1p_relu")), ("sparse",), share=0.5
    ),
    "static truncates": Option(_truncated_json, ("static",), share=0.3),
}  # fmt: skip
"""In the order in which they are applied; modules follow each other in it."""
