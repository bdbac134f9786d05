"""What an emulated processor takes: Debian's qemu-user and its Python for aarch64, and wheels for that."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

_DEBIAN = "http://deb.debian.org/debian"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_QEMU_FROM, _PYTHON_FROM = "trixie", "bookworm"
"""qemu 7.2 of bookworm cannot run onnxruntime for aarch64; bookworm's Python is 3.11, which the wheels are for."""
_PYTHON = (
    "libc6", "libgcc-s1", "libstdc++6", "libexpat1", "zlib1g", "libssl3", "libffi8", "libbz2-1.0", "liblzma5",
    "libsqlite3-0", "libuuid1", "libcrypt1", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal",
)  # fmt: skip
_RUNTIME = ("onnxruntime", "numpy", "tokenizers", "msgspec")
_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)


def qemu(folder: Path) -> Path:
    """Folder of qemu's commands; fetched where it is not there yet."""
    commands = folder / "qemu" / "usr" / "bin"
    if not commands.exists():
        _unpack(_fetch(folder / "qemu-packages", _QEMU_FROM, None, ("qemu-user",)), folder / "qemu")
    return commands


def arm_python(folder: Path) -> tuple[Path, Path]:
    """Root of an aarch64 system with Python, and the folder of the runtime's packages for it; likewise."""
    root, site = folder / "arm", folder / "arm-site"
    if not site.exists():
        _unpack(_fetch(folder / "arm-packages", _PYTHON_FROM, "arm64", _PYTHON), root)
        platforms = [part for each in _PLATFORMS for part in ("--platform", each)]
        pinned = [f"{name}=={version(name)}" for name in _RUNTIME]
        only = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
        wheels = folder / "arm-wheels"
        _run([sys.executable, "-m", "pip", "download", "-q", "-d", str(wheels), *only, *platforms, *pinned])
        site.mkdir()
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
    return root, site


def _fetch(folder: Path, release: str, architecture: str | None, names: tuple[str, ...]) -> list[Path]:
    """Download packages of Debian, with lists of their own, so that the system's stay as they are."""
    for part in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_DEBIAN} {release} main\n")
    (folder / "status").touch()
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "parts",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
    }
    if architecture is not None:
        options |= {"APT::Architecture": architecture, "APT::Architectures::": architecture}
    apt = ["apt-get", "-qq", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    _run([*apt, "update"])
    _run([*apt, "download", *names], folder)
    return sorted(folder.glob("*.deb"))


def _unpack(packages: list[Path], root: Path) -> None:
    for package in packages:
        _run(["dpkg", "-x", str(package), str(root)])


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, env=os.environ | {"LC_ALL": "C"}, check=False)
    if done.returncode:
        raise SystemExit(f"failed with status {done.returncode}: {' '.join(command)}")
