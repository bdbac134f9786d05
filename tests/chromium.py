"""Pages in a real browser: Debian's chromium, headless, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

_CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
needs_chromium = pytest.mark.skipif(
    _CHROMIUM is None, reason="needs Debian's chromium: apt-get install chromium"
)


def run(page: Path, folder: Path, *flags: str) -> str:
    """Open a page with a new profile in a folder; what the browser prints.

    Raises:
        subprocess.SubprocessError: it failed, or is not done in two minutes.
    """
    assert _CHROMIUM is not None
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [_CHROMIUM, *_FLAGS, profile, *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def title(page: Path, *flags: str, word: str = "") -> str:
    """The title that a page has given itself once it is loaded: what follows a word in it, unquoted.

    The page lies in a folder of its own, in which the profile goes.
    """
    shown = run(page, page.parent, "--dump-dom", *flags)
    found = re.search(rf"<title>{word}([^<]*)</title>", shown)
    assert found, shown[-2000:]
    return unquote(found[1])
