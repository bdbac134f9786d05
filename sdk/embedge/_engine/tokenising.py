"""Prompts of a call become token ids: at once, or for an accelerator in pieces while earlier ones are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from embedge._engine.engine import Engine
from embedge._sessions.on_devices import DeviceSessions
from embedge._text.ahead import FROM_PROMPTS, ArrivingRows
from embedge._text.tokens import Encoded, EncodedRows
from embedge.errors import PromptError
from embedge.types import ParsedPrompt, Side

_PIECES_AHEAD = 2


def encode_prompts(
    engine: Engine,
    prompts: Sequence[ParsedPrompt],
    limits: Sequence[int | None],
    *,
    truncation_side: Side | None = None,
    stored_prompt: str = "",
    with_offsets: bool = False,
) -> Sequence[Encoded]:
    """Tokenise prompts; many for an accelerator only when they are computed, while earlier ones run.

    Arguments and errors are those of PromptTokenizer.encode; of prompts for an accelerator the errors may come
    when they are computed.
    """
    encode = partial(
        engine.tokenizer.encode,
        truncation_side=truncation_side,
        stored_prompt=stored_prompt,
        with_offsets=with_offsets,
    )
    if not isinstance(engine.sessions, DeviceSessions) or len(prompts) < FROM_PROMPTS:
        return encode(prompts, limits)
    for limit in set(limits):
        engine.tokenizer.check_limit(limit)

    searched = threading.Lock()
    found: list[PromptError] = []

    def encode_at(positions: list[int]) -> EncodedRows:
        try:
            rows = encode([prompts[i] for i in positions], [limits[i] for i in positions])
        except PromptError as error:
            with searched:
                if not found:
                    found.append(_first_error(lambda: encode(prompts, limits), error))
            raise found[0] from None
        return rows if isinstance(rows, EncodedRows) else EncodedRows.of(rows)

    ahead = _PIECES_AHEAD if engine.choice.threads > 1 else 0
    return ArrivingRows(_likely_sizes(prompts), encode_at, ahead)


def _first_error(encode: Callable[[], object], error: PromptError) -> PromptError:
    """What tokenising all prompts raises, whose message names the first bad one by its position in the call."""
    try:
        encode()
    except PromptError as first:
        return first
    return error  # pragma: no cover (all prompts hold the bad one, too)


def _likely_sizes(prompts: Sequence[ParsedPrompt]) -> list[int]:
    """What goes with the numbers of tokens: characters, of which a token has about four."""
    if set(map(type, prompts)) == {str}:
        return list(map(len, prompts))
    return [
        len(prompt)
        if isinstance(prompt, str)
        else 4 * len(prompt)
        if isinstance(prompt, list)
        else sum(map(len, prompt))
        for prompt in prompts
    ]
