"""Prompts as tokens, and nothing computed from them."""

from __future__ import annotations

from embedge._calls.options import CallOptions, Prompts
from embedge._calls.request import refuse_pairs
from embedge._calls.resolve import prompt_of
from embedge._engine.engine import Engine
from embedge._text.prompts import parse_prompts
from embedge.outputs import PromptTokens


def tokenize(engine: Engine, prompts: Prompts, options: CallOptions) -> list[PromptTokens]:
    """Tokens of each prompt, none of them cut; arguments and errors are those of EdgeModel.tokenize."""
    parsed = parse_prompts(prompts)
    refuse_pairs(parsed, "tokenize")
    tower = engine.of(options.tower)
    before, tokenizer = prompt_of(tower.manifest, options), tower.tokenizer
    return [
        PromptTokens(
            token_ids=encoded.token_ids,
            tokens=tokenizer.texts.tokens(encoded.token_ids),
            offsets=encoded.offsets,
        )
        for encoded in tokenizer.whole(parsed, before, with_offsets=True)
    ]


def count_tokens(engine: Engine, prompts: Prompts, options: CallOptions) -> list[int]:
    """How many tokens each prompt has; arguments and errors are those of EdgeModel.count_tokens."""
    parsed = parse_prompts(prompts)
    refuse_pairs(parsed, "count_tokens")
    tower = engine.of(options.tower)
    before = prompt_of(tower.manifest, options)
    return [len(encoded.token_ids) for encoded in tower.tokenizer.whole(parsed, before)]
