"""Varied texts for parity tests: the same on every machine with the same Python."""

from __future__ import annotations

import inspect
import random

_SEEDS = [
    "",
    "a",
    " ",
    "?",
    "🙂",
    "👩‍👩‍👧‍👦 family 🇩🇪",
    "שלום עולם, זהו משפט בעברית",
    "مرحبا بالعالم، هذه جملة",
    "机器学习模型把句子变成向量。",
    "東京は日本の首都です。",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया",
    "Здравствуй, мир! Это предложение.",
    "naïve café – Ångström, İstanbul, ﬁne ½",
    "line\nbreak\ttab\r\nreturn\x00null",
    "https://example.org/a/b?c=d#e mail@example.org",
    "SELECT * FROM t WHERE a <> 'b';",
    "def f(x):\n    return x ** 2",
    "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "The capital of France is Paris.",
    "word " * 2000,
]
_BY_OTHERS = {"asyncio.__main__", "logging.config", "logging.handlers"}
"""Modules that are members of their packages once something has imported them."""


def texts(count: int, seed: int = 0) -> list[str]:
    """Edge cases first, then pieces of the standard library's docstrings from 1 to 240 words."""
    import argparse
    import asyncio
    import collections
    import decimal
    import logging
    import pathlib
    import subprocess
    import threading

    rng = random.Random(seed)
    words: list[str] = []
    for module in (argparse, asyncio, collections, decimal, logging, pathlib, subprocess, threading):
        for name, member in sorted(inspect.getmembers(module), key=lambda pair: pair[0]):
            if f"{module.__name__}.{name}" in _BY_OTHERS:
                continue
            words += (inspect.getdoc(member) or "").split()
    made = list(_SEEDS)
    while len(made) < count:
        length = rng.choice((1, 2, 4, 8, 16, 30, 60, 240))
        start = rng.randrange(len(words) - length)
        made.append(" ".join(words[start : start + length]))
    return made[:count]
