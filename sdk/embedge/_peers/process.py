"""A subject's process as its parent has it: begun, asked line by line, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from embedge._peers.subjects import Subject, environment
from embedge.errors import EmbedgeError

_ENDING_S = 1.0
_ASKED = Path(__file__).with_name("asked.py")
_RUN = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"


class SubjectError(EmbedgeError):
    """A subject's process gave no answer; the message says why, in a few words."""


class Process:
    """One subject, which has answered its first text when this is made.

    Args:
        subject: to ask.
        first: text of its first answer.
        folder: without files, to run in.
        within_s: for its first answer.

    Raises:
        SubjectError: it failed, or took longer.
    """

    def __init__(self, subject: Subject, first: str, folder: Path, within_s: float) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        began = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                [subject.python, "-c", _RUN, str(_ASKED)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(subject.python)
                | {name: str(subject.job["threads"]) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")},
                cwd=folder,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which ends it
            )
        except OSError as error:
            self._errors.close()
            raise SubjectError(f"{subject.python} cannot be begun: {error}") from error
        try:
            self.peak_rss_bytes = self._answer({**subject.job, "first": first}, within_s)["peak_rss_bytes"]
        except BaseException:
            self.end()
            raise
        self.start_s = time.perf_counter() - began

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def ask(self, action: str, texts: list[str], within_s: float) -> dict[str, Any]:
        """What it answers to an action of asked.ACTIONS.

        Raises:
            SubjectError: it failed, or took longer.
        """
        found = self._answer({"action": action, "texts": texts}, within_s)
        self.peak_rss_bytes = found.get("peak_rss_bytes") or self.peak_rss_bytes
        return found

    def end(self) -> None:
        """End it, and leave nothing of it."""
        self._close(self._process.stdin)  # it ends by itself then, unless it is in the middle of something
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close(self._process.stdout)
        self._errors.close()

    @staticmethod
    def _close(stream: IO[bytes] | None) -> None:
        assert stream is not None
        with contextlib.suppress(OSError):
            stream.close()

    def _answer(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        late = threading.Event()

        def too_late() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(max(0.1, within_s), too_late)
        timer.daemon = True
        timer.start()
        try:
            with contextlib.suppress(OSError):
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
            line = stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise SubjectError(f"not done after {within_s:.0f} s")
        found: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": self._last_words()}
        if "error" in found:
            raise SubjectError(" ".join(str(found["error"]).split())[:300])
        return found

    def _last_words(self) -> str:
        """The last line of what it wrote to stderr."""
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"its process ended with status {status}"
