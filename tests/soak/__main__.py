"""Run a soak, print what was seen, and write it beside the other figures; fails where an answer was wrong.

python -m tests.soak --minutes 30          # what `make soak` runs
python -m tests.soak --minutes 0.05 --loads 20 --no-write
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path

from tests.soak import figures, running


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--loads", type=int, default=1000, help="of a bundle, and of damaged ones; default: 1000"
    )
    parser.add_argument("--no-write", action="store_true", help="print alone")
    asked = parser.parse_args()
    seen = _apart(running.soak, asked.minutes * 60)
    loads = _apart(running.load_often, asked.loads)
    failing = _apart(running.fail_often, asked.loads)
    text = figures.section(seen, loads, failing, asked.loads)
    print(text)
    if not asked.no_write:
        figures.write("soak", text)
    if seen.faults:
        raise SystemExit("\n".join(seen.faults))


def _apart(work, much):
    """In a fresh process, which holds nothing of what ran before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool, tempfile.TemporaryDirectory() as folder:
        return pool.apply(work, (Path(folder), much))


if __name__ == "__main__":
    main()
