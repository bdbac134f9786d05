"""Whether an installed framework is one that its adapter was tested with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from embedge.errors import MissingExtraError


@contextmanager
def tested(package: str, version: str) -> Iterator[None]:
    """Around an adapter's imports of its framework.

    Args:
        package: name to install it by.
        version: that it was tested with; another one of the same first number is taken, too.

    Raises:
        MissingExtraError: the package is missing, has another first number, or lacks what is imported.
    """
    first = version.partition(".")[0]
    install = f"pip install '{package}=={first}.*'"
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise MissingExtraError(
            f"{package} is not installed; this part of embedge was tested with {package} {version}. "
            f"Install it with: {install}"
        ) from None
    if installed.partition(".")[0] != first:
        raise MissingExtraError(
            f"{package} {installed} is installed, and this part of embedge was tested with {package} {version}; "
            f"expected a version that begins with {first}. Install one with: {install}"
        )
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{package} {installed} lacks what this part of embedge imports from it ({error}); "
            f"it was tested with {package} {version}. Install it with: pip install {package}=={version}"
        ) from error
