"""Built-in texts on which every exported graph is compared with its reference."""

from __future__ import annotations

_SENTENCES = (
    "A man is eating food.",
    "The girl is carrying a baby through the rain.",
    "Berlin is the capital of Germany and its largest city.",
    "How do I reset a forgotten password without access to my e-mail?",
    "Plants turn light, water and carbon dioxide into sugar and oxygen.",
    "The central bank raised interest rates by a quarter of a percentage point on Thursday.",
    "Vitamin C cannot be stored by the body, so it has to come from food.",
    "To whom it may concern: the parcel arrived damaged, and I would like my money back.",
)

_LANGUAGES = (
    "Der Hund läuft über die Straße, während es schneit.",
    "L'été dernier, nous avons mangé des crêpes à Saint-Malo.",
    "El niño pidió más agua; ¿quién se la llevó?",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "Đây là một câu tiếng Việt có nhiều dấu.",
    "İstanbul'da ışıklar söndü ve çay soğudu.",
    "שלום עולם, זהו משפט מימין לשמאל.",
    "مرحبا بالعالم، هذه جملة من اليمين إلى اليسار.",
    "mixed שלום and English and مرحبا again",
    "今日は天気がいいので散歩に行きました。",
    "我喜欢在图书馆里读书。",
    "나는 오늘 아침에 커피를 마셨다.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "यह हिन्दी में लिखा हुआ एक वाक्य है।",
    "এটি বাংলায় লেখা একটি বাক্য।",
    "இது தமிழில் எழுதப்பட்ட ஒரு வாக்கியம்.",
    "ქართული ენა ლამაზია.",
    "ይህ በአማርኛ የተጻፈ ነው።",
)

_SYMBOLS = (
    "",
    " ",
    "a",
    "I",
    "7",
    "?",
    "...",
    "漢",
    "🙂",
    "👩‍👩‍👧‍👦 👍🏽 🇨🇭 ❤️",
    "e\u0301 and é, ﬁ and fi, Å and Å",
    "zero\u200bwidth\u200djoiner\ufeffmark",
    "tab\tnewline\nreturn\r\nend",
    "control \x01\x02\x07\x1b characters \x7f",
    "nul\x00inside",
    "\u00a0non-breaking\u2003spaces\u3000",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉 ℝ⁴ ½ ①",
    "[CLS] text with [SEP] markers [MASK] inside [PAD] </s> <|endoftext|>",
    "UPPER lower MiXeD",
)

_TECHNICAL = (
    "def add(a, b):\n    return a + b\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    '{"id": 17, "tags": ["a", "b"], "nested": {"ok": true, "none": null}}',
    "https://example.org/a/b?q=embeddings&page=2#results",
    "user.name+filter@example.co.uk, +41 (0)44 123 45 67, 2024-02-29T23:59:60Z",
    "ACGTTGCATGTCGCATGATGCATGAGAGCT" * 4,
    "3.14159265358979 -1e-7 0x1F 1,000,000 €99.95",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    r"\frac{\partial f}{\partial x} = \lim_{h \to 0} \frac{f(x+h)-f(x)}{h}",
    "<html><body><p>A &amp; B</p></body></html>",
)

_LENGTHS = (
    "the " * 40,
    "word " * 200,
    "x" * 300,
    " ".join(_SENTENCES),
    " ".join(_SENTENCES * 3),
    " ".join(reversed(_SENTENCES)),
    " ".join(_LANGUAGES),
    ("The quick brown fox jumps over the lazy dog, and nobody minds. " * 200)[:10_000],
)

TEXTS: tuple[str, ...] = (*_SENTENCES, *_LANGUAGES, *_SYMBOLS, *_TECHNICAL, *_LENGTHS)
"""At least 60 texts: empty, one character, scripts, symbols, code, repeated tokens, up to 10,000 characters."""

INSTRUCTION = (
    "Instruct: Given a question, retrieve passages that answer it, in whatever language they are written, and prefer "
    "those that name their source\nQuery: "
)
"""A prompt of more tokens than a prefix that is worth computing once."""

PROBES: tuple[str, ...] = (
    "",
    "a",
    "A man is eating food.",
    "Berlin is the capital of Germany and its largest city.",
    "L'été dernier, nous avons mangé des crêpes à Saint-Malo.",
    "今日は天気がいいので散歩に行きました。",
    "مرحبا بالعالم، هذه جملة من اليمين إلى اليسار.",
    "👩‍👩‍👧‍👦 👍🏽 🇨🇭 ❤️",
    "def add(a, b):\n    return a + b\n",
    "the " * 40,
)
"""Short texts whose expected answers travel with the bundle."""

_QUERIES = (
    "what is the capital of germany",
    "how do i reset my password?",
    "plants",
    "interest rates",
    "今日の天気",
    "def add",
    "x" * 30,
)

PAIRS: tuple[tuple[str, str], ...] = tuple(
    (_QUERIES[index % len(_QUERIES)], document)
    for index, document in enumerate(text for text in TEXTS if text.strip())
)
"""Queries and documents of mixed lengths; neither side is blank, which no reranker is asked about."""

PROBE_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (query, document)
    for query in _QUERIES[:2]
    for document in (_SENTENCES[1], _SENTENCES[2], _SENTENCES[3], _LANGUAGES[1], _TECHNICAL[0])
)
"""Short pairs whose expected answers travel with the bundle."""


def steps(tag: str) -> tuple[str, ...]:
    """Chains of reasoning for a process reward model, with its tag after each step."""
    chains = []
    for start in range(len(_SENTENCES)):
        parts = [_SENTENCES[(start + k) % len(_SENTENCES)] for k in range(1 + start % 5)]
        chains.append(" ".join(f"{part}{tag}" for part in parts))
    return (*(f"{text}{tag}" for text in TEXTS), *chains, _SENTENCES[0])
