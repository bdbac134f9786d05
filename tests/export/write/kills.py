"""Exports that are killed at random moments, and at every call of the file system while a bundle is replaced.

python -m tests.export.write.kills --runs 200 --write     # figures into benchmarks/results/reliability.md
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from embedge.bundle import check_files, open_bundle
from embedge.errors import EmbedgeError

SIGNALS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP")
"""In turn; the last two clean up by themselves."""


def main() -> int:
    """Run what is asked for; the status says whether anything was half, lost or left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seen = kill_exports(Path(scratch), asked.runs, asked.seed, print)
    calls = {ways: every_call(exchanging=ways) for ways in (True, False)}
    print(dict(seen), {("exchanged" if ways else "renamed"): dict(each) for ways, each in calls.items()})
    if asked.write:
        from tests.soak.figures import write

        write("kills", section(seen, calls, asked.runs, asked.seed))
    return int(any(each[bad] for each in (seen, *calls.values()) for bad in ("half", "lost", "left")))


def kill_exports(
    scratch: Path, runs: int, seed: int, tell: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """Replace a bundle by another of the same checkpoint again and again, and kill each export at a random moment.

    Args:
        scratch: an empty folder.
        runs: kills.
        seed: of the moments.
        tell: is told of what went wrong.

    Returns:
        How often the bundle was the old or the new one, half, lost, and how often something was left after the next
        export; "hidden" counts what was left until then.
    """
    from tests.export.tiny import make_bert

    import embedge_export.pipeline  # in the parent, which makes no thread, so that children may be forked

    make_bert(scratch / "checkpoint")
    target = scratch / "store" / "bundle"
    durations = [in_child(partial(export, scratch, number), kill_after_s=None)[1] for number in (0, 1, 0)]
    known = {0: open_bundle(target).manifest.fingerprint}
    in_child(lambda: export(scratch, 1), kill_after_s=None)
    known[1] = open_bundle(target).manifest.fingerprint
    assert known[0] != known[1]
    assert embedge_export.pipeline is not None
    rng, seen, present = random.Random(seed), Counter[str](), 1
    for run in range(runs):
        name = SIGNALS[run % len(SIGNALS)]
        # a time, or the last moments, when the manifest is there
        after_s = rng.uniform(0, 1.2) * max(durations) if run % 3 else rng.uniform(0, 0.01)
        nearly = None if run % 3 else f".{target.name}.export-*/manifest.json"
        in_child(
            partial(export, scratch, 1 - present),
            kill_after_s=after_s,
            number=getattr(signal, name),
            once=nearly and (target.parent, nearly),
        )
        seen[f"{name} hidden"] += sum(each.name != "bundle" for each in target.parent.iterdir())
        in_child(lambda: abandon(target), kill_after_s=None)  # the next export, which comes to nothing
        state = found(target, known)
        if any(each.name != "bundle" for each in target.parent.iterdir()):
            state = "left"
        seen[state if isinstance(state, str) else ("old" if state == present else "new")] += 1
        if isinstance(state, str):
            tell(
                f"run {run}, {name} after {after_s:.3f} s: {state}: {[each.name for each in target.parent.iterdir()]}"
            )
            in_child(lambda: export(scratch, 0), kill_after_s=None)
            state = 0
        present = state
    return seen


def found(target: Path, known: dict[int, str]) -> int | str:
    """Which bundle lies there, whole; or "half", or "lost"."""
    if not target.exists():
        return "lost"
    try:
        opened = open_bundle(target)
        check_files(opened)
    except EmbedgeError:
        return "half"
    return next((number for number, value in known.items() if value == opened.manifest.fingerprint), "half")


def export(scratch: Path, number: int) -> None:
    """One of two bundles of a tiny checkpoint, over what is there."""
    from embedge_export import pipeline
    from embedge_export.spec import ExportSpec

    prompts = {"query": f"how {number} "}
    pipeline.export(
        ExportSpec(
            model=str(scratch / "checkpoint"),
            output=scratch / "store" / "bundle",
            prompts=prompts,
            witness=False,
            force=True,
        )
    )


def abandon(target: Path) -> None:
    """Begin an export and end it before it has anything."""
    from embedge_export.write.staging import staging

    with staging(target, 0, force=True):
        pass


def in_child(
    work: Callable[[], object],
    *,
    kill_after_s: float | None,
    number: int = signal.SIGKILL,
    once: tuple[Path, str] | None = None,
) -> tuple[int, float]:
    """Do something in a fork that gets a signal after some seconds, counted from when a file is there.

    Returns:
        Its status and seconds.
    """
    start = time.monotonic()
    child = os.fork()
    if not child:
        try:
            os.setpgrp()
            work()
            os._exit(0)
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else 1)
        except BaseException as error:
            os.write(2, f"{error}\n".encode())
            os._exit(1)
    ended = (0, 0)
    while once is not None and not ended[0] and not any(once[0].glob(once[1])):
        time.sleep(0.001)
        ended = os.waitpid(child, os.WNOHANG)
    if kill_after_s is not None and not ended[0]:
        time.sleep(kill_after_s)
        os.kill(child, number)
    status = os.waitstatus_to_exitcode(ended[1] if ended[0] else os.waitpid(child, 0)[1])
    if kill_after_s is None and status:
        raise RuntimeError(f"an export that nobody disturbed ended with {status}")
    return status, time.monotonic() - start


def every_call(*, exchanging: bool) -> Counter[str]:
    """Kill what replaces a bundle at each of its calls of the file system, one after the other.

    Args:
        exchanging: with the system's exchange of two folders; without, the old one is put aside for a moment.
    """
    from tests.export.write.test_swapping import NEW, OLD, at_call, bundle, kill, whole

    from embedge._placing import swapping

    usual, seen = swapping.exchange, Counter[str]()
    if not exchanging:
        swapping.exchange = lambda *_: False
    try:
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "bundle"
            code = 1
            while code:
                seen["calls"] += 1
                bundle(target, OLD)
                code = at_call(seen["calls"], kill, target)
                if exchanging and whole(target) not in (OLD, NEW):
                    seen["lost"] += 1
                abandon(target)
                words = whole(target)
                seen["old" if words == OLD else "new" if words == NEW else "lost"] += 1
                seen["left"] += [path.name for path in target.parent.iterdir()] != ["bundle"]
    finally:
        swapping.exchange = usual
    return seen


def section(seen: Counter[str], calls: dict[bool, Counter[str]], runs: int, seed: int) -> str:
    """What was seen, as Markdown."""
    hidden = ", ".join(f"{name} {seen[f'{name} hidden']}" for name in dict.fromkeys(SIGNALS))
    lines = [
        "## Killed exports",
        "",
        f"`python -m tests.export.write.kills --runs {runs} --seed {seed} --write`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {sys.platform}. A tiny BERT is exported over an older bundle and the "
        "process gets SIGKILL, SIGTERM or SIGHUP, a third of them when the manifest is written; every file of what "
        "then lies there is compared with its hash, after another export was begun and broken off.",
        "",
        "| killed | times | old bundle | new bundle | half | lost | left after the next export |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| at a random moment | {runs} | {seen['old']} | {seen['new']} | {seen['half']} | {seen['lost']} | "
        f"{seen['left']} |",
    ]
    for exchanging, each in calls.items():
        how = "folders are exchanged at once" if exchanging else "the old one is put aside"
        lines.append(
            f"| at each call of the swap, {how} | {each['calls']} | {each['old']} | {each['new']} | 0 | "
            f"{each['lost']} | {each['left']} |"
        )
    return "\n".join(
        [*lines, "", f"Hidden files and folders that lay there until the next export, by signal: {hidden}."]
    )


if __name__ == "__main__":
    sys.exit(main())
