"""Measurements of embedge and its peers: `python -m benchmarks run`, then `python -m benchmarks table`."""

from __future__ import annotations

import sys


def _say_what_is_missing(kind, error, trace):
    """One sentence where an environment lacks what a command imports; all commands have environments of their own."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    # without a name, a library says in words of its own what it lacks
    if not issubclass(kind, ModuleNotFoundError) or missing in ("", "benchmarks", "embedge"):
        sys.__excepthook__(kind, error, trace)
        return
    print(
        f"{error} in {sys.prefix}; the Makefile says in which of .venvs each benchmark runs, and makes it (make bench, "
        "bench-jobs, bench-actors)",
        file=sys.stderr,
    )


sys.excepthook = _say_what_is_missing
