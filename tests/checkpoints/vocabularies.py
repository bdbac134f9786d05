"""Tokenizers of every family, trained on a small corpus in many scripts and wrapped in the family's own class."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from tests.corpus import texts

SENTENCES = (
    "Judge whether the Document meets the requirements based on the Query. The answer can only be yes or no.",
    "Der schnelle braune Fuchs springt über den faulen Hund, und die Straße ist naß.",
    "Le cœur a ses raisons que la raison ne connaît point ; où est-il né ?",
    "El niño comió una manzana mañana por la mañana. ¿Cuántos años tienes?",
    "Быстрая бурая лиса перепрыгивает через ленивую собаку.",
    "Γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "快速的棕色狐狸跳过懒狗。今天天气很好。",
    "素早い茶色の狐がのろまな犬を飛び越える。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
)
STEP_TAG = "<extra_0>"
MATH_STEP_TAG = "ки"


def corpus() -> list[str]:
    return [text for text in texts(260, seed=1) if len(text) < 3000] + list(SENTENCES) * 4


def word_piece(model: str = "Bert", **settings: Any) -> Any:
    """BERT, DistilBERT, ELECTRA: [CLS] A [SEP] B [SEP] with segments, lowercase. MPNet: <s> A </s></s> B </s>."""
    import transformers
    from tokenizers import Tokenizer

    tokenizer_class = getattr(transformers, f"{model}TokenizerFast")
    tokenizer = Tokenizer.from_str(_word_piece(mpnet=model == "MPNet"))
    return tokenizer_class(tokenizer_object=tokenizer, **{"model_max_length": 128} | settings)


def byte_bpe(kind: str, **settings: Any) -> Any:
    """Byte-level BPE as RoBERTa, ModernBERT, Qwen or Llama 3 use it."""
    import transformers
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_str(_byte_bpe(kind))
    generic = transformers.PreTrainedTokenizerFast
    if kind == "roberta":
        return transformers.RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **settings)
    if kind == "modernbert":
        return generic(
            tokenizer_object=tokenizer, model_max_length=128, cls_token="[CLS]", sep_token="[SEP]",
            pad_token="[PAD]", unk_token="[UNK]", mask_token=AddedToken("[MASK]", lstrip=True),
            model_input_names=["input_ids", "attention_mask"], **settings,
        )  # fmt: skip
    if kind == "llama":
        return generic(
            tokenizer_object=tokenizer, model_max_length=256, bos_token="<|begin_of_text|>",
            eos_token="<|end_of_text|>", pad_token="<|end_of_text|>",
            model_input_names=["input_ids", "attention_mask"], **settings,
        )  # fmt: skip
    eos_token = "<|endoftext|>" if kind == "qwen-embedding" else "<|im_end|>"
    return transformers.Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token=eos_token, pad_token="<|endoftext|>",
        **{"model_max_length": 2048, "padding_side": "left"} | settings,
    )  # fmt: skip


def unigram(model: str, **settings: Any) -> Any:
    """SentencePiece-like Unigram as XLM-R, CamemBERT, ALBERT, DeBERTa-v2 and T5 use it."""
    import transformers
    from tokenizers import Tokenizer

    tokenizer_class = getattr(transformers, f"{model}TokenizerFast")
    if model == "T5":
        settings = {"extra_ids": 4} | settings
    return tokenizer_class(
        tokenizer_object=Tokenizer.from_str(_unigram(model)), model_max_length=128, **settings
    )


def byte_fallback(kind: str, **settings: Any) -> Any:
    """SentencePiece-like BPE that falls back to bytes, as Mistral (with <s>) and Gemma (<bos> A <eos>) use it."""
    import transformers
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(_byte_fallback(kind))
    if kind == "gemma":
        return transformers.GemmaTokenizerFast(
            tokenizer_object=tokenizer, model_max_length=256, add_bos_token=True, add_eos_token=True,
            padding_side="right", **settings,
        )  # fmt: skip
    return transformers.LlamaTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=256, pad_token="</s>", add_prefix_space=None, legacy=False,
        **settings,
    )  # fmt: skip


def with_token(tokenizer: Any, *tokens: str, special: bool = False) -> Any:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens])
    return tokenizer


@functools.cache
def _pieces(*, lowercase: bool = False, only_ascii: bool = False) -> tuple[tuple[str, float], ...]:
    """Pieces of words with their log probability, words marked by a leading ▁, most frequent first.

    Trained as byte pairs on marked words for every family: the trainers of WordPiece and Unigram break ties
    by the order of a hash map, which varies from run to run.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    normalize, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    lines = [normalize.normalize_str(text) if lowercase else text for text in corpus()]
    words = [word for line in lines for word, _ in split.pre_tokenize_str(line)]
    marked = ["▁" + word for word in words if word.isascii() or not only_ascii]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False)
    tokenizer.train_from_iterator(marked, trainer)
    counts = dict.fromkeys(sorted(tokenizer.get_vocab()), 1)
    for encoding in tokenizer.encode_batch(marked):
        for token in encoding.tokens:
            counts[token] += 1
    total = math.log(sum(counts.values()))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple((token, round(math.log(count) - total, 4)) for token, count in ordered)


@functools.cache
def _word_piece(*, mpnet: bool) -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = [piece for piece, _ in _pieces(lowercase=True)]
    letters = [piece for piece in pieces if len(piece) == 1 and piece != "▁"]
    words = [piece[1:] if piece[0] == "▁" else "##" + piece for piece in pieces if piece != "▁"]
    # all of ASCII's, as in every real vocabulary: late interaction looks its punctuation up
    words = list(dict.fromkeys([*words, *letters, *map(chr, range(33, 127))]))
    start, end = ("<s>", "</s>") if mpnet else ("[CLS]", "[SEP]")
    # the order of the real vocabularies; the unused ones are no special tokens there either
    head = (
        ["<s>", "<pad>", "</s>", "[UNK]"]
        if mpnet
        else ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    )
    tokens = [*head, *words, *(["<mask>"] if mpnet else [])]
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if mpnet:
        tokenizer.post_processor = processors.RobertaProcessing(
            (end, ids[end]), (start, ids[start]), trim_offsets=True, add_prefix_space=False
        )
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(start, ids[start]), (end, ids[end])],
        )
    return tokenizer.to_str()


_BYTE_SPECIALS = {
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    "modernbert": ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": ["<|begin_of_text|>", "<|end_of_text|>"],
}
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@functools.cache
def _byte_bpe(kind: str) -> str:
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    family = kind.partition("-")[0]
    specials = _BYTE_SPECIALS[family]
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=family in ("roberta", "modernbert")
    )
    tokenizer.pre_tokenizer = byte_level
    if family in ("qwen", "llama"):
        split = pre_tokenizers.Split(Regex(_QWEN_SPLIT), behavior="isolated", invert=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    if family in ("qwen", "modernbert"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # both words often enough to become one token each, as in the real vocabulary
    tokenizer.train_from_iterator(
        [*corpus(), "yes no user system assistant query document\n" * 2] * 2 + ["yes", "no"] * 200, trainer
    )
    ids = {token: tokenizer.token_to_id(token) for token in specials}
    if family == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=False
        )
    elif family == "modernbert":
        tokenizer.post_processor = _template(
            "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0", ids, "[CLS]", "[SEP]"
        )
    elif kind == "llama":
        bos = "<|begin_of_text|>"
        tokenizer.post_processor = _template(f"{bos}:0 $A:0", f"{bos}:0 $A:0 {bos}:1 $B:1", ids, bos)
    elif kind == "qwen-embedding":
        end = "<|endoftext|>"
        tokenizer.post_processor = _template(f"$A:0 {end}:0", f"$A:0 {end}:0 $B:1 {end}:1", ids, end)
    return tokenizer.to_str()


def _template(single: str, pair: str, ids: dict[str, int], *specials: str) -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, ids[token]) for token in specials]
    )


# tokens before and after the pieces, start, end, unknown
_UNIGRAM_HEADS: dict[str, tuple[list[str], list[str], str, str, str]] = {
    "XLMRoberta": (["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"], "<s>", "</s>", "<unk>"),
    "Camembert": (
        ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"], ["<mask>"],
        "<s>", "</s>", "<unk>",
    ),
    "Albert": (["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], [], "[CLS]", "[SEP]", "<unk>"),
    "DebertaV2": (["[PAD]", "[CLS]", "[SEP]", "[UNK]"], ["[MASK]"], "[CLS]", "[SEP]", "[UNK]"),
    "T5": (["<pad>", "</s>", "<unk>"], [], "", "</s>", "<unk>"),
}  # fmt: skip


@functools.cache
def _unigram(model: str) -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    head, tail, start, end, unknown = _UNIGRAM_HEADS[model]
    tokenizer = Tokenizer(models.Unigram())
    # in the form of the published ones, without their table of characters: transformers 5 makes both anew, by the class
    if model == "Albert":
        quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        tokenizer.normalizer = normalizers.Sequence([*quotes, *letters])
    elif model == "DebertaV2":
        spaces = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
        tokenizer.normalizer = normalizers.Sequence(
            [spaces, normalizers.NFC(), normalizers.Strip(left=False)]
        )
    marks = [pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    split = [] if model == "DebertaV2" else [pre_tokenizers.WhitespaceSplit()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, *marks])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    pieces = [(token, score) for token, score in _pieces() if token not in {*head, *tail}]
    vocabulary = [*((token, 0.0) for token in head), *pieces, *((token, 0.0) for token in tail)]
    tokenizer.model = models.Unigram(vocabulary, head.index(unknown), False)
    ids = {token: index for index, (token, _) in enumerate(vocabulary)}
    if model == "T5":
        tokenizer.post_processor = _template("$A:0 </s>:0", "$A:0 </s>:0 $B:0 </s>:0", ids, end)
    elif model in ("XLMRoberta", "Camembert"):
        tokenizer.post_processor = _template(
            "<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0", ids, start, end
        )
    else:
        tokenizer.post_processor = _template(
            "[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", ids, start, end
        )
    return tokenizer.to_str()


_FALLBACK_SPECIALS = {
    "mistral": ["<unk>", "<s>", "</s>"],
    "gemma": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"],
}


@functools.cache
def _byte_fallback(kind: str) -> str:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    specials = _FALLBACK_SPECIALS[kind]
    byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
    # other scripts are left to the bytes
    pieces = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[*specials, *byte_tokens, "▁"], show_progress=False
    )
    words = [f"▁{word}" for text in corpus() for word in text.split(" ") if word.isascii()]
    pieces.train_from_iterator(words, trainer)
    model = json.loads(pieces.to_str())["model"]
    tokenizer = Tokenizer(
        models.BPE(
            model["vocab"],
            [tuple(pair) for pair in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens(specials)
    prepend = [normalizers.Prepend("▁")] if kind == "mistral" else []
    tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
    if kind == "gemma":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    strip = [decoders.Strip(" ", 1, 0)] if kind == "mistral" else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer.to_str()
