"""Private keys on disk: elliptic-curve keys in files that nobody else can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fednet.errors import CredentialError
from fednet.storage.atomic import write_bytes
from fednet.storage.disk import storage_error


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def save_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key as PKCS #8 PEM, readable by its owner alone."""
    private_folder(path.parent)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_bytes(path, pem, mode=0o600)


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key in `path`; raises `CredentialError` when others can read it, or when it is none of ours."""
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except OSError as exc:
        raise CredentialError(f"key {path}", found=exc.strerror or "nothing there") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise CredentialError(f"key {path}", found="a file that cannot be read as a private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError(f"key {path}", found=type(key).__name__, expected="an elliptic-curve key")
    return key


def read_private(path: Path) -> bytes:
    """Return a secret file's content. Raises `OSError`, and `CredentialError` when others can open the file."""
    with path.open("rb") as file:
        _refuse_mode(path, os.fstat(file.fileno()).st_mode)
        return file.read()


def refuse_readable_by_others(path: Path) -> None:
    """Raise `CredentialError` when anybody but the owner can open this secret."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise CredentialError(f"key {path}", found=exc.strerror or "nothing there") from exc
    _refuse_mode(path, mode)


def _refuse_mode(path: Path, st_mode: int) -> None:
    mode = stat.S_IMODE(st_mode)
    if mode & 0o077:
        raise CredentialError(
            f"key {path}", found=f"mode {mode:04o}: others can read it", expected="0600", todo=f"run chmod 600 {path}"
        )


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as exc:
        raise storage_error(folder, exc) from exc
