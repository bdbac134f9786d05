"""What a helper process does until its parent goes."""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading

import msgspec

from embedge._helper.messages import Failed, receive, send


def main(memory_bytes: int, module: str) -> None:
    """Serve the parent, whose pipe is closed when it ends.

    Args:
        memory_bytes: that this process may take, where the system can hold it to that.
        module: its REQUESTS are what may be asked, its Served answers.
    """
    limit_memory(memory_bytes)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no message
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        while (content := receive(requests)) is not None:
            waiting.put(content)
        os._exit(0)  # also in the middle of a run that would never end

    threading.Thread(target=listen, daemon=True).start()
    asked = importlib.import_module(module)
    decode = msgspec.msgpack.Decoder(asked.REQUESTS).decode
    served = asked.Served()
    while True:
        try:
            answer = served.answer(decode(waiting.get()))
        except MemoryError:
            answer = Failed("no memory is left", memory=True)
        except BaseException as error:  # a panic of Rust is no Exception
            answer = Failed(f"{type(error).__name__}: {error}"[:1000])
        send(answers, answer)


def limit_memory(memory_bytes: int) -> None:
    """Hold this process to so much memory of its own; on Linux only, as others do not keep to the limit."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
