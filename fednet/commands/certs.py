"""`cli.py certs`: the certificate authority and its join tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fednet.commands.certs_changes import renew, rotate, trust
from fednet.commands.certs_revoke import revoke
from fednet.commands.options import certs_option, json_option
from fednet.commands.passphrases import asked_passphrase, authority_passphrase, passphrase_file_option
from fednet.config import DEFAULT_HOST, DEFAULT_PORT, worker_name
from fednet.errors import BadInput, CredentialError

if TYPE_CHECKING:
    from cryptography import x509

    from fednet.security.identity import PeerIdentity
    from fednet.security.tokens import CertificateRow, TokenRow


@click.group("certs")
def command() -> None:
    """Make the certificate authority, give tokens to hospitals, list and revoke what was issued."""


for _change in (renew, revoke, rotate, trust):
    command.add_command(_change)


@command.command("init")
@certs_option
@passphrase_file_option
@click.option("--passphrase", "asks", is_flag=True, help="Ask for a passphrase to encrypt the authority's key with.")
def init(certs: Path, passphrase_file: Path | None, asks: bool) -> None:
    """Make the authority in advance (`coordinator start` does it by itself); a passphrase encrypts its key."""
    from fednet.security.authority import create_authority

    if asks and passphrase_file is not None:
        raise BadInput("--passphrase", found="--passphrase-file as well", todo="give one of them")
    passphrase = asked_passphrase() if asks else authority_passphrase(passphrase_file)
    create_authority(certs, now=datetime.now(UTC), passphrase=passphrase)
    kept = "Keep ca.key there secret" if passphrase is None else "Its ca.key is encrypted: keep the passphrase apart"
    click.echo(f"Authority made in {certs / 'authority'}. {kept}, and keep a copy of it offline.")


@command.command("token")
@click.argument("name")
@certs_option
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), default=24.0, show_default=True, help="How long valid.")
@click.option("--host", default=None, help="The coordinator's name or address, as this hospital reaches it.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Its port.")
@click.option(
    "--role",
    type=click.Choice(["worker", "observer"]),
    default="worker",
    show_default=True,
    help="observer: may connect to measure the way (doctor), and take part in nothing.",
)
@passphrase_file_option
def token(
    name: str, certs: Path, hours: float, host: str | None, port: int, role: str, passphrase_file: Path | None
) -> None:
    """Print a join token for the hospital NAME (such as client1): good once, for 24 hours."""
    from fednet.security.authority import LOCAL_HOSTS, open_authority
    from fednet.security.identity import Role
    from fednet.security.tokens import JoinToken, TokenLedger
    from fednet.security.trusted import trusted_in

    checked = worker_name(name)
    if any(checked in each.names for each in trusted_in(certs)):  # a token would lift its revocation, too
        todo = f"`certs trust FILE --remove --name {name}` comes first"
        raise BadInput(f"certs token {name}", found="a name that a site's own authority speaks for", todo=todo)
    authority = open_authority(certs, passphrase=authority_passphrase(passphrase_file))
    where = host or next(iter(_public_hosts(certs)), DEFAULT_HOST)
    lifetime = timedelta(hours=hours)
    secret = TokenLedger(certs).issue(checked, lifetime=lifetime, now=datetime.now(UTC), role=Role(role))
    click.echo(JoinToken(authority.certificate_der, where, port, checked, secret).encode())
    click.echo(f"Send it to {name} by a private channel. There: cli.py worker join --data DIR --token TOKEN", err=True)
    click.echo(f"It leads to {where}:{port} (--host, --port) and is good once, for {hours:g} hours.", err=True)
    if where not in _public_hosts(certs):
        known = "leads to this machine only: add --host" if where in LOCAL_HOSTS else "is not in the certificate yet"
        click.echo(f"{where} {known}, and start the coordinator with --public-host.", err=True)


@command.command("list")
@certs_option
@json_option
def list_issued(certs: Path, as_json: bool) -> None:
    """List tokens and certificates, and which of them are good: open or valid."""
    from fednet.security.authority import has_authority
    from fednet.security.tokens import TokenLedger

    if not has_authority(certs):
        raise CredentialError(f"certificates {certs}", found="no authority there", todo="check --certs")
    ledger = TokenLedger(certs)
    now = datetime.now(UTC)
    tokens = [
        {
            "name": row.name,
            "role": row.role.value,
            "expires": row.expires.isoformat(timespec="seconds"),
            "state": "used" if row.redeemed else _state(row, now, good="open"),
            "reason": row.revoked,
        }
        for row in ledger.tokens()
    ]
    certificates = [
        {
            "name": row.name,
            "expires": row.expires.isoformat(timespec="seconds"),
            "fingerprint": row.fingerprint,
            "state": _state(row, now, good="valid"),
            "reason": row.revoked,
        }
        for row in ledger.certificates()
    ]
    if as_json:
        click.echo(json.dumps({"tokens": tokens, "certificates": certificates}))
        return
    for title, rows in (("Tokens", tokens), ("Certificates", certificates)):
        click.echo(f"{title}: {len(rows)}")
        for row in rows:
            click.echo("  " + "  ".join(value for value in row.values() if value))


def _state(row: TokenRow | CertificateRow, now: datetime, *, good: str) -> str:
    return "revoked" if row.revoked else "expired" if row.expires <= now else good


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show whom the certificate FILE (PEM) names, in which role, for which hosts, and until when."""
    from cryptography.hazmat.primitives import hashes

    from fednet.security.authority import hosts_of, read_certificate

    certificate = read_certificate(file)
    identity = _identity(certificate)
    hosts = hosts_of(certificate)
    facts = {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "role": identity.role.value if identity else None,
        "name": identity.name if identity else None,
        "starts": certificate.not_valid_before_utc.isoformat(timespec="seconds"),
        "expires": certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }
    if as_json:
        click.echo(json.dumps(facts | {"hosts": hosts}))
        return
    for key, value in (facts | {"hosts": ", ".join(hosts)}).items():
        click.echo(f"{key:<11}  {value or 'none'}")


def _identity(certificate: x509.Certificate) -> PeerIdentity | None:
    """Return the FedNet identity in a certificate; the authority's has none."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from fednet.security.identity import identity_of

    try:
        return identity_of(certificate.public_bytes(Encoding.DER))
    except CredentialError:
        return None


def _public_hosts(certs: Path) -> list[str]:
    """Return the hosts of the coordinator's certificate that another machine could use."""
    from fednet.security.authority import LOCAL_HOSTS, hosts_of, read_certificate

    path = certs / "coordinator" / "cert.pem"
    return [host for host in hosts_of(read_certificate(path)) if host not in LOCAL_HOSTS] if path.exists() else []
