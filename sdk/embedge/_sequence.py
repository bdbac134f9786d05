"""A sequence whose items are made when they are looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

ItemT = TypeVar("ItemT")


class MadeOnDemand(Sequence[ItemT]):
    """Indexing, slicing and iteration for a class that states its length and makes one item."""

    _noun = "items"
    """What an error calls them."""

    @abstractmethod
    def _item(self, position: int) -> ItemT:
        """Make the item at a position, which is at least 0 and less than the length."""

    @overload
    def __getitem__(self, index: int) -> ItemT: ...
    @overload
    def __getitem__(self, index: slice) -> list[ItemT]: ...
    def __getitem__(self, index: int | slice) -> ItemT | list[ItemT]:
        if isinstance(index, slice):
            return [self._item(i) for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there are {len(self)} {self._noun}; {index} is not one of them")
        return self._item(position)

    def __iter__(self) -> Iterator[ItemT]:
        return map(self._item, range(len(self)))
