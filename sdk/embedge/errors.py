"""Every exception that embedge raises on purpose.

    EmbedgeError
    ├── ParamsError (ValueError)             a pooling parameter is of the wrong type, out of range or not valid here
    ├── ShapeError (ValueError)              arrays whose shapes do not fit together
    ├── TaskNotSupportedError (ValueError)   the bundle has no such task
    ├── PromptError (ValueError)             a prompt that cannot be tokenised or does not fit
    ├── BundleError                          a folder that is not a usable bundle
    │   ├── ManifestError                    manifest.json cannot be read or is of another schema
    │   └── IntegrityError                   a file is missing, truncated or altered
    ├── SessionError                         onnxruntime refused to load or run a graph
    │   ├── ProviderUnavailableError         the device asked for is not usable
    │   ├── DeviceMemoryError                a graph or a batch does not fit into the device's memory
    │   └── NumericalError                   a graph returned NaN or infinity
    ├── CallCancelledError                   a call that its caller, or a closed model, ended
    ├── DeadlineError (TimeoutError)         a call that was not done in the time it was given
    ├── PluginError                          a registered pooling is missing, raised or returned something else
    ├── CorpusError (ValueError)             a file to read texts from, a row of one, or an output that cannot be used
    ├── ExportError                          a checkpoint that cannot be exported
    │   └── VerificationError                the exported numbers are not the checkpoint's
    └── MissingExtraError (ImportError)      an optional dependency is not installed

A message says what was wrong, what was expected and what to do. What a handler needs is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LONGEST = 3000


class EmbedgeError(Exception):
    """Base class of all exceptions that embedge raises on purpose; they can be pickled.

    Its text is one printable line, whatever a bundle or a caller's values put into it.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if not text.isprintable():
            text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST - 600]} … {text[-600:]}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # an exception is made anew from its arguments, which leave out those that are passed by name
        return _made_anew, (type(self), self.args, self.__dict__)


def _made_anew(kind: type[EmbedgeError], args: tuple[Any, ...], attributes: dict[str, Any]) -> EmbedgeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ParamsError(EmbedgeError, ValueError):
    """A pooling parameter has the wrong type or range, or is not valid for the task or bundle."""


class ShapeError(EmbedgeError, ValueError):
    """Arrays whose shapes do not fit together."""


class TaskNotSupportedError(EmbedgeError, ValueError):
    """The bundle cannot do the task asked for.

    Attributes:
        task: the task that was asked for.
        tasks: the tasks that the bundle has.
    """

    def __init__(self, message: str, *, task: str, tasks: tuple[str, ...]) -> None:
        super().__init__(message)
        self.task = task
        self.tasks = tasks


class PromptError(EmbedgeError, ValueError):
    """A prompt that cannot be tokenised, or that does not fit the model.

    Attributes:
        index: position of the prompt in the call, or None where the call as a whole is wrong.
    """

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class BundleError(EmbedgeError):
    """A folder that is not a usable bundle."""


class ManifestError(BundleError):
    """manifest.json cannot be read, or states a schema that this version does not know."""


class IntegrityError(BundleError):
    """A file of the bundle is missing, truncated or altered.

    Attributes:
        file: path of the file inside the bundle.
        expected_sha256: what the manifest states.
        actual_sha256: what the file has, or None where it is missing or its size already differs.
    """

    def __init__(
        self, message: str, *, file: str, expected_sha256: str, actual_sha256: str | None = None
    ) -> None:
        super().__init__(message)
        self.file = file
        self.expected_sha256 = expected_sha256
        self.actual_sha256 = actual_sha256


class SessionError(EmbedgeError):
    """onnxruntime refused to load or to run a graph."""


class ProviderUnavailableError(SessionError):
    """The device that was asked for cannot be used on this machine."""


class DeviceMemoryError(SessionError):
    """A graph or a batch does not fit into the memory of the device; a loaded model goes on working.

    Attributes:
        device: where, e.g. "cuda:0".
        batch_size: texts of the batch that did not fit, or None where the graph itself did not.
        seq_len: its padded length in tokens, or None likewise.
    """

    def __init__(
        self, message: str, *, device: str, batch_size: int | None = None, seq_len: int | None = None
    ) -> None:
        super().__init__(message)
        self.device = device
        self.batch_size = batch_size
        self.seq_len = seq_len


class NumericalError(SessionError):
    """A graph returned NaN or infinity for a prompt; nothing is returned in its place.

    Attributes:
        index: position of the prompt in the call.
    """

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class CallCancelledError(EmbedgeError):
    """A call that its caller ended by cancel=..., or that a model was closed under; the model's state is sound."""


class DeadlineError(EmbedgeError, TimeoutError):
    """A call that was not done after its deadline_s; the model goes on working."""


class PluginError(EmbedgeError):
    """A registered pooling is missing, raised, or returned something that is not one array per prompt."""


class CorpusError(EmbedgeError, ValueError):
    """A file to read texts from, a row of one, or an output that is not what was expected."""


class ExportError(EmbedgeError):
    """A checkpoint that cannot be exported."""


class VerificationError(ExportError):
    """The numbers of an exported graph are not the checkpoint's; nothing was written."""


class MissingExtraError(EmbedgeError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""


def expected_one_of(known: Iterable[str], otherwise: str) -> str:
    """What a message expects in place of an unknown name.

    Args:
        known: the names that there are.
        otherwise: what the message says where there is none.
    """
    names = ", ".join(known)
    return f"expected one of {names}" if names else otherwise


_OTHER_WORDS = {"gpu": "cuda"}
"""What is called otherwise here, wherever it is a name."""
_NEAR = 0.68
"""Likeness from which a name is offered; of two words of equal length, the share of letters in common."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question to end a message with, a space before it; empty where no known name is near.

    Dashes before a name, as a flag has them, make it no nearer.

    Args:
        word: what was given.
        known: the names that there are.
    """
    import difflib  # costs more than this module, and only errors need it

    folded = {name.lstrip("-").casefold(): name for name in known}
    given = str(word).lstrip("-").casefold()
    meant = _OTHER_WORDS.get(given, given)
    near = difflib.get_close_matches(meant if meant in folded else given, folded, n=1, cutoff=_NEAR)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""
