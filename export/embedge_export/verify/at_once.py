"""Several texts at once, each in a thread of its own; numpy lets others run while it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from embedge_export.progress import tracked
from embedge_export.threads import one_thread

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def at_once(
    make: Callable[[_Item], _Made], items: Sequence[_Item], size: Callable[[_Item], int], num_threads: int
) -> list[_Made]:
    """Make something of each item, and tell the running stage after each.

    Args:
        make: called in any thread, but first, for the smallest item, in this one: what is kept for all is there then.
        items: what it is called with.
        size: what the time that an item takes goes with; the largest come first, so that none is waited for alone.
        num_threads: how many items are in work at a time.

    Returns:
        What was made, in the order of the items.
    """
    order = sorted(range(len(items)), key=lambda index: size(items[index]), reverse=True)
    if num_threads == 1 or len(order) < 2:
        made = {index: make(items[index]) for index in tracked(order)}
        return [made[index] for index in range(len(items))]
    with one_thread(), ThreadPoolExecutor(num_threads) as pool:
        smallest = order.pop()
        made = {smallest: make(items[smallest])}
        waiting = {index: pool.submit(make, items[index]) for index in order}
        try:
            for index in tracked(order):
                made[index] = waiting[index].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [made[index] for index in range(len(items))]
