"""A graph that no export wrote, run in a helper process with limits of time and memory, which ends with this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from embedge._contents.graphs import PinnedGraph
from embedge._helper.messages import Array
from embedge._helper.process import MIB, MOST_S, First, Helper
from embedge._sessions.devices import Device
from embedge._sessions.helper import Answer, Load, OutsideWeight, Run
from embedge._workers import interruptibly
from embedge.errors import SessionError

_SPARE_MIB = 1024
"""For the interpreter, onnxruntime and a batch, besides what a graph takes for each byte of its files."""
_TIMES = 4


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
        self._device = device

        def first() -> First:
            with graph.weights() as weights:
                outside = [OutsideWeight(each.name, each.onnx_type, Array.of(each.array)) for each in weights]
            graph.opens.set()
            size = len(graph.content) + sum(len(each.values.content) for each in outside)
            load = Load(
                name=graph.name,
                content=graph.content,
                weights=outside,
                threads=threads,
                disabled_optimizers=list(disabled_optimizers),
                plan_memory=plan_memory,
            )
            return First(load, _SPARE_MIB * MIB + _TIMES * size)

        serving = "embedge._sessions.helper"
        self._helper = Helper(graph.name, serving, Answer, first, error=SessionError, most_s=most_s)
        interruptibly(self._helper.load)

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._device

    def run(self, output: str, feeds: Mapping[str, Any]) -> np.ndarray[Any, Any]:
        """See Session.run."""
        sent = {name: Array.of(np.asarray(each)) for name, each in feeds.items()}
        batch_size, seq_len = feeds["input_ids"].shape
        where = f"with a batch of {batch_size} texts of up to {seq_len} tokens"
        asked = partial(self._helper.ask, Run(output, sent), where, _is_numbers)
        return interruptibly(asked).array.numbers()


def _is_numbers(answer: Answer) -> bool:
    try:
        answer.array.numbers()
    except (ValueError, TypeError):
        return False
    return True
