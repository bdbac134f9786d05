"""Write a plan's checkpoint: the libraries save it, and only what they have no parameter for is edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints.classifiers import RERANKER_CHAT_TEMPLATE
from tests.checkpoints.embedders import to_old_layout
from tests.checkpoints.saving import build, dense, edit_json, readme, save, saved, scramble
from tests.checkpoints.vocabularies import byte_bpe, byte_fallback, unigram, word_piece
from tests.families.tiny import TINY
from tests.generated.plan import Plan

_TOKENIZERS = {
    "albert": lambda **s: unigram("Albert", **s),
    "bert": lambda **s: word_piece(**s),
    "distilbert": lambda **s: word_piece("DistilBert", **s),
    "electra": lambda **s: word_piece("Electra", **s),
    "llama": lambda **s: byte_bpe("llama", **s),
    "mistral": lambda **s: byte_fallback("mistral", **s),
    "modernbert": lambda **s: byte_bpe("modernbert", **s),
    "mpnet": lambda **s: word_piece("MPNet", **s),
    "qwen3": lambda **s: byte_bpe("qwen-embedding", **s),
    "qwen3-causal": lambda **s: byte_bpe("qwen", chat_template=RERANKER_CHAT_TEMPLATE, **s),
    "roberta": lambda **s: byte_bpe("roberta", **s),
    "xlm-roberta": lambda **s: unigram("XLMRoberta", **s),
}
_POSITIONS = {"mpnet": 130, "roberta": 130, "xlm-roberta": 130}
_SPECIALS = ("model_max_length",)


def write(plan: Plan, folder: Path) -> Path:
    """Write the checkpoint into a folder that is not there yet."""
    folder.mkdir(parents=True)
    _WRITERS[plan.kind](plan, folder)
    if plan.is_old:
        to_old_layout(folder)
    for file, keys in plan.edits.items():
        path = folder / file
        if not path.is_file():
            path.write_text("{}")
        edit_json(path, **keys)
    return folder


def _tokenizer(plan: Plan) -> Any:
    # the makers have limits of their own, which are replaced afterwards
    tokenizer = _TOKENIZERS[plan.network](
        **{name: value for name, value in plan.tokenizer.items() if name not in _SPECIALS}
    )
    if "model_max_length" in plan.tokenizer:
        tokenizer.model_max_length = plan.tokenizer["model_max_length"]
    return tokenizer


def _network(plan: Plan, tokenizer: Any, tail: str) -> Any:
    import torch

    model_type = "qwen3" if plan.network == "qwen3-causal" else plan.network
    tiny = TINY[model_type]
    changes: dict[str, Any] = dict(plan.config)
    if plan.network in _POSITIONS:
        changes["max_position_embeddings"] = _POSITIONS[plan.network]
    if plan.network == "modernbert":
        changes = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id} | changes
        changes = {"num_hidden_layers": 2, "local_attention": 8} | changes
    options = {name: value for name, value in tiny.options.items() if not name.endswith("_token_id")}
    if "max_position_embeddings" in options:
        options["max_position_embeddings"] = 512
    if tail == "ForSequenceClassification" and "num_labels" not in changes and plan.kind == "cross_encoder":
        changes["num_labels"] = 1
    sizes = {**tiny.sizes, "initializer_range": 0.3}
    model = build(
        tiny.classes + tail, f"{tiny.classes}Config", tokenizer, plan.seed, sizes, **{**options, **changes}
    )
    return model.to(getattr(torch, plan.dtype))


def _modules(plan: Plan) -> tuple[list[Any], list[Any]]:
    """Modules before the pooling, and after it."""
    import torch
    from sentence_transformers.sentence_transformer import modules

    before, after = [], []
    for index, (name, settings) in enumerate(plan.modules):
        options = dict(settings)
        if name in ("Dense", "TokenDense"):
            activation = getattr(torch.nn, options.pop("activation"))()
            sizes = options.pop("in_features"), options.pop("out_features")
            if name == "TokenDense":
                options["module_input_name"] = "token_embeddings"
            made = dense(plan.seed + index, *sizes, activation, **options)
            (before if name == "TokenDense" else after).append(made)
        elif name == "CNN":
            before.append(modules.CNN(32, out_channels=32, kernel_sizes=[1]))
        elif name == "LayerNorm":
            after.append(scramble(modules.LayerNorm(**options), plan.seed))
        elif name == "Dropout":
            after.append(modules.Dropout(0.3))
        else:
            after.append(modules.Normalize())
    return before, after


def _embedder(plan: Plan, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tokenizer = _tokenizer(plan)
    settings = dict(plan.settings)
    include_prompt = settings.pop("include_prompt", True)
    before, after = _modules(plan)
    with saved(_network(plan, tokenizer, "Model"), tokenizer) as source:
        size = 32
        pool = Pooling(size, plan.pooling, include_prompt=include_prompt)
        modules = [Transformer(source), *before, pool, *after]
        for module in modules[1:]:
            module.to(next(modules[0].parameters()).dtype)
        SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(
            str(folder), create_model_card=False
        )
    readme(folder, "sentence-transformers", "sentence-similarity", "feature-extraction")


def _cross_encoder(plan: Plan, folder: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    tokenizer = _tokenizer(plan)
    settings = dict(plan.settings)
    activation = settings.pop("activation_fn", None)
    if activation:
        settings["activation_fn"] = getattr(torch.nn, activation)()
    if plan.network == "qwen3-causal":
        with saved(_network(plan, tokenizer, "ForCausalLM"), tokenizer) as source:
            yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
            modules = [Transformer(source, transformer_task="text-generation"), LogitScore(yes, no)]
            encoder = CrossEncoder(modules=modules, device="cpu", **settings)
            encoder.save_pretrained(str(folder), create_model_card=False)
    elif ("Scores", {}) in plan.modules:
        with saved(_network(plan, tokenizer, "Model"), tokenizer) as source:
            scores = dense(plan.seed, 32, 1, module_output_name="scores")
            modules = [Transformer(source), Pooling(32, "mean"), scores]
            scores.to(next(modules[0].parameters()).dtype)
            encoder = CrossEncoder(modules=modules, device="cpu", **settings)
            encoder.save_pretrained(str(folder), create_model_card=False)
    else:
        with saved(_network(plan, tokenizer, "ForSequenceClassification"), tokenizer) as source:
            CrossEncoder(source, device="cpu", **settings).save_pretrained(
                str(folder), create_model_card=False
            )
    readme(folder, "sentence-transformers", "cross-encoder", "text-ranking")


def _classifier(plan: Plan, folder: Path) -> None:
    tokenizer = _tokenizer(plan)
    save(_network(plan, tokenizer, "ForSequenceClassification"), tokenizer, folder)
    readme(folder, "transformers", "text-classification")


def _sparse(plan: Plan, folder: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    tokenizer = _tokenizer(plan)
    settings = dict(plan.settings)
    names = ("pooling_strategy", "activation_function")
    splade = SpladePooling(**{name: settings.pop(name) for name in names if name in settings})
    with saved(_network(plan, tokenizer, "ForMaskedLM"), tokenizer) as source:
        modules = [_masked_lm(source), splade]
        SparseEncoder(modules=modules, device="cpu", **settings).save_pretrained(
            str(folder), create_model_card=False
        )
    readme(folder, "sentence-transformers", "sparse-encoder", "splade")


def _masked_lm(source: str) -> Any:
    from sentence_transformers.sentence_transformer.modules import Transformer

    return Transformer(source, transformer_task="fill-mask")


def _static(plan: Plan, folder: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = word_piece().backend_tokenizer
    generator = torch.Generator().manual_seed(plan.seed)
    weights = torch.randn(tokenizer.get_vocab_size(), 24, generator=generator).to(getattr(torch, plan.dtype))
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    model = SentenceTransformer(modules=[module, *_modules(plan)[1]], device="cpu", **plan.settings)
    model.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "sentence-similarity")


_WRITERS = {
    "classifier": _classifier,
    "cross_encoder": _cross_encoder,
    "embedder": _embedder,
    "sparse": _sparse,
    "static": _static,
}
