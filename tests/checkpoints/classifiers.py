"""Classifiers, cross-encoders and rerankers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints.embedders import bert
from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import build, edit_json, labels, readme, save, saved
from tests.checkpoints.vocabularies import byte_bpe, word_piece

SEQUENCE = "AutoModelForSequenceClassification"
TOKENS = "AutoModelForTokenClassification"
BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
RERANKER_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
RERANKER_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
RERANKER_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# as the sentence-transformers form of Qwen3-Reranker has it: roles system (the instruction), query and document
RERANKER_CHAT_TEMPLATE = (
    "{%- set ns = namespace(instruction='" + RERANKER_INSTRUCTION + "', query='', document='') -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set ns.instruction = message.content -%}{%- endif -%}"
    "{%- if message.role == 'query' -%}{%- set ns.query = message.content -%}{%- endif -%}"
    "{%- if message.role == 'document' -%}{%- set ns.document = message.content -%}{%- endif -%}"
    "{%- endfor -%}"
    "{{- '"
    + RERANKER_PREFIX.replace("\n", "\\n")
    + "<Instruct>: ' + ns.instruction + '\\n<Query>: ' + ns.query "
    "+ '\\n<Document>: ' + ns.document + '" + RERANKER_SUFFIX.replace("\n", "\\n") + "' -}}"
)
CARD = f"""The score of a pair is the probability of "yes" against "no" as the next token after

```
{RERANKER_PREFIX}<Instruct>: {{instruction}}
<Query>: {{query}}
<Document>: {{document}}{RERANKER_SUFFIX}```

with the instruction "{RERANKER_INSTRUCTION}" unless the task has its own."""


def save_cross_encoder(folder: Path, model: Any, tokenizer: Any, activation: Any) -> Path:
    from sentence_transformers import CrossEncoder

    with saved(model, tokenizer) as source:
        encoder = CrossEncoder(source, device="cpu", activation_fn=activation)
        encoder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")
    return folder


def _bert_cross_encoder(seed: int, *names: str) -> tuple[Any, Any]:
    tokenizer = word_piece()
    return bert(seed, tokenizer, "BertForSequenceClassification", **labels(*names)), tokenizer


@recipe(
    "cross-encoder-bert-1",
    "score",
    "classify",
    reference="CrossEncoder",
    notes="one label, activation_fn Sigmoid",
)
def _cross_encoder_1(folder: Path, seed: int) -> None:
    import torch

    save_cross_encoder(folder, *_bert_cross_encoder(seed, "LABEL_0"), torch.nn.Sigmoid())


@recipe(
    "cross-encoder-bert-1-v4", "score", "classify", reference="CrossEncoder",
    notes="as sentence-transformers 4.0 to 5.3 wrote it: no modules.json, activation_fn Identity inside config.json",
)  # fmt: skip
def _cross_encoder_v4(folder: Path, seed: int) -> None:
    save(*_bert_cross_encoder(seed, "LABEL_0"), folder)
    nested = {"version": "4.0.1", "activation_fn": "torch.nn.modules.linear.Identity"}
    edit_json(folder / "config.json", sentence_transformers=nested)
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


@recipe(
    "cross-encoder-bert-1-v3", "score", "classify", reference="CrossEncoder",
    notes="as before sentence-transformers 4: sbert_ce_default_activation_function Identity in config.json",
)  # fmt: skip
def _cross_encoder_v3(folder: Path, seed: int) -> None:
    save(*_bert_cross_encoder(seed, "LABEL_0"), folder)
    edit_json(folder / "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity")
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


@recipe(
    "cross-encoder-bert-3", "classify", reference="CrossEncoder",
    notes="three labels: sentence-transformers writes activation_fn Identity and predict() returns logits",
)  # fmt: skip
def _cross_encoder_3(folder: Path, seed: int) -> None:
    import torch

    encoder = _bert_cross_encoder(seed, "contradiction", "entailment", "neutral")
    save_cross_encoder(folder, *encoder, torch.nn.Identity())


def _classifier(name: str, tags: tuple[str, ...], notes: str, **config: Any) -> None:
    @recipe(name, "classify", reference=SEQUENCE, notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = word_piece()
        model = bert(seed, tokenizer, "BertForSequenceClassification", **labels(*tags), **config)
        save(model, tokenizer, folder)
        readme(folder, "transformers", "text-classification")


_classifier(
    "classifier-multilabel", ("toxic", "obscene", "threat", "insult"), "sigmoid of each label",
    problem_type="multi_label_classification",
)  # fmt: skip
_classifier("classifier-binary", ("NEGATIVE", "POSITIVE"), "softmax over two labels, no problem_type")
_classifier(
    "classifier-single-label", ("sadness", "joy", "love"), "softmax over three labels, problem_type stated",
    problem_type="single_label_classification",
)  # fmt: skip
_classifier("regression", ("quality",), "one label, no activation", problem_type="regression")


@recipe("token-classifier", "token_classify", reference=TOKENS, notes="BIO labels")
def _token_classifier(folder: Path, seed: int) -> None:
    import torch

    tokenizer = word_piece()
    model = bert(seed, tokenizer, "BertForTokenClassification", **labels(*BIO))
    with torch.no_grad():
        # no pooler with tanh bounds what comes in; logits beyond 5 would make probabilities a test of rounding
        model.classifier.weight *= 0.4
    save(model, tokenizer, folder)
    readme(folder, "transformers", "token-classification")


@recipe(
    "modernbert-classifier-mean", "classify", reference=SEQUENCE,
    notes="classifier_pooling mean; the middle layer attends locally, four tokens to each side",
)  # fmt: skip
def _modernbert_classifier(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("modernbert")
    model = build(
        "ModernBertForSequenceClassification", "ModernBertConfig", tokenizer, seed, num_hidden_layers=3,
        classifier_pooling="mean", local_attention=8, global_attn_every_n_layers=2, reference_compile=False,
        cls_token_id=tokenizer.cls_token_id, sep_token_id=tokenizer.sep_token_id, max_position_embeddings=512,
        **labels("no", "maybe", "yes"),
    )  # fmt: skip
    save(model, tokenizer, folder)
    readme(folder, "transformers", "text-classification")


@recipe(
    "roberta-pair", "score", "classify", reference="CrossEncoder",
    notes="pairs <s> A </s></s> B </s>, one token type; plain files, which CrossEncoder reads with sigmoid",
)  # fmt: skip
def _roberta_pair(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("roberta")
    model = build(
        "RobertaForSequenceClassification", "RobertaConfig", tokenizer, seed, type_vocab_size=1,
        max_position_embeddings=514, **labels("LABEL_0"),
    )  # fmt: skip
    save(model, tokenizer, folder)
    readme(folder, "transformers", "text-classification")


def qwen3(model_class: str, seed: int, tokenizer: Any, **config: Any) -> Any:
    return build(
        model_class, "Qwen3Config", tokenizer, seed,
        **{
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
            "tie_word_embeddings": True, "use_sliding_window": False, **config,
        },
    )  # fmt: skip


@recipe(
    "qwen3-reranker", "score", reference="qwen3_reranker",
    notes="causal LM with tied embeddings, yes against no after the model card's template; plain transformers files",
)  # fmt: skip
def _qwen3_reranker(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("qwen", chat_template=CHAT_TEMPLATE)
    save(qwen3("Qwen3ForCausalLM", seed, tokenizer), tokenizer, folder)
    readme(folder, "transformers", "text-ranking", text=CARD)


@recipe(
    "qwen3-reranker-st", "score", reference="CrossEncoder",
    notes="LogitScore and a chat template with the roles query and document, as sentence-transformers 5.4 saves",
)  # fmt: skip
def _qwen3_reranker_st(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("qwen", chat_template=RERANKER_CHAT_TEMPLATE)
    save_logit_score(folder, qwen3("Qwen3ForCausalLM", seed, tokenizer), tokenizer)


def gemma2_reranker(folder: Path, **config: Any) -> None:
    """Save a reranker of layers that see in windows and layers that see all, every score capped."""
    tokenizer = byte_bpe("qwen", chat_template=RERANKER_CHAT_TEMPLATE)
    sizes = {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "max_position_embeddings": 8192,
    }
    capped = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 30.0, "tie_word_embeddings": True}
    model = build("Gemma2ForCausalLM", "Gemma2Config", tokenizer, 3, **sizes | capped | config)
    save_logit_score(folder, model, tokenizer)


def save_logit_score(folder: Path, model: Any, tokenizer: Any) -> None:
    """Save a language model as a CrossEncoder that scores yes against no."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore
    from sentence_transformers.sentence_transformer.modules import Transformer

    with saved(model, tokenizer) as source:
        modules = [
            Transformer(source, transformer_task="text-generation"),
            LogitScore(tokenizer.convert_tokens_to_ids("yes"), tokenizer.convert_tokens_to_ids("no")),
        ]
        encoder = CrossEncoder(modules=modules, device="cpu", activation_fn=torch.nn.Identity())
        encoder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking", text=CARD)


@recipe(
    "qwen3-classifier", "classify", reference=SEQUENCE,
    notes="the last real token's logits, left padding, no bias; transformers finds it by the padding token's id",
)  # fmt: skip
def _qwen3_classifier(folder: Path, seed: int) -> None:
    tokenizer = byte_bpe("qwen")
    model = qwen3("Qwen3ForSequenceClassification", seed, tokenizer, **labels("bad", "fair", "good"))
    save(model, tokenizer, folder)
    readme(folder, "transformers", "text-classification")
