"""Windows of long prompts."""

from __future__ import annotations

import pytest

from embedge import PromptError
from embedge._text.tokenizer import PromptTokenizer
from embedge._text.windows import cut_into_windows
from embedge.manifest import load_manifest


@pytest.fixture
def tokenizer(tiny_embedder) -> PromptTokenizer:
    manifest = load_manifest(tiny_embedder)
    return PromptTokenizer(
        (tiny_embedder / "tokenizer.json").read_bytes(),
        manifest.tokenizer,
        vocab_size=manifest.vocab_size,
        max_seq_len=10,
    )


def test_windows_cover_the_text_and_join_gives_it_back(tokenizer) -> None:
    text = " ".join(["food city water"] * 7)
    whole = tokenizer.texts._tokenizer.encode(text).ids
    (windows,) = cut_into_windows(tokenizer, [text])
    assert [len(w.token_ids) for w in windows.parts] == [10, 10, 7]
    assert windows.joined().token_ids == whole
    assert windows.num_text_tokens == [8, 8, 5]
    (prompted,) = cut_into_windows(tokenizer, [text], "how do ")
    assert all(w.token_ids[1:3] == prompted.parts[0].token_ids[1:3] for w in prompted.parts)
    with pytest.raises(PromptError, match="leaves no room"):
        cut_into_windows(tokenizer, [text], "food " * 9)
