"""A graph that no export wrote, run in a helper process with limits of time and memory, which ends with this one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from embedge._cancelling import LOOK_S, check_call, current_halt
from embedge._contents.graphs import PinnedGraph
from embedge._lifetime import ending, renew_after_fork, stop_at_end
from embedge._sessions.devices import Device
from embedge._sessions.helper import Answer, Array, Done, Failed, Load, OutsideWeight, Run, receive, send
from embedge._workers import interruptibly
from embedge.errors import DeviceMemoryError, SessionError

MOST_S = 60.0
"""For loading a graph, and for one batch; a call's deadline ends it earlier."""
_MIB = 1 << 20
_SPARE_MIB = 1024
"""For the interpreter, onnxruntime and a batch, besides what a graph takes for each byte of its files."""
_TIMES = 4
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from embedge._sessions.helper import main; main(int(sys.argv[2]))"
)
_DECODER = msgspec.msgpack.Decoder(Done | Answer | Failed)


class HelperSession:
    """A graph in a helper process; a Lane, whose runs come one after another.

    Whatever ends a run early ends the helper, and the next run begins another one.

    Args:
        graph: the graph.
        device: the CPU.
        threads: threads inside one run.
        disabled_optimizers: see Session.
        plan_memory: see Session.
        most_s: seconds that loading and a run may each take.

    Raises:
        SessionError: no process can be begun, onnxruntime refuses the graph, or does not come to an end with it.
        DeviceMemoryError: the graph takes more memory than it may.
    """

    def __init__(
        self,
        graph: PinnedGraph,
        *,
        device: Device,
        threads: int,
        disabled_optimizers: Sequence[str] = (),
        plan_memory: bool = True,
        most_s: float = MOST_S,
    ) -> None:
        self._graph, self._device = graph, device
        self._threads, self._plan_memory = threads, plan_memory
        self._disabled = list(disabled_optimizers)
        self._most_s = most_s
        self._helper: _Helper | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)
        stop_at_end(self)
        interruptibly(self._load)

    def forget_parent(self) -> None:
        """A helper serves the process that began it; the child begins one of its own."""
        if self._helper is not None:
            self._helper.let_go()
        self._helper, self._lock = None, threading.Lock()

    def stop_soon(self) -> None:
        """See Stoppable."""
        if self._helper is not None:
            self._helper.kill()

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """See Session.run."""
        sent = {name: Array.of(np.asarray(each)) for name, each in feeds.items()}
        batch_size, seq_len = feeds["input_ids"].shape
        where = f"with a batch of {batch_size} texts of up to {seq_len} tokens"
        return interruptibly(partial(self._run, Run(output, sent), where))

    def _load(self) -> None:
        with self._turn():
            self._opened()

    def _run(self, asked: Run, where: str) -> np.ndarray[Any, Any]:
        with self._turn():
            answer = self._asked(self._opened(), asked, where)
            try:
                if isinstance(answer, Answer):
                    return answer.array.numbers()
            except (ValueError, TypeError):
                self._end()
            raise SessionError(f"{self._graph.name} gives no numbers {where}")

    def _opened(self) -> _Helper:
        if self._helper is not None and self._helper.alive:
            return self._helper
        self._end()
        with self._graph.weights() as weights:
            outside = [OutsideWeight(each.name, each.onnx_type, Array.of(each.array)) for each in weights]
        size = len(self._graph.content) + sum(len(each.values.content) for each in outside)
        helper = self._helper = _Helper(_SPARE_MIB * _MIB + _TIMES * size)
        self._finalizer = weakref.finalize(self, helper.end)
        self._finalizer.atexit = False  # stop_soon comes then
        load = Load(
            name=self._graph.name,
            content=self._graph.content,
            weights=outside,
            threads=self._threads,
            disabled_optimizers=self._disabled,
            plan_memory=self._plan_memory,
        )
        self._asked(helper, load, "while it is loaded")
        return helper

    def _asked(self, helper: _Helper, request: Load | Run, where: str) -> Done | Answer:
        """What the helper answers; where it is ended, it is another one's turn next time."""
        late = threading.Event()

        def too_late() -> None:
            late.set()
            helper.kill()

        timer = threading.Timer(self._most_s, too_late)
        timer.daemon = True
        halt = current_halt()
        try:
            timer.start()
            with halt.ending(helper.kill) if halt is not None else contextlib.nullcontext():
                answer = helper.ask(request)
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        if answer is not None and not isinstance(answer, Failed):
            return answer
        name = self._graph.name
        if answer is None:
            status = self._end()
            check_call()  # a helper that was told to end has not failed
            if ending():
                raise SystemExit  # a thread ends by it without a word
            if late.is_set():
                raise SessionError(
                    f"{name} was not done after {self._most_s:g} s {where}, and was ended. It may never end: use a "
                    "bundle of embedge's own export, or shorter texts."
                )
            raise SessionError(
                f"the helper process of {name} ended {where} (status {status}). The model goes on working, with "
                "another one; use a bundle of embedge's own export if it happens again."
            )
        if answer.memory:
            raise DeviceMemoryError(
                f"{name} takes more memory {where} than the {helper.memory_bytes // _MIB} MiB that a graph of other "
                f"makers may take: {answer.message}. The model goes on working; pass fewer or shorter texts.",
                device=self._device.name,
            )
        raise SessionError(f"{name} failed {where}, in its helper process: {answer.message}")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        while not self._lock.acquire(timeout=LOOK_S):
            check_call()
        try:
            yield
        finally:
            self._lock.release()

    def _end(self) -> int | None:
        helper, self._helper = self._helper, None
        if helper is None:
            return None
        self._finalizer.detach()
        return helper.end()


class _Helper:
    """The process.

    Args:
        memory_bytes: that it may take.

    Raises:
        SessionError: it cannot be begun.
    """

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self._owner = os.getpid()
        command = [sys.executable, "-I", "-c", _MAIN, json.dumps(sys.path), str(memory_bytes)]
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
                f"no helper process can be begun for a graph that embedge did not export: {error}. Use a bundle of "
                "embedge's own export, or run under a Python interpreter."
            ) from error

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def ask(self, request: Load | Run) -> Done | Answer | Failed | None:
        """What it answers; None where it has gone, or answers what is no message."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            send(stdin, request)
            content = receive(stdout)
            return None if content is None else _DECODER.decode(content)
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
