"""Try every key at every value, list what is not right, and count."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import tempfile
from collections import Counter
from pathlib import Path

from tests.altered import tokenizers
from tests.altered.trial import Outcome, attempt
from tests.altered.values import alterations
from tests.export.architectures import make
from tests.families.groups import LOCAL

_MEMORY_BYTES = 12 << 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.altered")
    parser.add_argument("--family", action="append", help="this one alone; may be repeated")
    parser.add_argument("--reference", choices=("torch", "numpy"), default="numpy")
    parser.add_argument("--tokenizers", action="store_true", help="alter tokenizer_config.json instead")
    parser.add_argument("--every", type=int, default=1, help="only each so-many-th")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    logging.disable(logging.ERROR)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as scratch:
        for family in asked.family or (tokenizers.MADE if asked.tokenizers else LOCAL):
            folder = Path(scratch, family)
            if asked.tokenizers:
                tokenizers.make(family, folder)
                trials = tokenizers.alterations(family, folder)
            else:
                make(folder, family, "embed")
                trials = alterations(family, folder)
            for alteration in list(trials)[:: asked.every]:
                if asked.tokenizers:
                    outcome = tokenizers.attempt(alteration, folder, asked.reference)
                else:
                    outcome = attempt(alteration, folder, Path(scratch), asked.reference)
                outcomes.append(outcome)
                if not outcome.is_right:
                    words = " ".join(outcome.words.split())[:200]
                    print(
                        f"{outcome.verdict:8} {family} {alteration.key}={alteration.value!r}: {words}",
                        flush=True,
                    )
    counts = Counter(outcome.verdict for outcome in outcomes)
    print(json.dumps({"reference": asked.reference, "count": len(outcomes), **counts}))
    return 0 if all(outcome.is_right for outcome in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
