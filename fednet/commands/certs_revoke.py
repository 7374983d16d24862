"""`cli.py certs revoke`: withdraws what a name has, or one certificate, from a coordinator that runs too."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from fednet.commands.options import certs_option
from fednet.errors import CredentialError


@click.command("revoke")
@click.argument("subject", metavar="NAME|FINGERPRINT")
@click.option("--reason", required=True, help="Why; the worker is told, and the run's record says it.")
@certs_option
def revoke(subject: str, reason: str, certs: Path) -> None:
    """Revoke all that the hospital NAME has, tokens too, or the one certificate with this SHA-256 FINGERPRINT.

    A coordinator that runs hangs up within a second and counts nothing of it from then on. A revoked certificate stays
    so; `certs token NAME` lets the hospital in again, with a new one.
    """
    from fednet.security.authority import has_authority
    from fednet.security.revocation import RevocationLedger
    from fednet.security.trusted import trusted_in

    if not has_authority(certs):
        raise CredentialError(f"certificates {certs}", found="no authority there", todo="check --certs")
    vouched = [name for site in trusted_in(certs) for name in site.names]
    done = RevocationLedger(certs).revoke(subject, reason=reason, now=datetime.now(UTC), vouched=vouched)
    for fingerprint in done.certificates:
        click.echo(f"revoked: certificate {fingerprint}")
    if done.tokens:
        click.echo(f"revoked: {done.tokens} unused {'token' if done.tokens == 1 else 'tokens'}")
    if done.blocks_name is not None:
        click.echo(f"{done.blocks_name} takes part in nothing until `certs token {done.blocks_name}` lets it in again")
    elif not done.certificates:
        click.echo("it was revoked already; the first reason stays")
