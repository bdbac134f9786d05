"""The pipelines that tokenizer classes of transformers 5 build by themselves, of a vocabulary and their options."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Options: TypeAlias = Mapping[str, Any]
"""What tokenizer_config.json and the class's defaults state."""

CHARACTERS = "_spm_precompiled_charsmap"
"""Option that holds the table of characters of tokenizer.json, or None."""
_MARK = "▁"
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def precompiled(file: Mapping[str, Any]) -> bytes | None:
    """The table of characters in a tokenizer.json, which classes keep."""
    state = file.get("normalizer") or {}
    stages = state["normalizers"] if state.get("type") == "Sequence" else [state]
    for stage in stages:
        if stage.get("type") == "Precompiled" and "precompiled_charsmap" in stage:
            return base64.b64decode(stage["precompiled_charsmap"])
    return None


def without_specials() -> Any:
    """What stands around texts where neither the class nor the file says it."""
    from tokenizers import processors

    return processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])


def word_piece(model: dict[str, Any], options: Options) -> Any:
    """WordPiece as BERT and MPNet have it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(model["vocab"], unk_token=str(options["unk_token"])))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options["tokenize_chinese_chars"],
        strip_accents=options["strip_accents"],
        lowercase=options["do_lower_case"],
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _unigram(model: dict[str, Any], unk_id: int) -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.Unigram([(token, score) for token, score in model["vocab"]], unk_id, False))


def _marked_words(tokenizer: Any, scheme: str) -> Any:
    from tokenizers import decoders, pre_tokenizers

    marks = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks])
    tokenizer.decoder = decoders.Metaspace(replacement=_MARK, prepend_scheme=scheme)
    return tokenizer


def pieces(unk_id: int | None = None, *, always: bool = False) -> Callable[[dict[str, Any], Options], Any]:
    """Words marked at their beginning; the unknown token is the one of this id, else the one that is stated.

    Args:
        unk_id: of the unknown token.
        always: whatever add_prefix_space says.
    """

    def build(model: dict[str, Any], options: Options) -> Any:
        from tokenizers import normalizers

        tokenizer = _unigram(model, _unknown(model, options) if unk_id is None else unk_id)
        if options[CHARACTERS] is not None:
            tokenizer.normalizer = normalizers.Precompiled(options[CHARACTERS])
        return _marked_words(tokenizer, "always" if always or options["add_prefix_space"] else "never")

    return build


def _unknown(model: dict[str, Any], options: Options) -> int:
    unknown = str(options["unk_token"])
    return next((index for index, (token, _) in enumerate(model["vocab"]) if token == unknown), 0)


def albert(model: dict[str, Any], options: Options) -> Any:
    """Unigram as ALBERT has it."""
    from tokenizers import normalizers

    tokenizer = _unigram(model, 1)
    stages: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not options["keep_accents"]:
        stages += [normalizers.NFKD(), normalizers.StripAccents()]
    if options["do_lower_case"]:
        stages.append(normalizers.Lowercase())
    if options[CHARACTERS] is not None:
        stages.append(normalizers.Precompiled(options[CHARACTERS]))
    tokenizer.normalizer = normalizers.Sequence(stages)
    return _marked_words(tokenizer, "always" if options["add_prefix_space"] else "never")


def deberta_v2(model: dict[str, Any], options: Options) -> Any:
    """Unigram as DeBERTa-v2 has it."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    vocabulary = [(token, score) for token, score in model["vocab"]]
    unknown = (str(options["unk_token"]), 0.0)
    tokenizer = _unigram(model, vocabulary.index(unknown) if unknown in vocabulary else options["unk_id"])
    lowercase = [normalizers.Lowercase()] if options["do_lower_case"] else []
    spaces = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [*lowercase, spaces, normalizers.NFC(), normalizers.Strip(left=False, right=True)]
    )
    scheme = "always" if options["add_prefix_space"] else "first"
    split = [pre_tokenizers.Punctuation(behavior="isolated")] if options["split_by_punct"] else []
    marks = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, marks])
    tokenizer.decoder = decoders.Metaspace(replacement=_MARK, prepend_scheme=scheme)
    return tokenizer


def _bpe(model: dict[str, Any], **settings: Any) -> Any:
    from tokenizers import Tokenizer, models

    pairs: Any = [
        tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]
    ]
    return Tokenizer(models.BPE(vocab=model["vocab"], merges=pairs, dropout=None, **settings))


def byte_pieces(model: dict[str, Any], options: Options) -> Any:
    """Byte pairs as GPT-2 and RoBERTa have them."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer = _bpe(model, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options["add_prefix_space"])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def qwen(model: dict[str, Any], options: Options) -> Any:
    """Byte pairs as Qwen2 has them."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    prefix_space = bool(options["add_prefix_space"])
    tokenizer = byte_pieces(model, {"add_prefix_space": prefix_space})
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated", invert=False)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    return tokenizer


def gemma(model: dict[str, Any], options: Options) -> Any:
    """Byte pairs with a fallback to bytes, as Gemma has them."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokenizer = _bpe(model, fuse_unk=True, unk_token=str(options["unk_token"]), byte_fallback=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.normalizer = normalizers.Replace(" ", _MARK)
    return tokenizer


def llama(model: dict[str, Any], options: Options) -> Any:
    """Byte pairs with a fallback to bytes, as Llama 2 has them."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer = _bpe(model, fuse_unk=True, byte_fallback=True)
    prefix_space = options["add_prefix_space"] is None or bool(options["add_prefix_space"])
    scheme = ("always" if options["legacy"] else "first") if prefix_space else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(content=" ", left=1)] if prefix_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_MARK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def template(single: str, pair: str, *names: str) -> Callable[[Any, Options], Any]:
    """Special tokens by their names in braces."""

    def around(tokenizer: Any, options: Options) -> Any:
        from tokenizers import processors

        tokens = {name: str(options[name]) for name in names}
        return processors.TemplateProcessing(
            single=single.format_map(tokens),
            pair=pair.format_map(tokens),
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in tokens.values()],
        )

    return around


def roberta_around(tokenizer: Any, options: Options) -> Any:
    """`<s> A </s></s> B </s>`."""
    from tokenizers import processors

    sep, cls = str(options["sep_token"]), str(options["cls_token"])
    return processors.RobertaProcessing(
        (sep, tokenizer.token_to_id(sep)),
        (cls, tokenizer.token_to_id(cls)),
        options["trim_offsets"],
        options["add_prefix_space"],
    )


def t5_around(tokenizer: Any, options: Options) -> Any:
    """`A </s> B </s>`."""
    from tokenizers import processors

    ends = tokenizer.token_to_id(str(options["eos_token"]))  # whose text the class takes to be </s>
    return processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", ends)]
    )
