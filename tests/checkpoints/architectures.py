"""One checkpoint per architecture: as transformers saves it, NAME-st with mean pooling for sentence-transformers."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.checkpoints.embedders import ST, bert, save_embedder
from tests.checkpoints.registry import recipe
from tests.checkpoints.saving import build, dense, edit_json, read_json, readme, save, scramble
from tests.checkpoints.vocabularies import byte_bpe, byte_fallback, unigram, word_piece
from tests.families.tiny import TINY

REMOTE_CODE = Path(__file__).with_name("remote") / "modeling_nomic_tiny.py"
Made = tuple[Any, Any]


def _tiny(model_type: str, tokenizer: Any, seed: int, tail: str = "Model", **changes: Any) -> Made:
    """A family's tiny model for a tokenizer, whose special tokens it takes, and for longer texts."""
    tiny = TINY[model_type]
    options = {name: value for name, value in tiny.options.items() if not name.endswith("_token_id")}
    if "max_position_embeddings" in options:
        options["max_position_embeddings"] = 512
    sizes = {**tiny.sizes, "initializer_range": 0.3}
    classes = tiny.classes + tail, f"{tiny.classes}Config"
    made = build(*classes, tokenizer, seed, sizes, **{**options, **changes})
    return made, tokenizer


def _bert(seed: int) -> Made:
    tokenizer = word_piece()
    return bert(seed, tokenizer), tokenizer


# positions of the next three, and of MPNet, start after the padding id
def _roberta(seed: int) -> Made:
    return _tiny("roberta", byte_bpe("roberta"), seed, max_position_embeddings=130)


def _xlm_roberta(seed: int) -> Made:
    return _tiny("xlm-roberta", unigram("XLMRoberta"), seed, max_position_embeddings=130)


def _camembert(seed: int) -> Made:
    return _tiny("camembert", unigram("Camembert"), seed, max_position_embeddings=130)


def _distilbert(seed: int) -> Made:
    return _tiny("distilbert", word_piece("DistilBert"), seed)


def _mpnet(seed: int) -> Made:
    return _tiny("mpnet", word_piece("MPNet"), seed, max_position_embeddings=130)


def _electra(seed: int) -> Made:
    return _tiny("electra", word_piece("Electra"), seed)


def _albert(seed: int) -> Made:
    return _tiny("albert", unigram("Albert"), seed)


def _deberta_v2(seed: int) -> Made:
    return _tiny(
        "deberta-v2", unigram("DebertaV2"), seed, type_vocab_size=0, share_att_key=True, position_biased_input=False,
        norm_rel_ebd="layer_norm", max_relative_positions=-1, layer_norm_eps=1e-7,
    )  # fmt: skip


def _modernbert(seed: int) -> Made:
    tokenizer = byte_bpe("modernbert")
    return _tiny(
        "modernbert", tokenizer, seed, num_hidden_layers=3, global_attn_every_n_layers=2,
        cls_token_id=tokenizer.cls_token_id, sep_token_id=tokenizer.sep_token_id,
    )  # fmt: skip


def _qwen2(seed: int) -> Made:
    return _tiny("qwen2", byte_bpe("qwen-embedding"), seed, max_position_embeddings=2048)


def _qwen3(seed: int) -> Made:
    return _tiny("qwen3", byte_bpe("qwen-embedding"), seed, head_dim=16, max_position_embeddings=2048)


def _llama(seed: int) -> Made:
    return _tiny(
        "llama", byte_bpe("llama"), seed, rope_theta=500000.0,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    )  # fmt: skip


def _mistral(seed: int) -> Made:
    return _tiny("mistral", byte_fallback("mistral"), seed, sliding_window=64)


def _gemma3_text(seed: int) -> Made:
    return _tiny(
        "gemma3_text", byte_fallback("gemma"), seed, head_dim=16, query_pre_attn_scalar=16,
        use_bidirectional_attention=True, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip


def _t5_encoder(seed: int) -> Made:
    return _tiny(
        "t5", unigram("T5"), seed, "EncoderModel", relative_attention_num_buckets=8,
        relative_attention_max_distance=32,
    )  # fmt: skip


def _remote_code_bert(seed: int) -> Made:
    import torch

    module = importlib.import_module("tests.checkpoints.remote.modeling_nomic_tiny")
    tokenizer = word_piece()
    torch.manual_seed(seed)
    config = module.NomicTinyConfig(
        vocab_size=len(tokenizer), n_positions=512, n_embd=32, n_layer=2, n_head=4, n_inner=64,
        auto_map={
            "AutoConfig": "modeling_nomic_tiny.NomicTinyConfig",
            "AutoModel": "modeling_nomic_tiny.NomicTinyModel",
        },
    )  # fmt: skip
    return scramble(module.NomicTinyModel(config), seed), tokenizer


def finish(name: str, folder: Path) -> None:
    """What the libraries do not write themselves."""
    if name.startswith("gemma3"):
        # Gemma3TextConfig halves the window whenever it is made for bidirectional attention, and saves the half
        edit_json(folder / "config.json", sliding_window=16)
    if name.startswith("remote-code"):
        shutil.copyfile(REMOTE_CODE, folder / REMOTE_CODE.name)
        # saving a model whose class transformers does not know leaves the package in auto_map
        config = read_json(folder / "config.json")
        assert config["auto_map"]["AutoModel"] == "modeling_nomic_tiny.NomicTinyModel"


ARCHITECTURES: dict[str, tuple[Callable[[int], Made], str, str]] = {
    "bert": (_bert, "AutoModel", "WordPiece, segments"),
    "roberta": (_roberta, "AutoModel", "byte-level BPE, positions after the padding id"),
    "xlm-roberta": (_xlm_roberta, "AutoModel", "Unigram"),
    "camembert": (_camembert, "AutoModel", "Unigram, its special tokens at 5 and 6"),
    "distilbert": (_distilbert, "AutoModel", "no token_type_ids, settings named dim, n_layers, n_heads"),
    "mpnet": (_mpnet, "AutoModel", "relative attention bias, <s> A </s></s> B </s> over WordPiece"),
    "electra": (_electra, "AutoModel", "embeddings of 16 projected to 32"),
    "albert": (_albert, "AutoModel", "one layer's weights shared, embeddings of 16, tanh GELU"),
    "deberta-v2": (
        _deberta_v2,
        "AutoModel",
        "as version 3: disentangled attention with buckets, no positions",
    ),
    "modernbert": (_modernbert, "AutoModel", "rotary, local attention in the middle layer, gated GELU"),
    "qwen2": (_qwen2, "AutoModel", "causal, biases on query, key and value, grouped heads"),
    "qwen3": (_qwen3, "AutoModel", "causal, norms of query and key, heads wider than hidden_size / heads"),
    "llama": (_llama, "AutoModel", "causal, llama3 rope scaling that takes effect from 64 positions"),
    "mistral": (_mistral, "AutoModel", "causal with a sliding window of 64"),
    "gemma3-text": (_gemma3_text, "AutoModel", "bidirectional, sliding window 16 in the first layer"),
    "t5-encoder": (_t5_encoder, "T5EncoderModel", "relative attention bias, unscaled attention"),
    "remote-code-bert": (_remote_code_bert, "AutoModel", "auto_map, code beside the weights, as NomicBERT"),
}


def _register(name: str, made: Callable[[int], Made], reference: str, notes: str) -> None:
    @recipe(name, "embed", "token_embed", reference=reference, notes=notes)
    def plain(folder: Path, seed: int) -> None:
        save(*made(seed), folder)
        finish(name, folder)
        readme(folder)

    if name == "gemma3-text":
        return

    @recipe(f"{name}-st", "embed", "token_embed", reference=ST, notes=f"{notes}; mean, no Normalize")
    def embedder(folder: Path, seed: int) -> None:
        if name == "remote-code-bert":
            _save_remote_embedder(folder, *made(seed))
        else:
            save_embedder(folder, *made(seed), "mean")
        finish(name, folder)


def _save_remote_embedder(folder: Path, model: Any, tokenizer: Any) -> None:
    """Files of bert-st around the other model: sentence-transformers would leave package names in auto_map."""
    save_embedder(folder, *_bert(0), "mean")
    save(model, tokenizer, folder)


for _name, (_made, _reference, _notes) in ARCHITECTURES.items():
    _register(_name, _made, _reference, _notes)


@recipe(
    "gemma3-text-st", "embed", reference=ST,
    notes="as EmbeddingGemma: mean, Dense 32 to 96 and 96 to 32 without bias or activation, Normalize, prompts",
)  # fmt: skip
def _gemma3_embedder(folder: Path, seed: int) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    first, second = dense(seed + 1, 32, 96, bias=False), dense(seed + 2, 96, 32, bias=False)
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    save_embedder(folder, *_gemma3_text(seed), "mean", first, second, Normalize(), prompts=prompts)
    finish("gemma3-text", folder)


@recipe(
    "gtr-t5",
    "embed",
    reference=ST,
    notes="T5 encoder as GTR: mean, Dense without bias or activation, Normalize",
)
def _gtr(folder: Path, seed: int) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    save_embedder(folder, *_t5_encoder(seed), "mean", dense(seed + 1, 32, 48, bias=False), Normalize())
