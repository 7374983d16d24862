"""A whole run at debug level: nothing secret stands in any log, on any standard output, or in what the run leaves."""

import base64
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fednet.security.tokens import decode_token
from tests.integration.site import cli, join, make_site, running, start

PASSPHRASE = "correct horse battery staple"  # of this test alone
pytestmark = pytest.mark.timeout(240)


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield how a secret would look in a log."""
    yield secret
    yield secret.hex().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret)[2:-1].encode()


def key_lines(certs: Path) -> Iterator[bytes]:
    """Yield the coded middle of each private key."""
    for path in sorted(certs.rglob("*.key")) + sorted(certs.rglob("key.pem")):
        yield from (line for line in path.read_bytes().splitlines() if re.fullmatch(rb"[A-Za-z0-9+/=]{40,}", line))


def test_no_log_of_a_run_tells_a_secret(tmp_path: Path, unused_tcp_port: int) -> None:
    folder = make_site(tmp_path)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    (folder / "passphrase").chmod(0o600)
    assert cli(folder, "certs", "init", "--passphrase-file", "passphrase").returncode == 0
    tokens = [
        cli(folder, "certs", "token", f"client{n}", "--port", unused_tcp_port, "--passphrase-file", "passphrase")
        for n in (1, 2, 3)
    ]
    debug = ["--log-level", "debug"]
    with ExitStack() as stack:
        options = ["--rounds", 1, "--passphrase-file", "passphrase", *debug]
        coordinator = stack.enter_context(running(folder, "run", *start(folder, unused_tcp_port, "run", *options)))
        for number, token in enumerate(tokens, start=1):
            arguments = join(unused_tcp_port, number, "--token", token.stdout.strip(), *debug)
            stack.enter_context(running(folder, f"run-{number}", *arguments))
        assert coordinator.wait(120) == 0, (folder / "run.log").read_text()
    logs = {path.name: path.read_bytes() for path in folder.glob("*.log")}
    logs |= {
        each.name: each.read_bytes() for each in (folder / "runs").rglob("*") if each.suffix in (".json", ".sqlite")
    }
    secrets = [decode_token(token.stdout).secret for token in tokens] + [PASSPHRASE.encode()]
    told = [form for secret in secrets for form in forms(secret)] + list(key_lines(folder / "certs"))
    told += [token.stdout.strip().encode()[-60:] for token in tokens]
    assert len(told) > 20
    assert b"client1" in logs["run.log"], "the log is one of debug level that names who came"
    assert {name for name, text in logs.items() for secret in told if secret in text} == set()
