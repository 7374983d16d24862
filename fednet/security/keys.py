"""Private keys on disk: elliptic-curve keys in files and folders that nobody else can read or enter."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fednet.errors import CredentialError
from fednet.storage.atomic import write_bytes
from fednet.storage.disk import storage_error


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def save_key(path: Path, key: ec.EllipticCurvePrivateKey, *, passphrase: bytes | None = None) -> None:
    """Write a key as PKCS #8 PEM, readable by its owner alone, and encrypted where a passphrase is given."""
    private_folder(path.parent)
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    write_bytes(path, pem, mode=0o600)


def load_key(path: Path, *, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Return the key in `path`; raises `CredentialError` when others can read it, or when it is none of ours.

    A passphrase must be given for a key that is encrypted, and for no other: nobody is to believe that one is.
    """
    try:
        pem = read_private(path)
        key = serialization.load_pem_private_key(pem, password=passphrase)
    except OSError as exc:
        raise CredentialError(f"key {path}", found=exc.strerror or "nothing there") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if (trouble := _passphrase_trouble(pem, passphrase)) is not None:
            raise CredentialError(f"key {path}", found=trouble[0], todo=trouble[1]) from None
        raise CredentialError(f"key {path}", found="a file that cannot be read as a private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError(f"key {path}", found=type(key).__name__, expected="an elliptic-curve key")
    return key


def _passphrase_trouble(pem: bytes, passphrase: bytes | None) -> tuple[str, str] | None:
    """Return (what was found, what to do) where a key could not be read for its passphrase."""
    how = "--passphrase-file FILE, or set FEDNET_AUTHORITY_PASSPHRASE"
    is_encrypted = b"ENCRYPTED" in pem
    if is_encrypted and passphrase is None:
        return "it encrypted, and no passphrase", f"give it by {how}"
    if is_encrypted:
        return "another passphrase on it than the one that is given", "check the passphrase"
    if passphrase is not None:
        return "it not encrypted, though a passphrase is given", "leave the passphrase out, or encrypt the key"
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody else who asks for this, here or in another process, work in the folder meanwhile; not to be nested."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Return a secret file's content. Raises `OSError`, and `CredentialError` when others can get at the file."""
    with path.open("rb") as file:
        _refuse_folder(path.parent)
        require_private(file, f"key {path}", path=path)
        return file.read()


def require_private(file: BinaryIO, what: str, *, path: Path) -> None:
    """Raise `CredentialError` when anybody but the owner can open this open file."""
    _refuse_mode(what, path, os.fstat(file.fileno()).st_mode)


def refuse_readable_by_others(path: Path) -> None:
    """Raise `CredentialError` when anybody but the owner can open this secret, or enter its folder."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise CredentialError(f"key {path}", found=exc.strerror or "nothing there") from exc
    _refuse_folder(path.parent)
    _refuse_mode(f"key {path}", path, mode)


def _refuse_folder(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        raise CredentialError(
            f"key folder {folder}",
            found=f"mode {mode:04o}: others can enter it",
            expected="0700",
            todo=f"run chmod 700 {folder}",
        )


def _refuse_mode(what: str, path: Path, st_mode: int) -> None:
    mode = stat.S_IMODE(st_mode)
    if mode & 0o077:
        raise CredentialError(
            what, found=f"mode {mode:04o}: others can read it", expected="0600", todo=f"run chmod 600 {path}"
        )


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise storage_error(folder, exc) from exc
