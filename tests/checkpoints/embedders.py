"""Embedders as sentence-transformers saves them: poolings, Dense modules, prompts, Matryoshka, static, sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import build, dense, edit_json, read_json, readme, saved, write_json
from tests.checkpoints.vocabularies import byte_bpe, word_piece

ST = "SentenceTransformer"
QUERY_PROMPT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def save_embedder(
    folder: Path,
    model: Any,
    tokenizer: Any,
    pooling: str | tuple[str, ...],
    *following: Any,
    include_prompt: bool = True,
    **settings: Any,
) -> Path:
    """Let sentence-transformers save a transformer, its pooling and the modules that follow."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    with saved(model, tokenizer) as source:
        transformer = Transformer(source)
        size = transformer.get_embedding_dimension()
        pool = Pooling(size, pooling, include_prompt=include_prompt)
        embedder = SentenceTransformer(
            modules=[transformer, pool, *following], device="cpu", similarity_fn_name="cosine", **settings
        )
        embedder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "sentence-similarity", "feature-extraction")
    return folder  # fmt: skip


def bert(seed: int, tokenizer: Any, model_class: str = "BertModel", **config: Any) -> Any:
    return build(model_class, "BertConfig", tokenizer, seed, **config)


def to_old_layout(folder: Path) -> Path:
    """Rewrite the files of sentence-transformers 5.4 and later as versions 2 to 5.3 wrote them: most repositories."""
    modules = read_json(folder / "modules.json")
    for module in modules:
        kind = module["type"].rpartition(".")[2]
        package = "sparse_encoder.models" if kind == "SpladePooling" else "models"
        if kind == "Transformer" and any("SpladePooling" in other["type"] for other in modules):
            kind, package = "MLMTransformer", "sparse_encoder.models"
        if kind == "StaticEmbedding" and not module["path"]:
            module["path"] = "0_StaticEmbedding"
            (folder / module["path"]).mkdir()
            for name in ("model.safetensors", "tokenizer.json"):
                (folder / name).rename(folder / module["path"] / name)
        module["type"] = f"sentence_transformers.{package}.{kind}"
        config = folder / module["path"] / "config.json"
        if kind == "Pooling":
            stated = read_json(config)
            modes = stated["pooling_mode"]
            modes = [modes] if isinstance(modes, str) else modes
            write_json(
                config,
                {"word_embedding_dimension": stated["embedding_dimension"]}
                | {key: mode in modes for mode, key in OLD_POOLING_KEYS.items()}
                | {"include_prompt": stated["include_prompt"]},
            )
        elif kind == "Dense":
            edit_json(config, module_input_name=..., module_output_name=...)
        elif kind == "SpladePooling":
            stated = read_json(config)
            stated["word_embedding_dimension"] = stated.pop("embedding_dimension")
            write_json(config, stated)
        elif kind in ("Transformer", "MLMTransformer"):
            length = read_json(folder / "tokenizer_config.json")["model_max_length"]
            write_json(
                folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False}
            )
    write_json(folder / "modules.json", modules)
    return folder


OLD_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def _pooling(name: str, pooling: str | tuple[str, ...], *, old: bool = False) -> None:
    notes = f"pooling {pooling}, no Normalize module" + (
        ", written as versions before 5.4 did" if old else ""
    )

    @recipe(name, "embed", reference=ST, notes=notes)
    def make(folder: Path, seed: int) -> None:
        tokenizer = word_piece()
        save_embedder(folder, bert(seed, tokenizer), tokenizer, pooling)
        if old:
            to_old_layout(folder)


_pooling("pool-cls", "cls")
_pooling("pool-max", "max")
_pooling("pool-mean-sqrt", "mean_sqrt_len_tokens")
_pooling("pool-weightedmean", "weightedmean")
_pooling("pool-lasttoken", "lasttoken")
_pooling("pool-concat", ("cls", "mean", "max"))
_pooling("pool-concat-old", ("cls", "max", "mean"), old=True)


@recipe(
    "pool-mean-old", "embed", "token_embed", reference=ST, notes="mean and Normalize in the layout before 5.4"
)
def _mean_old(folder: Path, seed: int) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    tokenizer = word_piece()
    to_old_layout(save_embedder(folder, bert(seed, tokenizer), tokenizer, "mean", Normalize()))


@recipe(
    "include-prompt-false",
    "embed",
    reference=ST,
    notes="prompts query and document; the prompt is not pooled",
)
def _include_prompt_false(folder: Path, seed: int) -> None:
    tokenizer = word_piece()
    prompts = {"query": "Represent the question for retrieval: ", "document": "Represent the document: "}
    save_embedder(folder, bert(seed, tokenizer), tokenizer, "mean", include_prompt=False, prompts=prompts)


@recipe(
    "default-prompt",
    "embed",
    reference=ST,
    notes="default_prompt_name query: encode() without a name uses it",
)
def _default_prompt(folder: Path, seed: int) -> None:
    tokenizer = word_piece()
    save_embedder(
        folder, bert(seed, tokenizer), tokenizer, "mean", prompts={"query": "query: ", "passage": "passage: "},
        default_prompt_name="query",
    )  # fmt: skip


@recipe("dense-tanh", "embed", reference=ST, notes="mean, then Dense with tanh from 32 to 24")
def _dense_tanh(folder: Path, seed: int) -> None:
    import torch

    tokenizer = word_piece()
    save_embedder(folder, bert(seed, tokenizer), tokenizer, "mean", dense(seed + 1, 32, 24, torch.nn.Tanh()))


@recipe("dense-tanh-old", "embed", reference=ST, notes="dense-tanh in the layout before 5.4")
def _dense_tanh_old(folder: Path, seed: int) -> None:
    _dense_tanh(folder, seed)
    to_old_layout(folder)


def _matryoshka(folder: Path, seed: int, **config: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    tokenizer = word_piece()
    save_embedder(folder, bert(seed, tokenizer, **config), tokenizer, "mean", Normalize())


@recipe("matryoshka-list", "embed", reference=ST, notes="matryoshka_dimensions 8, 16, 32 in config.json")
def _matryoshka_list(folder: Path, seed: int) -> None:
    _matryoshka(folder, seed, matryoshka_dimensions=[8, 16, 32])


@recipe("matryoshka-free", "embed", reference=ST, notes="is_matryoshka true in config.json")
def _matryoshka_free(folder: Path, seed: int) -> None:
    _matryoshka(folder, seed, is_matryoshka=True)


@recipe(
    "qwen3-embedding", "embed", reference=ST,
    notes="last token, Normalize, left padding, <|endoftext|> appended by the tokenizer, query instruction",
)  # fmt: skip
def _qwen3_embedding(folder: Path, seed: int) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    tokenizer = byte_bpe("qwen-embedding")
    model = build(
        "Qwen3Model", "Qwen3Config", tokenizer, seed, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=2048, tie_word_embeddings=True, use_sliding_window=False,
    )  # fmt: skip
    save_embedder(
        folder, model, tokenizer, "lasttoken", Normalize(), prompts={"query": QUERY_PROMPT, "document": ""}
    )


def sparse_bert(seed: int, tokenizer: Any) -> Any:
    """A masked language model with logits of a real model's size, few words of the vocabulary above zero."""
    import torch

    model = bert(seed, tokenizer, "BertForMaskedLM")
    with torch.no_grad():
        model.cls.predictions.transform.LayerNorm.weight *= 0.4
        model.cls.predictions.transform.LayerNorm.bias *= 0.4
        model.cls.predictions.bias -= 4
    return model


def _splade(folder: Path, seed: int, **pooling: Any) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sentence_transformer.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    tokenizer = word_piece()
    model = sparse_bert(seed, tokenizer)
    with saved(model, tokenizer) as source:
        modules = [Transformer(source, transformer_task="fill-mask"), SpladePooling(**pooling)]
        encoder = SparseEncoder(modules=modules, device="cpu", similarity_fn_name="dot")
        encoder.save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "sparse-encoder", "splade")


@recipe("splade", "embed", reference="SparseEncoder", notes="log1p(relu(logits)), maximum over tokens")
def _splade_max(folder: Path, seed: int) -> None:
    _splade(folder, seed, pooling_strategy="max")


@recipe(
    "splade-sum", "embed", reference="SparseEncoder", notes="sum over tokens of log1p(log1p(relu(logits)))"
)
def _splade_sum(folder: Path, seed: int) -> None:
    _splade(folder, seed, pooling_strategy="sum", activation_function="log1p_relu")


@recipe("splade-old", "embed", reference="SparseEncoder", notes="MLMTransformer, the layout before 5.4")
def _splade_old(folder: Path, seed: int) -> None:
    _splade_max(folder, seed)
    to_old_layout(folder)


@recipe(
    "static-embedding", "embed", reference=ST, notes="StaticEmbedding in the repository's root, no Normalize"
)
def _static_embedding(folder: Path, seed: int) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer = word_piece()
    weights = torch.randn(len(tokenizer), 24, generator=torch.Generator().manual_seed(seed))
    module = StaticEmbedding(tokenizer.backend_tokenizer, embedding_weights=weights)
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    readme(folder, "sentence-transformers", "sentence-similarity")


@recipe("static-embedding-old", "embed", reference=ST, notes="in 0_StaticEmbedding, the layout before 5.4")
def _static_embedding_old(folder: Path, seed: int) -> None:
    _static_embedding(folder, seed)
    to_old_layout(folder)


def _model2vec(folder: Path, seed: int, rows: int | None = None) -> None:
    """Write what model2vec's save_pretrained does; rows is the vocabulary after quantisation."""
    import torch
    from safetensors.torch import save_file

    tokenizer = word_piece()
    generator = torch.Generator().manual_seed(seed)
    size = len(tokenizer)
    tensors = {"embeddings": torch.randn(rows or size, 24, generator=generator)}
    config: dict[str, Any] = {
        "model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": "tiny-bert",
        "apply_pca": 24, "apply_zipf": None, "sif_coefficient": 1e-4, "hidden_dim": 24, "seq_length": 1000000,
        "normalize": True, "pooling": "mean", "embedding_dtype": "float32",
    }  # fmt: skip
    if rows:
        tensors["weights"] = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
        tensors["mapping"] = torch.randint(rows, (size,), generator=generator)
        config["vocabulary_quantization"] = rows
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "config.json", config)
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    readme(folder, "model2vec", "embeddings", "static-embeddings", "sentence-transformers")


@recipe(
    "model2vec", "embed", reference="model2vec",
    notes="model2vec leaves unknown tokens out of the mean, sentence-transformers on the same files does not",
)  # fmt: skip
def _model2vec_plain(folder: Path, seed: int) -> None:
    _model2vec(folder, seed)


@recipe(
    "model2vec-quantized", "embed", reference="model2vec",
    notes="100 rows, a mapping of tokens to rows and a weight per token; sentence-transformers cannot read it",
)  # fmt: skip
def _model2vec_quantized(folder: Path, seed: int) -> None:
    _model2vec(folder, seed, rows=100)
