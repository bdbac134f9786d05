"""A loaded graph on a device: options, running, and onnxruntime's errors in our words."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedge._cancelling import check_call, current_halt
from embedge._contents.graphs import PinnedGraph
from embedge._lifetime import outside_python, renew_after_fork
from embedge._machine.own_memory import give_back
from embedge._sessions.devices import Device
from embedge._sessions.loading import OUT_OF_MEMORY, Loaded, check_placement, load_graph
from embedge._sessions.onnxruntime import import_onnxruntime, in_words
from embedge.errors import DeviceMemoryError, EmbedgeError, SessionError

if TYPE_CHECKING:
    import onnxruntime

    from embedge._sessions.loading import Shared
    from embedge._sessions.shared_tables import SharedTables


_MOST_KEPT_TOKENS = 2048
"""A run of more padded tokens takes seconds, and gives back at its end what it took."""
_LEAST_TOKENS = 256
"""A run of fewer takes a few megabytes."""


class Lane(Protocol):
    """What a thread of a call computes with."""

    @property
    def device(self) -> Device:
        """Where it runs."""
        ...

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """See Session.run."""
        ...


class Session:
    """One loaded graph; `run` may be called from several threads.

    Args:
        graph: the graph.
        device: where to run.
        threads: threads inside one run.
        disabled_optimizers: onnxruntime's fusions that must not run.
        device_memory_bytes: limit of onnxruntime's memory arena on a GPU.
        plan_memory: let onnxruntime plan a block of memory for each shape of batch that it meets. That is a little
            faster with batches of many shapes, and takes an eighth more memory in all.
        keep_memory: let onnxruntime keep what a run took for the next one, which saves a little time; on the CPU, not
            of runs that are larger than almost all.
        capture: let onnxruntime capture CUDA graphs of what is run with bindings.
        shared: weights that other sessions on the device use, too; None where each has its own.
        tables: of the graph's sessions on the CPU; None where each has copies of its own.

    Raises:
        SessionError: onnxruntime refuses the graph.
        ProviderUnavailableError: it would not run on the device.

    Attributes:
        placement: number of the graph's nodes by execution provider; empty on the CPU, where there is no choice,
            and where onnxruntime is too old to tell.
    """

    def __init__(
        self,
        graph: PinnedGraph,
        *,
        device: Device,
        threads: int,
        disabled_optimizers: Sequence[str] = (),
        device_memory_bytes: int | None = None,
        plan_memory: bool = True,
        keep_memory: bool = True,
        capture: bool = False,
        shared: Shared | None = None,
        tables: SharedTables | None = None,
    ) -> None:
        self._device = device
        self._kept_tokens = _MOST_KEPT_TOKENS if keep_memory else _LEAST_TOKENS
        self._open = partial(
            load_graph,
            graph,
            device,
            threads,
            disabled_optimizers=disabled_optimizers,
            device_memory_bytes=device_memory_bytes,
            plan_memory=plan_memory,
            capture=capture,
            shared=shared,
            tables=tables,
        )
        self._lock = threading.Lock()
        self._loaded: Loaded | None = self._open()
        give_back()  # the files' contents and what onnxruntime made of them on its way
        self.placement = check_placement(self._loaded.session, device, graph)
        renew_after_fork(self)

    def forget_parent(self) -> None:
        """Let go of what only the parent's threads can use; the child opens the graph anew when it runs it."""
        import ctypes

        if self._loaded is not None:
            # freeing it would wait for threads that this process does not have
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._loaded.session))
        self._loaded = None
        self._lock = threading.Lock()

    def _opened(self) -> Loaded:
        loaded = self._loaded
        if loaded is not None:
            return loaded
        if self._device.kind != "cpu":
            raise SessionError(
                f"this process was forked from one that had opened the model on {self._device.name}, which onnxruntime "
                "cannot hand over. Load the model in this process, or start it with the spawn method."
            )
        with self._lock:
            if self._loaded is None:
                self._loaded = self._open()
            return self._loaded

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """Compute one output; errors are those of `run_for`."""
        return self.run_for([output], feeds)[0]

    def run_for(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        """Compute several outputs.

        Raises:
            DeviceMemoryError: the batch does not fit into memory.
            SessionError: onnxruntime failed otherwise.
            Stopped, CallCancelledError, DeadlineError: it was ended, as nobody waits for it any more.
        """
        halt = current_halt()
        try:
            with outside_python():
                gives_back = self._device.kind == "cpu" and feeds["input_ids"].size > self._kept_tokens
                if halt is None and not gives_back:
                    return self._arrays(outputs, feeds)
                options = import_onnxruntime().RunOptions()
                if gives_back:
                    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
                if halt is None:
                    return self._arrays(outputs, feeds, options)
                with halt.ending(partial(setattr, options, "terminate", True)):
                    return self._arrays(outputs, feeds, options)
        except EmbedgeError:
            raise
        except Exception as error:  # onnxruntime raises many unrelated classes
            check_call()  # a run that was told to end has not failed
            raise self._failure(error, feeds["input_ids"].shape) from error

    def _arrays(
        self, outputs: Sequence[str], feeds: Mapping[str, Any], *options: onnxruntime.RunOptions
    ) -> list[np.ndarray[Any, Any]]:
        session, tables = self._opened()
        return [np.asarray(each) for each in session.run(list(outputs), {**feeds, **tables}, *options)]

    def row_outputs(self) -> dict[str, int]:
        """Components of the outputs that have one row per text, by their names."""
        return {
            output.name: output.shape[1]
            for output in self._opened().session.get_outputs()
            if len(output.shape) == 2 and isinstance(output.shape[1], int)
        }

    def binding(self) -> onnxruntime.IOBinding:
        """A binding to state inputs and outputs at fixed addresses in, for `run_bound`."""
        return self._opened().session.io_binding()

    def run_bound(
        self, binding: onnxruntime.IOBinding, options: onnxruntime.RunOptions, shape: tuple[int, ...]
    ) -> None:
        """Compute what is bound.

        Args:
            binding: of this session.
            options: of the run.
            shape: (batch, seq_len), for messages.

        Raises:
            DeviceMemoryError, SessionError: as `run`.
        """
        try:
            with outside_python():
                self._opened().session.run_with_iobinding(binding, options)
        except EmbedgeError:
            raise
        except Exception as error:  # onnxruntime raises many unrelated classes
            raise self._failure(error, shape) from error

    def _failure(self, error: Exception, shape: tuple[int, ...]) -> EmbedgeError:
        """What happened in a run, in our words."""
        message = in_words(error)
        batch_size, seq_len = shape
        where = f"a batch of {batch_size} texts of up to {seq_len} tokens"
        if OUT_OF_MEMORY.search(message):
            return DeviceMemoryError(
                f"{where} does not fit into the memory of {self.device.name}: {message}. The model goes on "
                "working; pass a smaller max_batch_tokens, or retry_smaller_batches=True.",
                device=self.device.name,
                batch_size=batch_size,
                seq_len=seq_len,
            )
        return SessionError(f"onnxruntime failed on {self.device.name} with {where}: {message}.")
