"""What the help of each command shows of its use; tests parse every line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "encode": (
            'embedge encode all-MiniLM-L6-v2 "the cat sat" --json',
            "embedge encode all-MiniLM-L6-v2 docs/*.jsonl --column text -o vectors.npy",
        ),
        "classify": (
            'embedge classify sentiment "what a day"',
            "embedge classify sentiment reviews.csv --column review -o labels.jsonl",
        ),
        "score": (
            'embedge score reranker "how tall are oaks" "An oak grows to 30 m." "Pines are green."',
            "embedge score reranker pairs.csv --column query --pair-column answer -o scores.jsonl",
        ),
        "rerank": (
            'embedge rerank reranker "how tall are oaks" "Pines are green." "An oak grows to 30 m."',
            'embedge rerank reranker "how tall are oaks" answers.jsonl --top 5 --json',
        ),
        "search": (
            'embedge search all-MiniLM-L6-v2 "how do I cancel a call" --in README.md docs/*.md',
            'embedge search vectors.npy "how do I cancel a call" --top 5',
        ),
        "serve": ("embedge serve all-MiniLM-L6-v2 reranker --port 8080",),
        "quantize": ("embedge quantize vectors.npy --precision binary -o small.npy",),
        "dedup": ("embedge dedup vectors.npy --threshold 0.97 -o different.npy",),
        "similar": ("embedge similar questions.npy answers.npy --top 3 --json",),
        "map": ("embedge map vectors.npy -o map.html",),
        "index": ("embedge index vectors.npy --format faiss -o vectors.faiss",),
        "inspect": (
            "embedge inspect all-MiniLM-L6-v2",
            "embedge inspect ./bundle --fingerprint",
        ),
        "verify": (
            "embedge verify all-MiniLM-L6-v2 --variant int8",
            "embedge verify ./bundle --signature bundle.minisig --public-key key.pub",
        ),
        "pack": ("embedge pack all-MiniLM-L6-v2 -o minilm.embedge",),
        "add": (
            "embedge add minilm.embedge",
            "embedge add https://example.org/minilm.embedge --fingerprint 0123456789ab",
        ),
        "rm": ("embedge rm all-MiniLM-L6-v2",),
        "list": ("embedge list", "embedge list --json"),
        "bench": (
            "embedge bench all-MiniLM-L6-v2",
            "embedge bench ./bundle --checkpoint ./checkpoint --python other/bin/python -o speed.svg",
            "embedge bench all-MiniLM-L6-v2 --variant int8 --save",
        ),
        "doctor": ("embedge doctor --json",),
        "completion": (
            'eval "$(embedge completion bash)"       # in ~/.bashrc',
            'eval "$(embedge completion zsh)"        # in ~/.zshrc, after compinit',
            "embedge completion fish > ~/.config/fish/completions/embedge.fish",
        ),
    }
)
