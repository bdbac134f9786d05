"""A bundle on a model hub, file by file; huggingface_hub, which tokenizers brings along, is imported on use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from embedge.errors import BundleError, MissingExtraError
from embedge.manifest import MANIFEST_FILE


class HubSource:
    """A repository of a hub.

    Args:
        name: "organisation/model", or with "@revision".
    """

    names = None

    def __init__(self, name: str) -> None:
        self.words = name
        self._repository, _, revision = name.partition("@")
        self._revision = revision or None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """See Source; every file is of the commit that the first one was of."""
        with self._fetch(name).open("rb") as stream:
            yield stream

    def _fetch(self, name: str) -> Path:
        try:
            from huggingface_hub import hf_hub_download
            from huggingface_hub.utils import EntryNotFoundError, disable_progress_bars
        except ImportError as error:
            raise MissingExtraError(
                f"{self.words} is no file or folder here, and huggingface_hub, which could fetch it from a hub, is not "
                "installed. Install it with: pip install huggingface_hub"
            ) from error
        disable_progress_bars()
        try:
            path = Path(hf_hub_download(self._repository, name, revision=self._revision))
        except EntryNotFoundError as error:
            if name != MANIFEST_FILE:
                raise BundleError(
                    f"{self.words} lacks {name}, which its manifest lists. Tell its owner."
                ) from error
            raise BundleError(
                f"{self.words} is no bundle: it has no {MANIFEST_FILE}. If it is a checkpoint, convert it with: "
                f"embedge export {self._repository}"
            ) from error
        except Exception as error:  # huggingface_hub's, and those of the HTTP client that its version has
            raise BundleError(
                f"{self.words} cannot be fetched: {' '.join(str(error).split())[:300]} Check the name and the network."
            ) from error
        # .../snapshots/COMMIT/NAME
        self._revision = path.parts[-1 - len(Path(name).parts)]
        return path
