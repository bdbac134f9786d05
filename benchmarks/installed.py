"""What a set of distributions and everything they require take on disk."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def installed(names: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """Version and size in bytes of the named distributions and, at any depth, of what they require.

    Requirements that are not installed (other platforms, extras nobody asked for) do not count.
    """
    found: dict[str, tuple[str, int]] = {}
    waiting = list(names)
    while waiting:
        name = _normal(waiting.pop())
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[name] = (distribution.version, _size(distribution))
        required = [text for text in distribution.requires or () if "extra ==" not in text]
        waiting += [NAME.match(text).group() for text in required]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(distribution: metadata.Distribution) -> int:
    files = {Path(distribution.locate_file(file)) for file in distribution.files or ()}
    total = sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts)
    source = Path(__file__).parents[1] / "sdk" / "embedge"
    if distribution.name == "embedge" and not any(file.parent.name == "embedge" for file in files):
        # installed as editable: count the runtime package where it lies
        total += sum(file.stat().st_size for file in source.rglob("*.py"))
    return total
