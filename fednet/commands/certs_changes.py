"""`cli.py certs renew`, `rotate`, `trust`: certificates that replace others, and authorities of the sites' own."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fednet.commands.options import certs_option
from fednet.commands.passphrases import authority_passphrase, passphrase_file_option
from fednet.config import WorkerName, worker_name
from fednet.errors import BadInput, ConnectionLost

if TYPE_CHECKING:
    from cryptography import x509

    from fednet.commands.door import Door
    from fednet.security.rotation import Authorities

_DISTRUSTED = "the authority that spoke for it is trusted no more"  # as workers are told, and the record says
_CENTRE = "coordinator"  # whose certificate is renewed where the authority is, not over a connection


@click.command("renew")
@click.argument("name")
@click.option("--coordinator", "address", help="HOST:PORT that signs it, for a hospital (default: 127.0.0.1:7733).")
@click.option("--proxy", help="HTTP proxy, http://[USER:PASSWORD@]HOST:PORT (default: HTTPS_PROXY); none: never.")
@click.option("--public-host", multiple=True, help="For `coordinator`: a further name or address that workers use.")
@passphrase_file_option
@certs_option
def renew(
    name: str,
    address: str | None,
    proxy: str | None,
    public_host: tuple[str, ...],
    passphrase_file: Path | None,
    certs: Path,
) -> None:
    """Renew the certificate of the hospital NAME now, at the hospital; or at the centre that of `coordinator`."""
    if name == _CENTRE:
        if address is not None or proxy is not None:
            raise BadInput("certs renew coordinator", found="--coordinator or --proxy", todo="run it at the centre")
        _make_coordinator(certs, public_host, authority_passphrase(passphrase_file))
        return
    from fednet.commands.consenting import pins_here
    from fednet.commands.door import Door, address_of, proxy_for

    if public_host or passphrase_file is not None:
        option = "--public-host" if public_host else "--passphrase-file"
        raise BadInput(option, found=f"certs renew {name}", expected="certs renew coordinator")
    host, port = address_of(address, None)
    door = Door(certs, worker_name(name), host, port, None, proxy=proxy_for(host, port, proxy), pins=pins_here())
    ends = asyncio.run(_renewed(door))
    click.echo(f"{name}'s certificate is good until {ends:%Y-%m-%d}; its next connection shows it.")


def _make_coordinator(certs: Path, hosts: tuple[str, ...], passphrase: bytes | None) -> None:
    """Make the coordinator's certificate anew, for the hosts that it has and further ones, and say which it is."""
    from fednet.security.authority import hosts_of, open_authority, read_certificate
    from fednet.security.signing import fingerprint_of

    path = certs / "coordinator" / "cert.pem"
    had = hosts_of(read_certificate(path)) if path.exists() else []
    open_authority(certs, passphrase=passphrase).make_coordinator([*had, *hosts], now=datetime.now(UTC))
    made = read_certificate(path)
    ends = f"{made.not_valid_after_utc:%Y-%m-%d}"
    click.echo(f"The coordinator's certificate is good until {ends}; one that runs uses it within seconds.")
    click.echo(f'A worker.toml that names it ([coordinator] certificate) needs "{fingerprint_of(made)}" now.')


async def _renewed(door: Door) -> datetime:
    try:
        return await door.renew()
    except ssl.SSLError as exc:
        raise door.explain(exc) from exc
    except ConnectionLost as exc:
        if isinstance(exc.__cause__, ssl.SSLError):
            raise door.explain(exc.__cause__) from exc
        raise


@click.command("rotate")
@click.option("--begin", is_flag=True, help="Make the next authority; from now on renewals are signed by it.")
@click.option("--finish", is_flag=True, help="Put it in the present one's place, whose key is removed.")
@click.option("--force", is_flag=True, help="With --finish: leave workers behind that cannot be seen to be ready.")
@passphrase_file_option
@certs_option
def rotate(begin: bool, finish: bool, force: bool, passphrase_file: Path | None, certs: Path) -> None:
    """Change the authority over, at the centre; without an option, say how far that is."""
    from fednet.security import rotation

    if begin and finish:
        raise BadInput("--begin and --finish", found="both", todo="begin, let the workers renew, finish days later")
    if force and not finish:
        raise BadInput("--force", found="no --finish", todo="it goes with that")
    if begin:
        rotation.begin(certs, now=datetime.now(UTC), passphrase=authority_passphrase(passphrase_file))
        click.echo(f"The next authority is in {certs / 'authority' / 'next'}: copy authority/ to your backup again.")
    elif finish:
        _finish(certs, force=force, passphrase=authority_passphrase(passphrase_file))
    for line in _standing(certs, rotation.authorities_in(certs)):
        click.echo(line)


def _finish(certs: Path, *, force: bool, passphrase: bytes | None) -> None:
    from fednet.security import rotation

    successor = rotation.authorities_in(certs).successor
    if successor is not None and not force:
        _require_ready(_behind(certs, successor), _by_hand(certs))
    rotation.finish(certs, passphrase=passphrase)
    _make_coordinator(certs, (), passphrase)
    click.echo("Changed over. Tokens that were not used yet, and those of --force, have to be made anew.")


def _require_ready(behind: list[str], by_hand: list[str]) -> None:
    """Raise `BadInput` where a worker would be shut out, or may be."""
    found, todo = [], []
    if behind:
        found.append(f"{', '.join(behind)} not seen yet with a certificate of the next authority")
        todo.append(
            "wait until they have connected twice (to renew, and with what they got), or revoke what nobody uses"
        )
    if by_hand:
        found.append(f"{', '.join(by_hand)}, to be told by hand (see `certs rotate`)")
        todo.append("ask those sites")
    if found:
        left = "--force goes on without them: a worker left behind enrols again with a token"
        raise BadInput("certs rotate --finish", found="; ".join(found), todo=f"{'; '.join(todo)}. {left}")


def _by_hand(certs: Path) -> list[str]:
    """Return the workers whose certificates are their sites' own: no renewal brings them the next authority."""
    from fednet.security.trusted import trusted_in

    return sorted(name for site in trusted_in(certs) for name in site.names)


def _behind(certs: Path, successor: x509.Certificate) -> list[str]:
    from fednet.security.rotation import laggards
    from fednet.security.tokens import TokenLedger

    return laggards(TokenLedger(certs).certificates(), successor, now=datetime.now(UTC))


def _standing(certs: Path, authorities: Authorities) -> list[str]:
    lines = [_line("authority", authorities.current)]
    lines += [_line("retired", each) for each in authorities.retired]
    if authorities.successor is None:
        return [*lines, "No change-over is under way."]
    lines.append(_line("next", authorities.successor))
    if by_hand := _by_hand(certs):
        file = certs / "authority" / "next" / "ca.pem"
        lines.append(f"by hand    {', '.join(by_hand)}: their sites must add {file} to the file of --ca before the end")
    behind = _behind(certs, authorities.successor)
    if behind:
        return [*lines, f"{', '.join(behind)} must have connected with a renewed certificate first"]
    end = "certs rotate --finish --force, once those by hand have it" if by_hand else "certs rotate --finish"
    return [*lines, f"every worker has shown its renewed certificate: {end}"]


@click.command("trust")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", "names", multiple=True, help="A worker it may vouch for; repeatable.")
@click.option("--remove", is_flag=True, help="Trust it no more, or nobody for --name.")
@certs_option
def trust(file: Path | None, names: tuple[str, ...], remove: bool, certs: Path) -> None:
    """Trust a site's own authority, FILE (PEM), for the workers --name; without FILE, list those that are."""
    from fednet.security import trusted
    from fednet.security.authority import read_certificate
    from fednet.security.revocation import RevocationLedger
    from fednet.security.signing import fingerprint_of

    checked = [worker_name(name) for name in names]
    certificate = read_certificate(file) if file is not None else None
    if remove:
        print_ = fingerprint_of(certificate) if certificate is not None else None
        removed = trusted.remove(certs, checked, fingerprint=print_)
        RevocationLedger(certs).shut_out(removed, reason=_DISTRUSTED, now=datetime.now(UTC))
        click.echo(
            f"Trusted no more: an authority for {', '.join(removed)}. A coordinator that runs shows them out, and "
            "counts nothing of them in the round under way; `certs trust` or `certs token` lets a name in again."
        )
    elif certificate is not None:
        _trust(certs, certificate, checked)
    elif names:
        raise BadInput("--name", found="no FILE", expected="the certificate (PEM) of the authority for that name")
    for each in trusted.trusted_in(certs):
        click.echo(f"{_line('trusted', each.certificate)}: {', '.join(each.names)}")


def _trust(certs: Path, certificate: x509.Certificate, names: list[WorkerName]) -> None:
    from fednet.security import trusted
    from fednet.security.revocation import RevocationLedger

    if not names:
        raise BadInput("certs trust", found="no --name", expected="--name for each worker that it may vouch for")
    trusted.trust(certs, certificate, names, now=datetime.now(UTC))
    RevocationLedger(certs).let_in(names)


def _line(what: str, certificate: x509.Certificate) -> str:
    from fednet.security.signing import fingerprint_of

    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"{what:<10} {fingerprint_of(certificate)[:16]}...  until {ends}  {certificate.subject.rfc4514_string()}"
