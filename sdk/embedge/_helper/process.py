"""The process as its parent has it: begun when it is needed, asked, ended early, and begun anew."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from embedge._cancelling import LOOK_S, check_call, current_halt
from embedge._helper.messages import Done, Failed, receive, send
from embedge._lifetime import ending, renew_after_fork, stop_at_end
from embedge.errors import BundleError, DeviceMemoryError, SessionError

MOST_S = 60.0
"""For loading a file, and for one answer; a call's deadline ends it earlier."""
MIB = 1 << 20
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from embedge._helper.serving import main; main(int(sys.argv[2]), sys.argv[3])"
)
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)


class First(msgspec.Struct, frozen=True):
    """What a helper is sent first, and the memory that it may take from then on."""

    message: msgspec.Struct
    memory_bytes: int


class Helper(Generic[AnswerT]):
    """A file of a bundle in a helper process, which answers one thing after the other.

    Whatever ends an answer early ends the process, and the next one begins another.

    Args:
        name: of the file, for messages.
        module: see serving.main.
        answers: what it answers but Done and Failed.
        first: makes the first message.
        error: what is raised where it fails.
        most_s: seconds that loading and an answer may each take.
    """

    def __init__(
        self,
        name: str,
        module: str,
        answers: type[AnswerT],
        first: Callable[[], First],
        *,
        error: type[SessionError | BundleError],
        most_s: float = MOST_S,
    ) -> None:
        self._name, self._module, self._first = name, module, first
        self._error, self._most_s = error, most_s
        self._answers = answers
        self._decode = msgspec.msgpack.Decoder(Done | answers | Failed).decode
        self._running: _Process | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)
        stop_at_end(self)

    def forget_parent(self) -> None:
        """A helper serves the process that began it; the child begins one of its own."""
        if self._running is not None:
            self._running.let_go()
        self._running, self._lock = None, threading.Lock()

    def stop_soon(self) -> None:
        """See Stoppable."""
        if self._running is not None:
            self._running.kill()

    def load(self) -> None:
        """Begin the process, so that what is wrong with the file is known.

        Raises:
            SessionError, BundleError: as `error` says: it cannot load the file, or does not come to an end with it.
            SessionError: no process can be begun.
            DeviceMemoryError: the file takes more memory than it may.
        """
        with self._turn():
            self._opened()

    def ask(self, request: msgspec.Struct, where: str, check: Callable[[AnswerT], bool]) -> AnswerT:
        """What it answers.

        Args:
            request: what to do.
            where: for messages.
            check: whether an answer is one; a process that gives another is ended.

        Raises:
            SessionError, BundleError, DeviceMemoryError: as `load`.
        """
        with self._turn():
            answer = self._asked(self._opened(), request, where)
            if isinstance(answer, self._answers) and check(answer):
                return answer
            self._end()
            raise self._error(f"{self._name} gives no answer {where}")

    def _opened(self) -> _Process:
        if self._running is not None and self._running.alive:
            return self._running
        self._end()
        first = self._first()
        running = self._running = _Process(self._name, self._module, first.memory_bytes)
        self._finalizer = weakref.finalize(self, running.end)
        self._finalizer.atexit = False  # stop_soon comes then
        self._asked(running, first.message, "while it is loaded")
        return running

    def _asked(self, running: _Process, request: msgspec.Struct, where: str) -> Any:
        """What the helper answers; where it is ended, it is another one's turn next time."""
        late = threading.Event()

        def too_late() -> None:
            late.set()
            running.kill()

        timer = threading.Timer(self._most_s, too_late)
        timer.daemon = True
        halt = current_halt()
        try:
            timer.start()
            with halt.ending(running.kill) if halt is not None else contextlib.nullcontext():
                answer = running.ask(request, self._decode)
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        if answer is not None and not isinstance(answer, Failed):
            return answer
        name = self._name
        if answer is None:
            status = self._end()
            check_call()  # a helper that was told to end has not failed
            if ending():
                raise SystemExit  # a thread ends by it without a word
            if late.is_set():
                raise self._error(
                    f"{name} was not done after {self._most_s:g} s {where}, and was ended. It may never end: use a "
                    "bundle of embedge's own export, or shorter texts."
                )
            raise self._error(
                f"the helper process of {name} ended {where} (status {status}). The model goes on working, with "
                "another one; use a bundle of embedge's own export if it happens again."
            )
        if answer.memory:
            raise DeviceMemoryError(
                f"{name} takes more memory {where} than the {running.memory_bytes // MIB} MiB that what others made "
                f"may take: {answer.message}. The model goes on working; pass fewer or shorter texts.",
                device="cpu",
            )
        raise self._error(f"{name} failed {where}, in its helper process: {answer.message}")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        while not self._lock.acquire(timeout=LOOK_S):
            check_call()
        try:
            yield
        finally:
            self._lock.release()

    def _end(self) -> int | None:
        running, self._running = self._running, None
        if running is None:
            return None
        self._finalizer.detach()
        return running.end()


class _Process:
    """The process.

    Args:
        name: of the file, for messages.
        module: see serving.main.
        memory_bytes: that it may take.

    Raises:
        SessionError: it cannot be begun.
    """

    def __init__(self, name: str, module: str, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._owner = os.getpid()
        command = [sys.executable, "-I", "-c", _MAIN, json.dumps(sys.path), str(memory_bytes), module]
        try:
            if not sys.executable or getattr(sys, "frozen", False):
                raise OSError("the program is no Python interpreter")
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # a forked child must not send what the parent was about to
                # many threads of a library that is hardly used take the memory of the graph
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C in a terminal is for the parent, which ends it
            )
        except (OSError, ValueError) as error:
            raise SessionError(
                f"no helper process can be begun for {name}, which embedge did not export: {error}. Use a bundle of "
                "embedge's own export, or run under a Python interpreter."
            ) from error

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, request: msgspec.Struct, decode: Callable[[bytes], Any]) -> Any:
        """What it answers; None where it has gone, or answers what is no message."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            send(stdin, request)
            content = receive(stdout)
            return None if content is None else decode(content)
        except (OSError, ValueError, MemoryError, msgspec.MsgspecError):  # ValueError: closed meanwhile
            return None

    def kill(self) -> None:
        """End it from any thread; who asks it gets None."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def end(self) -> int | None:
        """End it, and leave nothing of it; its status."""
        if os.getpid() != self._owner:
            return None
        self.kill()
        status = self._process.wait()
        self.let_go()
        return status

    def let_go(self) -> None:
        """Close this process's ends of its pipes."""
        if self._process.returncode is None:  # in a forked child, whose it is not to wait for
            self._process.returncode = 0
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
