"""The passphrase of the authority's key: from a private file or the environment, never from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fednet.errors import CredentialError
from fednet.security.keys import require_private

VARIABLE = "FEDNET_AUTHORITY_PASSPHRASE"
LEAST_CHARACTERS = 12  # the key's file is stretched by PBKDF2 with 2,048 rounds only, so the words must be strong
_MOST_BYTES = 1023  # OpenSSL reads no more


def passphrase_from(file: Path | None, environment: Mapping[str, str]) -> bytes | None:
    """Return the passphrase in the first line of a file, else of the environment, or None where there is neither.

    Raises `CredentialError` for a file that others can read, or that is empty.
    """
    if file is None:
        given = environment.get(VARIABLE)
        return None if given is None else _bytes_of(given, VARIABLE)
    what = f"passphrase file {file}"
    try:
        with file.open("rb") as opened:
            require_private(opened, what, path=file)
            text = opened.read(_MOST_BYTES + 1).decode()
    except OSError as exc:
        raise CredentialError(what, found=exc.strerror or "nothing there") from exc
    except UnicodeDecodeError as exc:
        raise CredentialError(what, found="bytes that are no UTF-8 text") from exc
    return _bytes_of(next(iter(text.splitlines()), ""), what)


def _bytes_of(text: str, what: str) -> bytes:
    data = text.encode()
    if not data or len(data) > _MOST_BYTES:
        raise CredentialError(what, found=f"{len(data)} bytes", expected=f"1 to {_MOST_BYTES}")
    return data


def require_strong(passphrase: bytes) -> None:
    """Raise `CredentialError` for one that is too short to be put on a new key."""
    count = len(passphrase.decode())
    if count < LEAST_CHARACTERS:
        raise CredentialError(
            "passphrase", found=f"{count} characters", expected=f"at least {LEAST_CHARACTERS}: five random words, say"
        )
