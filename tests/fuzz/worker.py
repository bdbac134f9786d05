"""A process that runs cases one after the other, and says of each how it ended."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from tests.fuzz.kinds import KINDS, Cases
from tests.fuzz.places import DiffersError, before_asking

from embedge.errors import EmbedgeError

MOST_CPU_S = 5.0
_GUARD_BYTES = 3 << 30
_LONGEST_MESSAGE = 4000


def run(kind: str, seed: int, first: int, last: int, report: TextIO) -> None:
    """Run cases and report each: a line before, so that whoever waits knows which one hangs, and a line after."""
    with tempfile.TemporaryDirectory() as scratch:
        cases = KINDS[kind].make(Path(scratch))
        whole = len(cases) if hasattr(cases, "__len__") else None
        last = last if whole is None else min(last, whole)
        most_kib = 2 * _memory_kib("VmHWM")  # sound bundles have been made and asked
        _limit_address_space()
        for index in range(first, last):
            _say(report, begun=index, cpu_s=_cpu_s())
            before_asking()
            before = _cpu_s()
            outcome, words = _outcome(cases, index, random.Random(f"{seed}/{index}"))
            if outcome in ("answered", "refused"):
                if (peak := _memory_kib("VmHWM")) > most_kib:
                    outcome, words = (
                        "memory",
                        f"{peak >> 10} MiB, and twice the sound bundle's are {most_kib >> 10} MiB",
                    )
                elif (taken := _cpu_s() - before) > MOST_CPU_S:
                    outcome, words = "slow", f"{taken:.1f} s"
            _say(report, done=index, outcome=outcome, words=words)
            if outcome == "memory":  # which may be kept, and would count for the cases after it
                last = index + 1
                break
        _say(report, end=last, complete=last == whole)


def _outcome(cases: Cases, index: int, rng: random.Random) -> tuple[str, str]:
    try:
        cases.run(index, rng)
    except EmbedgeError as error:
        return _of_message(error)
    except DiffersError as error:
        return "differs", str(error)
    except BaseException as error:  # a panic of Rust is no Exception
        return "foreign", f"{type(error).__module__}.{type(error).__name__}: {error}"[:500]
    return "answered", ""


def _of_message(error: EmbedgeError) -> tuple[str, str]:
    message = str(error)
    if not message or len(message) > _LONGEST_MESSAGE or not message.isprintable():
        return "message", f"{type(error).__name__}: {message[:300]!r}, {len(message)} characters"
    return "refused", type(error).__name__


def _say(report: TextIO, **facts: object) -> None:
    report.write(json.dumps(facts) + "\n")
    report.flush()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def _limit_address_space() -> None:
    limit = (_memory_kib("VmSize") << 10) + _GUARD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    sys.set_int_max_str_digits(0)
    with os.fdopen(int(numbers.pop()), "w") as pipe:
        run(name, *map(int, numbers), pipe)
    os._exit(0)  # ways to leave a process have tests of their own
