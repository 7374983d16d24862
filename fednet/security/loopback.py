"""The loopback token: lets any number of workers on this machine join while its coordinator runs."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
from dataclasses import replace
from pathlib import Path

from fednet.errors import CredentialError
from fednet.security.keys import private_folder, read_private
from fednet.security.tokens import SECRET_BYTES, JoinToken, decode_token
from fednet.storage.atomic import write_text


class LoopbackGrant:
    """A secret in a file that only this user can read; it is worth something only from loopback, only while we run."""

    def __init__(self, folder: Path, *, port: int, authority_der: bytes) -> None:
        self._path = loopback_path(folder, port)
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._token = JoinToken(authority_der, "127.0.0.1", port, None, self._secret)

    def lead_to(self, authority_der: bytes) -> None:
        """Say from now on that the coordinator is of this authority; the secret stays."""
        self._token = replace(self._token, authority_der=authority_der)
        self.leave()

    def leave(self) -> None:
        """Write the token file."""
        private_folder(self._path.parent)
        write_text(self._path, self._token.encode() + "\n", mode=0o600)

    def remove(self) -> None:
        """Take the token file away, unless another coordinator has put its own there."""
        with contextlib.suppress(OSError, CredentialError):  # a file that is left behind opens nothing any more
            if _read_token(self._path).secret == self._secret:
                self._path.unlink()

    def accepts(self, secret: bytes, peer_address: str) -> bool:
        """Whether this secret opens the door to this peer."""
        return is_loopback(peer_address) and hmac.compare_digest(secret, self._secret)


def loopback_path(folder: Path, port: int) -> Path:
    """Return where the coordinator on `port` leaves its token."""
    return folder / f"loopback-{port}.token"


def find_loopback_token(folder: Path, port: int) -> JoinToken | None:
    """Return the token that a coordinator on this machine has left, or None; `CredentialError` for an unsafe one."""
    try:
        return _read_token(loopback_path(folder, port))
    except FileNotFoundError:
        return None


def _read_token(path: Path) -> JoinToken:
    return decode_token(read_private(path).decode(errors="replace"))


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, IPv4-mapped ones included."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
