"""`cli.py dashboard`: a live web page of a run, read-only, from its folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fednet.commands.beside import DASHBOARD, TOKEN_FILE
from fednet.commands.options import certs_option, json_option
from fednet.commands.parent import when_parent_ends
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.dashboard.server import Place


@click.command("dashboard")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--listen", default=DASHBOARD, show_default=True, help="HOST:PORT of the page; port 0: any.")
@certs_option
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Off the loopback address: the token's place, made where it is missing (default: at a terminal printed).",
)
@click.option("--wait", is_flag=True, help="Begin before the run does.")
@click.option("--with-parent", is_flag=True, help="For programs that start it: end when standard input is closed.")
@json_option
def command(
    run_dir: Path, listen: str, certs: Path, token_file: Path | None, wait: bool, with_parent: bool, as_json: bool
) -> None:
    """Show a run, going on or ended, in a browser; nothing of it is changed. Ctrl-C ends the page."""
    from fednet.dashboard.server import bound, serve
    from fednet.storage.store import settings_in

    if not wait and settings_in(run_dir) is None:
        found = "no run.sqlite there, or a run that has not begun"
        raise BadInput(f"run {run_dir}", found=found, todo="`cli.py runs list` shows what there is; --wait waits")
    if token_file is None and not as_json and not sys.stdout.isatty():
        token_file = run_dir / TOKEN_FILE  # logs hold no token
    place = place_of(listen, certs=certs, token_file=token_file)
    listening = bound(place, option="--listen")
    port = int(listening.getsockname()[1])
    url = place.url(port, with_token=token_file is None)
    where = f" (its token: {token_file})" if place.token is not None and token_file is not None else ""
    click.echo(json.dumps({"url": url, "token_file": str(token_file) if where else None}) if as_json else url + where)
    try:
        serve(run_dir, place, listening, ends_with=when_parent_ends if with_parent else None)
    except KeyboardInterrupt:
        return


def place_of(listen: str, *, certs: Path, token_file: Path | None) -> Place:
    """Return where the page goes: on another than the loopback address with TLS and a token. Raises `BadInput`."""
    from fednet.dashboard.server import Place, address_in, is_loopback, new_token
    from fednet.security.authority import hosts_of, read_certificate
    from fednet.security.contexts import page_context

    host, port = address_in(listen, option="--listen")
    if is_loopback(host):
        return Place(host=host, port=port)
    certificate = certs / "coordinator" / "cert.pem"
    if not certificate.is_file():
        raise BadInput(
            f"--listen {listen}",
            found=f"no {certificate} for a page that others reach",
            expected="the coordinator's certificate",
            todo="--certs names its folder; `coordinator start` makes it, with --public-host NAME for the page's name",
        )
    return Place(
        host=host,
        port=port,
        tls=page_context(certs),
        certified=hosts_of(read_certificate(certificate)),
        token=new_token() if token_file is None else _kept_token(token_file),
    )


def _kept_token(path: Path) -> str:
    from fednet.dashboard.server import new_token
    from fednet.security.keys import require_private
    from fednet.storage.atomic import write_bytes

    what = f"--token-file {path}"
    try:
        if not path.exists():
            write_bytes(path, f"{new_token()}\n".encode(), mode=0o600)
        with path.open("rb") as file:
            require_private(file, what, path=path)
            token = file.read(1024).decode("ascii").strip()
    except OSError as exc:
        raise BadInput(what, found=exc.strerror or str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise BadInput(what, found="characters that are not ASCII", todo="remove it") from exc
    if len(token) < 20:
        raise BadInput(what, found=f"{len(token)} characters", expected="20 or more", todo="remove it")
    return token
