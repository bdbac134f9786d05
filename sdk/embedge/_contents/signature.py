"""A signature of a bundle's fingerprint, in the format of minisign; the only importer of cryptography."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from embedge.errors import BundleError, MissingExtraError, ParamsError
from embedge.types import PathLike

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PLAIN, _HASHED = b"Ed", b"ED"
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
_COMMENT, _TRUSTED = "untrusted comment: ", "trusted comment: "
_MOST_BYTES = 1 << 14


class _Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature file states.

    Attributes:
        hashed: whether the BLAKE2b hash of the message is signed instead of the message.
        key_id: of the key that signed.
        signature: of the message.
        comment: trusted, as it is signed besides.
        comment_signature: of both.
    """

    hashed: bool
    key_id: bytes
    signature: bytes
    comment: bytes
    comment_signature: bytes


def check_signature(fingerprint: str, signature: PathLike, public_key: PathLike) -> str:
    """Refuse a bundle that a key's owner did not sign.

    What is signed is the fingerprint's 64 digits, with or without the end of their line.

    Args:
        fingerprint: of the bundle.
        signature: the file that `minisign -S` wrote.
        public_key: the file that `minisign -G` wrote, or the line of it that begins with RW.

    Returns:
        The signature's trusted comment.

    Raises:
        BundleError: another bundle or another key's signature, or a file that is none.
        ParamsError: no public key.
        MissingExtraError: cryptography is not installed.
    """
    key_id, key = _read_key(os.fspath(public_key))
    given = _read_signature(Path(signature))
    if given.key_id != key_id:
        raise BundleError(
            f"{signature} was made with the key {_words(given.key_id)}, and the public key is {_words(key_id)}; "
            "expected the two to belong together. Use the key of who made the bundle."
        )
    line = fingerprint.encode()
    if not any(
        _verifies(key, given.signature, hashlib.blake2b(message).digest() if given.hashed else message)
        for message in (line + b"\n", line, line + b"\r\n")
    ):
        raise BundleError(
            f"{signature} signs another bundle than the one with the fingerprint {fingerprint}. The bundle was "
            "changed, or the signature is that of another export: get both from who made them."
        )
    if not _verifies(key, given.comment_signature, given.signature + given.comment):
        raise BundleError(
            f"{signature} has a comment that was changed. Get the file again from who made the bundle."
        )
    return given.comment.decode("utf-8", "replace")


def _read_key(public_key: str) -> tuple[bytes, Ed25519PublicKey]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtraError(
            "checking a signature needs cryptography. Install it with: pip install 'embedge[signed]'"
        ) from error
    text = public_key.strip()
    if not re.fullmatch(r"RW[A-Za-z0-9+/]{54}", text):
        lines = _lines(Path(public_key), "public key")
        text = lines[1] if len(lines) == 2 and lines[0].startswith(_COMMENT) else ""
    raw = _decode(text)
    if len(raw) != len(_PLAIN) + _ID_BYTES + _KEY_BYTES or not raw.startswith(_PLAIN):
        raise ParamsError(
            f"public_key={public_key!r} holds no public key of minisign; expected the file that `minisign -G` "
            "wrote, or the line of it that begins with RW"
        )
    return raw[2:10], Ed25519PublicKey.from_public_bytes(raw[10:])


def _read_signature(path: Path) -> _Signature:
    lines = _lines(path, "signature")
    if len(lines) == 4 and lines[0].startswith(_COMMENT) and lines[2].startswith(_TRUSTED):
        raw, comment_signature = _decode(lines[1]), _decode(lines[3])
        if (
            len(raw) == len(_PLAIN) + _ID_BYTES + _SIGNATURE_BYTES
            and len(comment_signature) == _SIGNATURE_BYTES
            and raw[:2] in (_PLAIN, _HASHED)
        ):
            return _Signature(
                hashed=raw.startswith(_HASHED),
                key_id=raw[2:10],
                signature=raw[10:],
                comment=lines[2].removeprefix(_TRUSTED).encode(),
                comment_signature=comment_signature,
            )
    raise BundleError(f"{path} is no signature of minisign; expected the four lines that `minisign -S` wrote")


def _lines(path: Path, what: str) -> list[str]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES)
        return content.decode("utf-8").rstrip("\r\n").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is no {what} of minisign: it is not UTF-8") from error
    except OSError as error:
        raise BundleError(f"the {what} {path} cannot be read: {error.strerror}") from error


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _verifies(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _words(key_id: bytes) -> str:
    """As minisign shows it."""
    return key_id[::-1].hex().upper()
