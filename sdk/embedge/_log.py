"""What is told to the logger "embedge".

A program that does not log is spared the import of logging, which is 4 ms of its start.
"""

from __future__ import annotations

import sys


def info(message: str, *arguments: object) -> None:
    """Tell who listens; nobody does where nothing has imported logging."""
    if "logging" in sys.modules:
        import logging

        logging.getLogger("embedge").info(message, *arguments, stacklevel=2)


def warning(message: str, *arguments: object) -> None:
    """Tell who listens, or stderr."""
    import logging

    logging.getLogger("embedge").warning(message, *arguments, stacklevel=2)
