"""Seeded changes of what JSON and bytes hold."""

from __future__ import annotations

import json
import random
from typing import Any

TEXTS = (
    *(
        "",
        "a",
        "the river",
        "../../etc/passwd",
        "/etc/passwd",
        "onnx/model.onnx",
        "tokenizer.json",
        ".",
        "\x00",
    ),
    *(
        "\x1b[31mred\x1b[0m",
        "\r\nforged: line",
        "\u202eright to left",
        "🙂",
        "x" * 5000,
        "%s{0}{query}",
        "{",
        "nan",
    ),
    *("float32", "embed", "score", "CLS", "input_ids", "NFKD", "Regex", "Isolated", "e" * 64, "0" * 64),
)
NUMBERS = (
    *(0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, 3.0),
)


_MOST_PLACES = 5000


def _copy(tree: Any) -> Any:
    return json.loads(json.dumps(tree))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that JSON can hold."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice(NUMBERS)
    if kind in (3, 4):
        return rng.choice(TEXTS)
    if kind == 5:
        return {rng.choice(TEXTS): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    count = rng.choice([0, 1, 2, 3, 200]) if depth == 0 else rng.randrange(4)
    return [value(rng, depth + 1) for _ in range(count)]


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Containers of a tree with each of their keys or positions, the first some thousand."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < _MOST_PLACES:
        holder = waiting.pop()
        keys: Any = (
            list(holder)
            if isinstance(holder, dict)
            else range(len(holder))
            if isinstance(holder, list)
            else ()
        )
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def changed(tree: Any, rng: random.Random) -> Any:
    """A copy with one to three changes: values replaced, taken from elsewhere, removed, repeated, nested or added."""
    tree = _copy(tree)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = places(tree)
        if not found:
            return tree
        # vocabularies have thousands of places, and the rest some dozens
        few = [(holder, key) for holder, key in found if len(holder) < 40]
        holder, key = rng.choice(few if few and rng.random() < 0.9 else found)
        _change(holder, key, found, rng)
    return tree


def _change(holder: Any, key: Any, found: list[tuple[Any, Any]], rng: random.Random) -> None:
    way = rng.randrange(9)
    if way in (0, 1):
        holder[key] = value(rng)
    elif way == 2:
        other, place = rng.choice(found)
        holder[key] = _copy(other[place])
    elif way == 3:
        del holder[key]
    elif way == 4:
        holder[key] = _near(holder[key], rng)
    elif way == 5:
        # what is made here counts to the memory that a case takes
        holder[key] = [holder[key]] * (rng.choice([1, 2, 1000]) if len(json.dumps(holder[key])) < 200 else 2)
    elif way == 6:
        inner = holder[key]
        for _ in range(rng.choice([1, 3, 120])):
            inner = rng.choice([[inner], {"type": "Sequence", "normalizers": [inner]}])
        holder[key] = inner
    elif isinstance(holder, dict):
        holder[rng.choice([*TEXTS, *(k for h, k in found if isinstance(h, dict))])] = value(rng)
    else:
        holder.insert(key, _copy(rng.choice([holder[key], value(rng)])))


def _near(old: Any, rng: random.Random) -> Any:
    """Of the same type, and so often passed on."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice([old + 1, old - 1, -old, old * 2, old * 1000, rng.choice(NUMBERS)])
    if isinstance(old, float):
        return rng.choice([old * 2, -old, old + 1, rng.choice(NUMBERS)])
    if isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        return rng.choice(
            [old[:at] + rng.choice(TEXTS) + old[at:], old[:at], old * 2, rng.choice(TEXTS), old.upper()]
        )
    return old


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    """A copy with bits turned, pieces cut, repeated, or put elsewhere."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if not data:
            break
        at, size = rng.randrange(len(data)), rng.choice([1, 2, 8, 100])
        way = rng.randrange(7)
        if way in (0, 1):
            data[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif way == 3:
            del data[at : at + size]
        elif way == 4:
            data[at:at] = data[at : at + size] * rng.choice([1, 1, 50])
        elif way == 5:
            data[at:at] = rng.choice([b"[", b'{"a":', b'"', b"\\u0000"]) * rng.choice([1, 1, 100_000])
        else:
            del data[at:]
    return bytes(data)
