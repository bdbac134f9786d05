"""Signatures of a bundle: minisign's own files, a wrong key, a changed bundle, files that are no signatures."""

from __future__ import annotations

import base64
import hashlib
import sys

import msgspec
import pytest
from tests import bundles

from embedge import BundleError, EdgeModel, MissingExtraError, ParamsError
from embedge._contents.signature import check_signature
from embedge.cli.main import main
from embedge.manifest import load_manifest
from embedge.testing import tiny_bundle
from embedge.verify import verify

FINGERPRINT = "ab" * 32
"""What minisign 0.11 signed below: these digits and the end of the line; two keys of its own."""
KEY = "RWRm8fh7WRz25VCVz3ezfxa78iuaSDgyZ9nhYbD14H2aItCwSe3RPEdg"
OTHER_KEY = "RWQxdsNoNRIxrqZRs/dHO01KZ9pUP/r7Th/d/b1MvtE7V87mN7pRkrNg"
SIGNED = """untrusted comment: signature from minisign secret key
RURm8fh7WRz25dQJO5lFo7y7dHnwCkgwSVzoWih6QKldJIVYvbPu/n5geu6vk69EUW78p4MTPdNtQa4I1Xxa6DkiDJNbLmpG1AA=
trusted comment: embedge test
a3G5fYBiXNtezZ994viAvVJAEqe8xWvxD0tJu36qiCnqmjCLAGzaMqRXqcBum1qGHWIfu09tkIzPgrNltaOnCw==
"""
NOT_HASHED = """untrusted comment: signature from minisign secret key
RWRm8fh7WRz25bdhJy7m72GgAN/b+up5nPtBv1tVcylm5Gh9PggyMjESLZ8WidGUud8zup9CGdDGOjfMP3rqCLk0lqY9+lWR+Qs=
trusted comment: embedge test, not hashed
4yHBCNXGqRZCI2TrRT4D2oAeDSG5aMZmFnwR/g5eVpytiCGJGAI3rwG4E4KvIgko1jVMOKJdfhUPA2alcLMvAQ==
"""


def written(folder, text, name="bundle.minisig"):
    path = folder / name
    path.write_text(text)
    return path


class Signer:
    """A fresh key, and what minisign would write with it."""

    def __init__(self, folder) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key, self._id, self._folder = Ed25519PrivateKey.generate(), b"12345678", folder
        public = b"Ed" + self._id + self._key.public_key().public_bytes_raw()
        self.line = base64.b64encode(public).decode()
        self.public_key = written(folder, f"untrusted comment: mine\n{self.line}\n", "mine.pub")

    def sign(self, bundle):
        digest = hashlib.blake2b(f"{load_manifest(bundle).fingerprint}\n".encode()).digest()
        signature = self._key.sign(digest)
        lines = (
            "untrusted comment: mine",
            base64.b64encode(b"ED" + self._id + signature).decode(),
            "trusted comment: mine, too",
            base64.b64encode(self._key.sign(signature + b"mine, too")).decode(),
        )
        return written(self._folder, "\n".join(lines) + "\n", "mine.minisig")


@pytest.fixture
def signer(tmp_path):
    pytest.importorskip("cryptography")
    return Signer(tmp_path)


@pytest.mark.parametrize(
    ("text", "comment"), [(SIGNED, "embedge test"), (NOT_HASHED, "embedge test, not hashed")]
)
def test_what_minisign_signed(tmp_path, text, comment) -> None:
    pytest.importorskip("cryptography")
    path = written(tmp_path, text)
    assert check_signature(FINGERPRINT, path, KEY) == comment
    key = written(tmp_path, f"untrusted comment: minisign public key E5F61C597BF8F166\r\n{KEY}\r\n", "a.pub")
    assert check_signature(FINGERPRINT, str(path), key) == comment
    with pytest.raises(BundleError, match="signs another bundle than the one with the fingerprint abab"):
        check_signature(FINGERPRINT[:-1] + "c", path, KEY)
    with pytest.raises(
        BundleError, match="made with the key E5F61C597BF8F166, and the public key is AE31123568C3"
    ):
        check_signature(FINGERPRINT, path, OTHER_KEY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("embedge test", "embedge text"), "comment that was changed"),
        (lambda text: text.replace("dQJO5", "dQJO6"), "signs another bundle"),
        (lambda text: text.replace("RURm", "RVRm"), "is no signature of minisign"),
        (lambda text: text.replace("RURm8", "RURm"), "is no signature of minisign"),
        (lambda text: text.replace("untrusted comment", "comment"), "is no signature of minisign"),
        (lambda text: text[:100], "is no signature of minisign"),
        (lambda text: "", "is no signature of minisign"),
        (lambda text: "\xff" * 100_000, "is no signature of minisign"),
    ],
)
def test_a_signature_that_was_changed(tmp_path, change, message) -> None:
    pytest.importorskip("cryptography")
    with pytest.raises(BundleError, match=message):
        check_signature(FINGERPRINT, written(tmp_path, change(SIGNED)), KEY)


@pytest.mark.parametrize("bits", range(0, 64 * 8, 37))
def test_every_bit_of_a_signature_counts(tmp_path, bits) -> None:
    pytest.importorskip("cryptography")
    lines = SIGNED.splitlines()
    raw = bytearray(base64.b64decode(lines[1]))
    raw[10 + bits // 8] ^= 1 << bits % 8
    lines[1] = base64.b64encode(raw).decode()
    with pytest.raises(BundleError, match="signs another bundle"):
        check_signature(FINGERPRINT, written(tmp_path, "\n".join(lines)), KEY)


def test_keys_and_files_that_are_none(tmp_path) -> None:
    pytest.importorskip("cryptography")
    path = written(tmp_path, SIGNED)
    with pytest.raises(BundleError, match=r"the signature .*missing cannot be read: No such file"):
        check_signature(FINGERPRINT, tmp_path / "missing", KEY)
    with pytest.raises(BundleError, match=r"the public key .*missing cannot be read: No such file"):
        check_signature(FINGERPRINT, path, tmp_path / "missing")
    path.write_bytes(b"\xff" * 200)
    with pytest.raises(BundleError, match="is no signature of minisign: it is not UTF-8"):
        check_signature(FINGERPRINT, path, KEY)
    path = written(tmp_path, SIGNED)
    for text in (SIGNED, "", KEY[:-1], f"untrusted comment: x\n{KEY[:-4]}\n"):
        with pytest.raises(ParamsError, match="holds no public key of minisign"):
            check_signature(FINGERPRINT, path, written(tmp_path, text, "key.pub"))


def test_a_bundle_is_opened_only_as_it_was_signed(tmp_path, signer) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    signature = signer.sign(bundle)
    for key in (signer.public_key, signer.line):
        with EdgeModel(bundle, device="cpu", signature=signature, public_key=key) as model:
            assert model.embed("the river").numpy().shape == (1, 8)
        assert [report.passed for report in verify(bundle, signature=signature, public_key=key)] == [True]
    # whole in itself, but of other weights
    changed = tiny_bundle(tmp_path / "bundle", seed=9)
    EdgeModel(changed, device="cpu").close()
    for opened in (EdgeModel, verify):
        with pytest.raises(BundleError, match="signs another bundle"):
            opened(changed, device="cpu", signature=signature, public_key=signer.line)


def test_a_fact_of_the_manifest_is_signed_as_well(tmp_path, signer) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    signature = signer.sign(bundle)
    bundles.rewrite(bundle, lambda m: msgspec.structs.replace(m, normalize=False))
    with pytest.raises(BundleError, match="signs another bundle"):
        EdgeModel(bundle, device="cpu", signature=signature, public_key=signer.line)


def test_on_the_command_line(tmp_path, signer, capsys) -> None:
    bundle = tiny_bundle(tmp_path / "bundle")
    assert main(["inspect", str(bundle), "--fingerprint"]) == 0
    assert capsys.readouterr().out == f"{load_manifest(bundle).fingerprint}\n"
    asked = ["verify", str(bundle), "--signature", str(signer.sign(bundle)), "--public-key"]
    assert main([*asked, str(signer.public_key)]) == 0
    assert "is signed by the owner of the key" in capsys.readouterr().out
    assert main([*asked, KEY]) == 1
    assert "made with the key" in capsys.readouterr().err


def test_one_without_the_other_is_refused(tmp_path) -> None:
    bundle = tiny_bundle(tmp_path)
    for options in ({"signature": "a"}, {"public_key": KEY}):
        with pytest.raises(ParamsError, match="signature=... and public_key=... go together"):
            EdgeModel(bundle, **options)
        with pytest.raises(ParamsError, match="signature=... and public_key=... go together"):
            verify(bundle, **options)
    with pytest.raises(ParamsError, match="public_key=3 is no path"):
        EdgeModel(bundle, signature="a", public_key=3)


def test_without_cryptography_the_extra_is_named(tmp_path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedge\[signed\]'"):
        check_signature(FINGERPRINT, written(tmp_path, SIGNED), KEY)
