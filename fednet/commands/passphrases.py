"""How the passphrase of the authority's key gets into a command: `--passphrase-file`, the environment, or a prompt."""

from __future__ import annotations

import os
from pathlib import Path

import click

passphrase_file_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the passphrase of the authority's key (or FEDNET_AUTHORITY_PASSPHRASE).",
)


def authority_passphrase(file: Path | None) -> bytes | None:
    """Return the passphrase of the authority's key, or None where none is given; raises `CredentialError`."""
    from fednet.security.passphrase import passphrase_from

    return passphrase_from(file, os.environ)


def asked_passphrase() -> bytes:
    """Ask the person at the terminal for a new passphrase, twice."""
    typed: str = click.prompt("Passphrase of the authority's key", hide_input=True, confirmation_prompt=True, err=True)
    return typed.encode()
