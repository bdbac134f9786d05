"""What the prompts of a call begin with, known before its texts: computed once where the graph can."""

from __future__ import annotations

from collections.abc import Sequence

from embedge._calls.options import CallOptions
from embedge._calls.resolve import prompt_of
from embedge._engine.engine import Engine
from embedge._text.templated_pairs import template_lead
from embedge.manifest import TemplateSpec
from embedge.types import ParsedPrompt


def lead_of(engine: Engine, stored_prompt: str) -> list[int]:
    """Tokens before texts; none where nothing is computed once."""
    if engine.forward.prefixes is None:
        return []
    tokenizer = engine.tokenizer
    return tokenizer.leads.of(stored_prompt, tokenizer.around, tokenizer.texts)


def lead_of_prompts(engine: Engine, prompts: Sequence[ParsedPrompt], options: CallOptions) -> list[int]:
    """Tokens before the texts, or the pairs, of a call."""
    template = engine.manifest.template
    if template is not None and any(isinstance(each, tuple) for each in prompts):
        return lead_of_pairs(engine, template, None)
    return lead_of(engine, prompt_of(engine.manifest, options))


def lead_of_pairs(
    engine: Engine, template: TemplateSpec, query: str | None, instruction: str | None = None
) -> list[int]:
    """Tokens before documents, or where queries differ before these; none where nothing is computed once.

    Args:
        engine: the loaded model.
        template: of its pairs.
        query: of all pairs; None where it differs.
        instruction: as of `encode_template`.
    """
    if engine.forward.prefixes is None:
        return []
    return template_lead(engine.tokenizer, template, query, instruction)
