"""`cli.py certs`: the certificate authority and its join tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from fednet.commands.options import certs_option, json_option
from fednet.config import DEFAULT_PORT, worker_name


@click.group("certs")
def command() -> None:
    """Make the certificate authority, give tokens to hospitals, list what was issued."""


@command.command("init")
@certs_option
def init(certs: Path) -> None:
    """Make the authority in advance (`coordinator start` does it by itself)."""
    from fednet.security.authority import create_authority

    create_authority(certs, now=datetime.now(UTC))
    click.echo(f"Authority made in {certs / 'authority'}. Keep ca.key there secret, and keep a copy of it offline.")


@command.command("token")
@click.argument("name")
@certs_option
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), default=24.0, show_default=True, help="How long valid.")
@click.option("--host", default=None, help="The coordinator's name or address, as this hospital reaches it.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Its port.")
def token(name: str, certs: Path, hours: float, host: str | None, port: int) -> None:
    """Print a join token for the hospital NAME (such as client1): good once, for 24 hours."""
    from fednet.security.authority import open_authority
    from fednet.security.tokens import JoinToken, TokenLedger

    checked = worker_name(name)
    authority = open_authority(certs)
    where = host or _public_host(certs)
    secret = TokenLedger(certs).issue(checked, lifetime=timedelta(hours=hours), now=datetime.now(UTC))
    click.echo(JoinToken(authority.certificate_der, where, port, checked, secret).encode())
    click.echo(f"Send it to {name} by a private channel. There: cli.py worker join --data DIR --token TOKEN", err=True)
    click.echo(f"It leads to {where}:{port} (--host, --port) and is good once, for {hours:g} hours.", err=True)


@command.command("list")
@certs_option
@json_option
def list_issued(certs: Path, as_json: bool) -> None:
    """List tokens and certificates."""
    from fednet.security.tokens import TokenLedger

    ledger = TokenLedger(certs)
    now = datetime.now(UTC)
    tokens = [
        {
            "name": row.name,
            "expires": row.expires.isoformat(timespec="seconds"),
            "state": "used" if row.redeemed else "expired" if row.expires <= now else "open",
        }
        for row in ledger.tokens()
    ]
    certificates = [
        {"name": row.name, "expires": row.expires.isoformat(timespec="seconds"), "fingerprint": row.fingerprint}
        for row in ledger.certificates()
    ]
    if as_json:
        click.echo(json.dumps({"tokens": tokens, "certificates": certificates}))
        return
    for title, rows in (("Tokens", tokens), ("Certificates", certificates)):
        click.echo(f"{title}: {len(rows)}")
        for row in rows:
            click.echo("  " + "  ".join(str(value) for value in row.values()))


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Show whom the certificate FILE (PEM) names, and until when."""
    from cryptography.hazmat.primitives import hashes

    from fednet.security.authority import read_certificate

    certificate = read_certificate(file)
    click.echo(f"subject      {certificate.subject.rfc4514_string()}")
    click.echo(f"issuer       {certificate.issuer.rfc4514_string()}")
    click.echo(f"valid until  {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    click.echo(f"fingerprint  {certificate.fingerprint(hashes.SHA256()).hex()} (SHA-256)")


def _public_host(certs: Path) -> str:
    """Return the first host of the coordinator's certificate that another machine could use."""
    from cryptography import x509

    from fednet.security.authority import read_certificate

    path = certs / "coordinator" / "cert.pem"
    if not path.exists():
        return "127.0.0.1"
    names = read_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]
    return next((host for host in hosts if host not in ("localhost", "127.0.0.1", "::1")), "127.0.0.1")
