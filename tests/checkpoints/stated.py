"""Checkpoints whose files state something that is easy to pass over: each is one kind of silent difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints.classifiers import RERANKER_CHAT_TEMPLATE, qwen3
from tests.checkpoints.embedders import ST, bert, save_embedder, sparse_bert
from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import (
    build,
    dense,
    edit_json,
    labels,
    readme,
    save,
    saved,
)
from tests.checkpoints.vocabularies import byte_bpe, byte_fallback, word_piece
from tests.installed import SENTENCE_TRANSFORMERS_6

ROTARY = {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048}
DEFAULT = {"rope_type": "default", "rope_theta": 500.0}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 512}


def _rotary(name: str, family: str, rope: dict[str, Any], notes: str = "", **config: Any) -> None:
    @recipe(name, "embed", reference=ST, notes=notes or f"{family} with rope_parameters {rope['rope_type']}")
    def make(folder: Path, seed: int) -> None:
        tokenizer = byte_fallback("gemma") if family.startswith("Gemma") else byte_bpe("qwen-embedding")
        model = build(
            f"{family}Model",
            f"{family}Config",
            tokenizer,
            seed,
            **{**ROTARY, "rope_parameters": rope, **config},
        )
        save_embedder(folder, model, tokenizer, "lasttoken")


_rotary("rope-qwen3", "Qwen3", DEFAULT)
_rotary("rope-qwen2", "Qwen2", DEFAULT)
_rotary("rope-mistral", "Mistral", DEFAULT, sliding_window=None)
_rotary("rope-llama3", "Llama", LLAMA3)
_rotary("rope-yarn", "Qwen3", YARN)
_rotary("rope-gemma2", "Gemma2", DEFAULT, sliding_window=64)
_rotary("rope-phi3", "Phi3", DEFAULT, pad_token_id=0)
_rotary(
    "bidirectional-qwen3", "Qwen3", DEFAULT, is_causal=False, notes="is_causal false: attends in both directions",
)  # fmt: skip
_rotary(
    "bidirectional-llama", "Llama", DEFAULT, is_causal=False, notes="is_causal false: attends in both directions",
)  # fmt: skip


@recipe("modernbert-layer-types", "embed", reference=ST, notes="layer_types that no period gives")
def _modernbert(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("modernbert")
    model = build(
        "ModernBertModel", "ModernBertConfig", tokenizer, seed, num_hidden_layers=4, local_attention=8,
        layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
        max_position_embeddings=512, cls_token_id=tokenizer.cls_token_id, sep_token_id=tokenizer.sep_token_id,
    )  # fmt: skip
    save_embedder(folder, model, tokenizer, "mean")


MESSAGE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}{{- part.text }}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
)
DEFAULT_SYSTEM = (
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content | trim -%}"
    "{%- else -%}{%- set system = 'You are helpful.' -%}{%- endif -%}"
    "{{- 'system: ' + system + '\\nuser: ' + messages[-1].content | trim -}}"
    "{%- if add_generation_prompt -%}{{- '\\nassistant: the answer is' -}}{%- endif -%}"
)


def _message(name: str, notes: str, template: str, pooling: str = "lasttoken", **stated: Any) -> None:
    include_prompt = stated.pop("include_prompt", True)

    @recipe(name, "embed", reference=ST, notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = byte_bpe("qwen-embedding", chat_template=template, model_max_length=96)
        prompts = {"query": "find: ", "document": ""}
        save_embedder(
            folder, qwen3("Qwen3Model", seed, tokenizer), tokenizer, pooling,
            include_prompt=include_prompt, prompts=prompts,
        )  # fmt: skip
        if stated:
            edit_json(folder / "sentence_bert_config.json", **stated)


_message("embedder-message", "texts are rendered by the chat template", MESSAGE)
_message(
    "embedder-message-system",
    "a default system message, texts stripped, add_generation_prompt; include_prompt false changes nothing",
    DEFAULT_SYSTEM,
    pooling="mean",
    include_prompt=False,
    processing_kwargs={"chat_template": {"add_generation_prompt": True}},
)
_message(
    "embedder-message-cut",
    "the template's end is cut where a text is too long",
    MESSAGE,
    processing_kwargs={"chat_template": {"restore_suffix": False}},
)


INSTRUCTED_FIRST = (
    "{%- if messages[0].role == 'system' -%}{{- 'Task: ' + messages[0].content + '\n' -}}{%- endif -%}"
    "{{- 'Q: ' + messages[-2].content + '\nD: ' + messages[-1].content + ' -> yes or no: ' -}}"
)


def _chat_reranker(
    name: str, notes: str, template: str, message_format: str = "flat", limit: int = 128, **stated: Any
) -> None:
    @recipe(name, "score", reference="CrossEncoder", notes=notes)
    def make(folder: Path, seed: int) -> None:
        import torch
        from sentence_transformers import CrossEncoder
        from sentence_transformers.cross_encoder.modules import LogitScore
        from sentence_transformers.sentence_transformer.modules import Transformer

        tokenizer = byte_bpe("qwen", chat_template=template, model_max_length=limit)
        output = {"method": "forward", "method_output_name": "logits"}
        with saved(qwen3("Qwen3ForCausalLM", seed, tokenizer), tokenizer) as source:
            modules = [
                Transformer(
                    source,
                    transformer_task="text-generation",
                    modality_config={"text": output, "message": {**output, "format": message_format}},
                    module_output_name="causal_logits",
                ),
                LogitScore(tokenizer.convert_tokens_to_ids("yes"), tokenizer.convert_tokens_to_ids("no")),
            ]
            encoder = CrossEncoder(modules=modules, device="cpu", activation_fn=torch.nn.Sigmoid(), **stated)
            encoder.save_pretrained(str(folder), create_model_card=False)
        readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


_joined = RERANKER_CHAT_TEMPLATE
for _name in ("Instruct", "Query", "Document"):
    _joined = _joined.replace(f"<{_name}>: '", f"<{_name}>:'")
_chat_reranker("reranker-joined", "tokens of the template join the query's first", _joined, limit=256)
_chat_reranker(
    "reranker-query-first",
    "tokens of the template join the query's first; the default prompt is a system message",
    INSTRUCTED_FIRST,
    prompts={"web": "search the web", "other": "find foxes"},
    default_prompt_name="web",
)
_chat_reranker(
    "reranker-structured",
    "messages of typed parts, stripped by the template, which ends in the instruction",
    "{{- messages[-2].content[0].text | trim + ' | ' + messages[-1].content[0].text | trim + ' ->' -}}"
    "{%- if messages[0].role == 'system' -%}{{- ' ' + messages[0].content[0].text -}}{%- endif -%}",
    "structured",
)


def _modules(name: str, notes: str, *following: Any, pooling: str = "mean", **settings: Any) -> None:
    @recipe(name, "embed", reference=ST, notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = word_piece()
        made = [each(seed) for each in following]
        save_embedder(folder, bert(seed, tokenizer), tokenizer, pooling, *made, **settings)


def _normalize(_: int) -> Any:
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


def _dense(*sizes: int, **settings: Any) -> Any:
    def make(seed: int) -> Any:
        import torch

        torch.manual_seed(seed)
        return dense(seed + sizes[0], *sizes, **settings)

    return make


def _layer_norm(seed: int) -> Any:
    from sentence_transformers.sentence_transformer.modules import LayerNorm
    from tests.checkpoints.saving import scramble

    return scramble(LayerNorm(32), seed)


_modules("normalize-dense", "Normalize, then Dense: not of unit length", _normalize, _dense(32, 24))
_modules("dense-normalize-dense", "Dense, Normalize, Dense", _dense(32, 40), _normalize, _dense(40, 24))
_modules("dense-other", "a Dense whose output nobody reads", _dense(32, 24, module_output_name="other"))
_modules("layer-norm", "LayerNorm after pooling", _layer_norm)
if SENTENCE_TRANSFORMERS_6:
    _modules("dense-residual", "a Dense with a residual connection", _dense(32, 24, use_residual=True))
_modules("truncate-dim", "truncate_dim 16 after Normalize: not normalised again", _normalize, truncate_dim=16)
_modules(
    "weightedmean-prompt", "weights count from the text's first token, the prompt's left out", pooling="weightedmean",
    include_prompt=False, prompts={"query": "find the words for: ", "document": "words: "},
    default_prompt_name="query",
)  # fmt: skip


@recipe("cross-encoder-dense", "score", reference="CrossEncoder", notes="Transformer, Pooling, Dense(1)")
def _cross_encoder_dense(folder: Path, seed: int) -> None:
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tokenizer = word_piece()
    with saved(bert(seed, tokenizer), tokenizer) as source:
        modules = [
            Transformer(source),
            Pooling(32, "mean"),
            dense(seed, 32, 1, module_output_name="scores"),
        ]
        encoder = CrossEncoder(modules=modules, device="cpu", activation_fn=torch.nn.Sigmoid())
        encoder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


@recipe("cross-encoder-prompts", "score", reference="CrossEncoder", notes="a default prompt before the query")
def _cross_encoder_prompts(folder: Path, seed: int) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    tokenizer = word_piece()
    model = bert(seed, tokenizer, "BertForSequenceClassification", **labels("LABEL_0"))
    with saved(model, tokenizer) as source:
        encoder = CrossEncoder(
            source, device="cpu", activation_fn=torch.nn.Sigmoid(), prompts={"web": "search the web: "},
            default_prompt_name="web",
        )  # fmt: skip
        encoder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


@recipe("pooler-output", "embed", reference=ST, notes="method_output_name pooler_output")
def _pooler(folder: Path, seed: int) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    tokenizer = word_piece()
    with saved(bert(seed, tokenizer), tokenizer) as source:
        transformer = Transformer(
            source, module_output_name="sentence_embedding",
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
        )  # fmt: skip
        SentenceTransformer(modules=[transformer], device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
    readme(folder, "sentence-transformers", "sentence-similarity")


def _settings(name: str, notes: str, **stated: Any) -> None:
    @recipe(name, "embed", reference=ST, notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = word_piece()
        save_embedder(folder, bert(seed, tokenizer), tokenizer, "mean")
        edit_json(folder / "sentence_bert_config.json", **stated)


_settings(
    "settings-max-length", "processing_kwargs: max_length 24", processing_kwargs={"text": {"max_length": 24}}
)
_settings(
    "settings-tokenizer", "tokenizer_args: model_max_length 20", tokenizer_args={"model_max_length": 20}
)
_settings("settings-config", "config_args: one layer of two", config_args={"num_hidden_layers": 1})
_settings(
    "settings-side", "processor_kwargs: truncation_side left", processor_kwargs={"truncation_side": "left"}
)
_settings("settings-lower", "do_lower_case with a cased tokenizer", do_lower_case=True)


@recipe("static-truncated", "embed", reference=ST, notes="tokenizer.json truncates at 24 tokens")
def _static(folder: Path, seed: int) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = word_piece().backend_tokenizer
    weights = torch.randn(tokenizer.get_vocab_size(), 24, generator=torch.Generator().manual_seed(seed))
    tokenizer.enable_truncation(24)
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "sentence-similarity")


@recipe(
    "splade-published", "embed", reference="SparseEncoder", notes="a masked language model, no modules.json"
)
def _splade_published(folder: Path, seed: int) -> None:
    tokenizer = word_piece()
    save(sparse_bert(seed, tokenizer), tokenizer, folder)
    readme(folder, "transformers", "fill-mask", "splade")
