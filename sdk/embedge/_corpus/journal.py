"""What of an output is whole: written after each chunk, so that a job goes on where it was cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from embedge._locking import hold_file
from embedge._replacing import replace_whole
from embedge.errors import CorpusError


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is.

    Attributes:
        read: rows of the input, rejected ones included.
        written: rows of the output.
        rejected: rows that could not be used.
        computed: different texts that the model was asked.
        tokens: of those, specials included.
        cut: rows whose text was longer than the limit.
        clipped: components outside of the ranges they are stored in.
    """

    read: int = 0
    written: int = 0
    rejected: int = 0
    computed: int = 0
    tokens: int = 0
    cut: int = 0
    clipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's file beside its output states.

    Attributes:
        settings: everything that the rows depend on, in words; a job goes on only where all of it is the same.
        counts: of what is whole.
        sizes: bytes of each file of the output that are whole, by name.
        ranges: of the components, where they are stored in steps.
    """

    settings: dict[str, str]
    counts: Counts = Counts()
    sizes: dict[str, int] = msgspec.field(default_factory=dict)
    ranges: list[list[float]] | None = None


def job_file(output: Path) -> Path:
    """Where the state of the job that writes an output is; there as long as it is not done."""
    return output.with_name(f"{output.name}.job")


def read_state(output: Path) -> State | None:
    """State of an unfinished job; None where there is none.

    Raises:
        CorpusError: the file is damaged.
    """
    try:
        data = job_file(output).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=State)
    except ValueError as error:  # msgspec's errors, and wrong UTF-8
        raise CorpusError(
            f"{job_file(output)} cannot be read: {error}; expected the state of an unfinished job. Pass --overwrite."
        ) from error


def commit(output: Path, state: State) -> None:
    """Replace the state in one step; what it counts has to be on disk before."""
    replace_whole(job_file(output), msgspec.json.encode(state))


def refuse_replacing(output: Path) -> CorpusError:
    """The error for an output that is there and is not to be replaced."""
    return CorpusError(f"{output} is there already; expected a new name. Pass --overwrite.")


def check_free(output: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, unless it is to be replaced.

    Raises:
        CorpusError: it is.
    """
    if output.exists() and not overwrite:
        raise refuse_replacing(output)


def check_same(stated: dict[str, str], now: dict[str, str]) -> None:
    """Refuse to go on with a job that was begun otherwise.

    Raises:
        CorpusError: the message names what differs.
    """
    for name in sorted({*stated, *now}):
        before, after = stated.get(name, "not given"), now.get(name, "not given")
        if before != after:
            raise CorpusError(
                f"the output was begun with {name} {before}, and this call has {after}; expected the same to go on. "
                "Call as before, or pass --overwrite to begin again."
            )


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep other processes from writing the same output.

    Raises:
        CorpusError: another process has it.
    """
    with hold_file(output.with_name(f".{output.name}.lock")) as is_held:
        if not is_held:
            raise CorpusError(
                f"another process writes {output} at this moment; expected one at a time. Wait for it to end."
            )
        yield
