"""Ways to leave a process that uses a model, and what a forked child does: none hangs, aborts or says a word.

python -m tests.sdk.exits --runs 20 --write     # so many times; figures into benchmarks/results/reliability.md
"""

from __future__ import annotations

import argparse
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from embedge.testing import TinyKind, tiny_bundle

_HEAD = """
from embedge import EdgeModel
FOLDER = {folder!r}
KEPT = []
TEXTS = ["the river and the sea " * (1 + i % 7) for i in range(256)]
model = EdgeModel(FOLDER, device="cpu", threads=2, truncate_prompt_tokens=-1)
"""
_HALF = "s = model.stream(TEXTS * 60, window=32); next(s)"
_THREAD = (
    "import threading, time\ndef work():\n  {work}\n"
    "threading.Thread(target=work, daemon={daemon}).start(); {then}"
)


def _thread(work: str, *, daemon: bool = True, then: str = "time.sleep(0.2)") -> str:
    return _THREAD.format(work=work, daemon=daemon, then=then)


EXITS = {
    "end of the module, a stream half read": _HALF,
    "sys.exit, a stream half read": f"import sys; {_HALF}; sys.exit()",
    "a handled exception, a stream half read": f"{_HALF}\ntry:\n  1 / 0\nexcept ZeroDivisionError as e: KEPT.append(e)",
    "a stream kept in a list": f"def f():\n  {_HALF}; KEPT.append(s)\nf()",
    "a stream in a cycle": f"class A: pass\na = A(); a.me = a; {_HALF}; a.stream = s",
    "a stream begun in a thread": f"import threading\ndef f():\n  {_HALF}; KEPT.append(s)\n"
    "t = threading.Thread(target=f); t.start(); t.join()",
    "a stream of a closed model": f"{_HALF}; model.close()",
    "streams of two models": f"{_HALF}; other = EdgeModel(FOLDER, device='cpu', profile='throughput'); "
    "t = other.stream(['a'] * 9000, window=32); next(t)",
    "a daemon thread that streams": _thread("for _ in model.stream(TEXTS * 6000, window=32): pass"),
    "a daemon thread that embeds many": _thread("while True: model.embed(TEXTS)"),
    "a daemon thread that embeds one": _thread("while True: model.embed('a text')"),
    "a daemon thread that loads": _thread("while True: EdgeModel(FOLDER, device='cpu').close()"),
    "daemon threads that do all of it": _thread("while True: model.embed('a text')")
    + "\n"
    + _thread("for _ in model.stream(TEXTS * 6000, window=32): pass"),
    "a thread that is waited for": _thread(
        "for _ in range(5): model.embed(TEXTS)", daemon=False, then="pass"
    ),
    "a thread that streams and is waited for": _thread(
        "assert len(list(model.stream(TEXTS * 4, window=32))) == 1024", daemon=False, then="pass"
    ),
    "a handler of atexit": "import atexit; atexit.register(lambda: model.embed(TEXTS))",
    "a handler of atexit that streams": "import atexit\ndef f():\n"
    "  assert len(list(model.stream(TEXTS, window=32))) == 256\natexit.register(f)",
    "a handler of atexit from before the import": "",
    "asyncio, a task not waited for": "import asyncio\nasync def f():\n"
    "  KEPT.append(asyncio.create_task(model.aembed(TEXTS * 20))); await asyncio.sleep(0.05)\nasyncio.run(f())",
    "an executor": "from concurrent.futures import ThreadPoolExecutor\n"
    "KEPT.append(ThreadPoolExecutor(2).submit(model.embed, TEXTS * 5))",
    "os._exit": f"import os; {_HALF}; os._exit(0)",
    "a model's with that sys.exit leaves": "import sys\n"
    "with EdgeModel(FOLDER, device='cpu') as m:\n  s = m.stream(['a'] * 9000, window=32); next(s); sys.exit()",
    "sys.exit in a thread that streams": f"import sys, threading\ndef f():\n  {_HALF}; KEPT.append(s); sys.exit()\n"
    "threading.Thread(target=f).start()",
    "a finalizer that embeds": "import weakref\nclass A: pass\na = A()\n"
    "weakref.finalize(a, lambda: model.embed(TEXTS))",
    "__del__ of what is left, which embeds": "class A:\n  def __del__(self):\n    try: model.embed('a text')\n"
    "    except Exception: pass\nA.kept = A()",
    "asyncio, an astream half read": "import asyncio\nasync def f():\n"
    "  async for _ in model.astream(TEXTS * 60, window=32): break\nasyncio.run(f())",
    "asyncio, a call that is timed out": "import asyncio\nasync def f():\n"
    "  try: await asyncio.wait_for(model.aembed(TEXTS * 200), 0.05)\n"
    "  except asyncio.TimeoutError: pass\nasyncio.run(f())",
    "a model that another thread closes": f"import threading\n{_HALF}\n"
    "threading.Thread(target=model.close, daemon=True).start()",
    "a call that a deadline ends": "from embedge import DeadlineError\n"
    "try: model.embed(TEXTS * 200, deadline_s=0.05)\nexcept DeadlineError: pass",
    "Ctrl-C that is handled": f"import os, signal, time\n{_HALF}\n"
    "try: os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\nexcept KeyboardInterrupt: pass",
    "SIGTERM": f"import os, signal, time\n{_HALF}; os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
}
"""Code by name; what it raises, prints or leaves running shows."""
_STATUS = {"SIGTERM": -signal.SIGTERM}
"""Of those that do not end with 0."""

FORKS = {
    "embeds": "model.embed(TEXTS)",
    "does nothing": "pass",
    "closes the model": "model.embed('x'); model.close()",
    "drops the model": "global model; del model",
    "embeds the same": "import numpy; assert abs(model.embed(TEXTS).numpy() - BEFORE).max() < 1e-6",
    "leaves a stream half read": f"{_HALF}; KEPT.append(s)",
    "loads another": "EdgeModel(FOLDER, device='cpu').embed('x')",
    "forks again": "p = os.fork()\n  if p == 0: model.embed('x'); sys.exit(0)\n  assert os.waitpid(p, 0)[1] == 0",
}
"""What a child does that os.fork made of a process with an open model."""

_FORK = """
import os, sys
BEFORE = model.embed(TEXTS * 4).numpy()[:256]
def child():
  {code}
process = os.fork()
if process == 0:
  child(); sys.exit(0)
assert os.waitpid(process, 0)[1] == 0
model.embed(TEXTS)
"""
COMMANDS = {
    "encode": ["encode", "{bundle}", "-", "--json"],
    "encode, a text": ["encode", "{bundle}", "{long}"],
    "classify": ["classify", "{bundle}", "-"],
    "rerank": ["rerank", "{bundle}", "a question", "-"],
    "search": ["search", "{bundle}", "a question", "--in", "{paragraphs}"],
    "bench": ["bench", "{bundle}", "--splits", "--count", "100000"],
    "verify": ["verify", "{bundle}"],
}
"""Commands that Ctrl-C is pressed in."""
_KINDS: dict[str, TinyKind] = {"classify": "classify", "rerank": "cross_encoder"}
"""Bundles of those that an embedder's is not for."""
DELAYS_S = (0.02, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 1.0)
_SAYS = "embedge: interrupted; no file was left half written. Run the command again."


def write_texts(scratch: Path, count: int = 40_000) -> dict[str, str]:
    """What commands read, so much that every one takes a while; files and texts by the names in COMMANDS."""
    lines, paragraphs = scratch / "lines.txt", scratch / "paragraphs.txt"
    if not lines.exists():
        texts = [f"the river and the sea {'and the land ' * (2 + i % 40)}" for i in range(count)]
        paragraphs.write_text("\n\n".join(texts))
        lines.write_text("\n".join(texts))
    return {"lines": str(lines), "paragraphs": str(paragraphs), "long": "the river " * (1 + count // 4)}


def bundle_for(command: str, scratch: Path) -> Path:
    """A bundle that a command works with."""
    kind = _KINDS.get(command, "embed")
    folder = scratch / kind
    return folder if folder.exists() else tiny_bundle(folder, kind)


def interrupt(name: str, scratch: Path, delay_s: float) -> str:
    """Press Ctrl-C in a command after a time; what went wrong, or an empty text."""
    texts, folder = write_texts(scratch), bundle_for(name, scratch)
    command = [part.format(bundle=folder, **texts) for part in COMMANDS[name]]
    with Path(texts["lines"]).open("rb") as stdin, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedge", *command],
            stdin=stdin,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        try:
            said = process.communicate(timeout=60)[1].strip()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "hangs"
    # it was done before, ended by the signal while it began, or says so
    ended = process.returncode == -signal.SIGINT and "Traceback" not in said
    if ended or (process.returncode, said) in {(0, said), (130, _SAYS)}:
        return ""
    # the interpreter's own start, before a line of ours is run, has its own words
    frames = said.replace(str(folder), "").count("/embedge/")
    own = "KeyboardInterrupt" in said and frames == said.count("    import embedge._starting")
    return "" if own else f"status {process.returncode}: {said}"


_EARLY = "import atexit\natexit.register(lambda: model.embed(TEXTS))\n"


def leave(name: str, folder: Path, timeout_s: float = 30) -> str:
    """Run a way to leave a process; what went wrong, or an empty text."""
    head = _HEAD.format(folder=str(folder))
    if name in FORKS:
        code = head + _FORK.format(code=FORKS[name])
    else:
        code = (_EARLY if name.endswith("before the import") else "") + head + EXITS[name]
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    said = done.stderr.strip()
    fine = done.returncode == _STATUS.get(name, 0) and not said
    return "" if fine else f"status {done.returncode}: {said}"


def main() -> int:
    """Run every way so many times; the status says whether one went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(asked.jobs) as pool:
        folder = tiny_bundle(Path(scratch) / "bundle")
        write_texts(Path(scratch))
        for name in COMMANDS:
            bundle_for(name, Path(scratch))
        ways: dict[str, Callable[[int], str]] = {}
        for name in (*EXITS, *FORKS):
            ways[name] = partial(lambda name, _: leave(name, folder, timeout_s=120), name)
        for name in COMMANDS:
            ways[_ctrl_c(name)] = partial(
                lambda name, run: interrupt(name, Path(scratch), DELAYS_S[run % len(DELAYS_S)]), name
            )
        found: dict[str, list[str]] = {}
        for name, way in ways.items():
            found[name] = [problem for problem in pool.map(way, range(asked.runs)) if problem]
            last = found[name][0][-120:] if found[name] else ""
            print(f"{name:48} {len(found[name])} of {asked.runs} wrong {last}", flush=True)
    problems = [problem for each in found.values() for problem in each]
    print(f"{len(problems)} of {asked.runs * len(found)} wrong")
    if asked.write:
        from tests.soak.figures import write

        write("exits", section(found, asked.runs))
    return int(bool(problems))


def section(found: dict[str, list[str]], runs: int) -> str:
    """What was seen, as Markdown."""
    groups = {
        "ways to end a process": list(EXITS),
        "what a child of `os.fork` does": list(FORKS),
        f"commands, at {len(DELAYS_S)} moments": [_ctrl_c(name) for name in COMMANDS],
    }
    lines = [
        "## Ways to leave a process",
        "",
        f"`python -m tests.sdk.exits --runs {runs} --write`, {datetime.now(UTC):%Y-%m-%d}, {sys.platform}, "
        f"Python {platform.python_version()}: each {runs} times, {runs * len(found)} processes.",
        "",
        "| | number | processes | hangs | aborts | words on stderr, or another status |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, names in groups.items():
        problems = [problem for name in names for problem in found[name]]
        hangs = sum(problem == "hangs" for problem in problems)
        aborts = sum(problem.startswith("status -") for problem in problems)
        numbers = (len(names), runs * len(names), hangs, aborts, len(problems) - hangs - aborts)
        lines.append(f"| {what} | {' | '.join(f'{number:,}' for number in numbers)} |")
    for what, names in groups.items():
        lines += ["", f"{what[0].upper()}{what[1:]}: {'; '.join(names)}."]
    bad = [f"- {name}: {len(each)} of {runs}" for name, each in found.items() if each]
    return "\n".join([*lines, *([""] if bad else []), *bad])


def _ctrl_c(command: str) -> str:
    return f"Ctrl-C in {command}"


if __name__ == "__main__":
    sys.exit(main())
