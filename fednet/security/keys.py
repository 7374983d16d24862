"""Private keys on disk: elliptic-curve keys in files that nobody else can read."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fednet.errors import CredentialError
from fednet.storage.atomic import storage_error, write_bytes


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
    refuse_readable_by_others(path)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as exc:
        raise CredentialError(f"key {path}", found="a file that cannot be read as a private key") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError(f"key {path}", found=type(key).__name__, expected="an elliptic-curve key")
    return key


def refuse_readable_by_others(path: Path) -> None:
    """Raise `CredentialError` when anybody but the owner can open this secret."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as exc:
        raise CredentialError(f"key {path}", found=exc.strerror or "nothing there") from exc
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
