"""Peers that share no code with the coordinator's door: the standard library's `ssl`, and OpenSSL's own program."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import shutil
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest
import torch

from fednet.bench.puppet import Puppet
from fednet.commands import wiring
from fednet.commands.processes import free_port
from fednet.protocol.frames import Kind
from fednet.protocol.messages import Goodbye, Message, RoundClosed, RoundStarted, decode_message
from fednet.security.authority import Authority
from fednet.security.enrolment import Credentials
from fednet.tensors import bytes_of, empty_flat, parameters_of
from tests.integration.processes import Command
from tests.integration.site import RUN, cli, running, wait_for
from tests.security.certs import authority_in

HEADER = struct.Struct("!2sBBII")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl program")


@dataclass(frozen=True)
class Centre:
    """A coordinator's process that waits for workers, and the folder that it runs in."""

    folder: Path
    port: int
    authority: Authority
    process: Command

    @property
    def certs(self) -> Path:
        return self.folder / "certs"

    @property
    def ca(self) -> Path:
        return self.certs / "authority" / "ca.pem"

    def log(self) -> str:
        return (self.folder / "coordinator.log").read_text()

    def wait_for(self, text: str) -> None:
        """Wait until the coordinator has logged it."""
        wait_for(self.folder, "coordinator", text, within_s=30)

    def wait_for_line(self, address: str, text: str) -> None:
        """Wait until it has logged this about a peer from this address."""
        deadline = time.monotonic() + 30
        while not any(f"{address}:" in line and text in line for line in self.log().splitlines()):
            assert time.monotonic() < deadline, f"{text!r} about {address} not in {self.log()}"
            time.sleep(0.05)

    def lines_about(self, peer: str) -> list[str]:
        """Return what the coordinator has logged about the peer at this address and port."""
        return [line for line in self.log().splitlines() if f"{peer} " in line or f"{peer})" in line]

    def revoke(self, subject: str, reason: str) -> None:
        """Revoke by the command line, as another process."""
        done = cli(self.folder, "certs", "revoke", subject, "--reason", reason)
        assert done.returncode == 0, done.stderr

    def context(self, credentials: Credentials | None = None) -> ssl.SSLContext:
        """Return a client's context of the standard library, with a certificate or without."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if credentials is not None:
            context.load_cert_chain(credentials.certificate_path, credentials.key_path)
        return context


@contextlib.contextmanager
def centre(folder: Path, *options: object) -> Iterator[Centre]:
    """Serve a run of small-cnn in `folder`, with three workers unless the options say otherwise."""
    made = cli(folder, "split", "--phantoms", "--phantom-images", 40, "--phantom-size", 32, "--clients", 2)
    assert made.returncode == 0, made.stderr
    authority, port = authority_in(folder / "certs"), free_port()
    start = ["coordinator", "start", "--run-dir", "runs/run", "--workers", 3, "--quorum", 2, "--byzantine", 0]
    start += ["--rounds", 1, "--port", port, "--aggregator", "fedavg", "--verbose", *RUN, *options]
    with running(folder, "coordinator", *start) as process:
        wait_for(folder, "coordinator", "listening on")
        yield Centre(folder, port, authority, process)


def decoded(data: bytes) -> list[Message]:
    """Return the control messages in what a coordinator has sent, by the format of PROTOCOL.md."""
    found = []
    while len(data) >= HEADER.size:
        _, _, kind, nbytes, _ = HEADER.unpack(data[: HEADER.size])
        found.append(decode_message(Kind(kind), data[HEADER.size : HEADER.size + nbytes]))
        data = data[HEADER.size + nbytes :]
    return found


_NUMBERS = itertools.count(2)


def fresh_address() -> str:
    """Return an address of this machine that nobody has used yet: what is said about one of them is limited."""
    number = next(_NUMBERS)
    return f"127.0.{number // 250}.{number % 250 + 1}"


async def say(
    centre: Centre, context: ssl.SSLContext, *messages: Message, address: str | None = None
) -> tuple[list[Message], str]:
    """Return what the coordinator answers until it hangs up, or has said one thing, and the own address and port."""
    local = (address or fresh_address(), 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", centre.port, ssl=context, local_addr=local)
    peer = "{}:{}".format(*writer.get_extra_info("sockname"))
    heard = b""
    try:
        writer.writelines(message.encode() for message in messages)
        async with asyncio.timeout(20):
            heard = await reader.readexactly(HEADER.size)
            heard += await reader.readexactly(HEADER.unpack(heard)[3])
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.transport.abort()
    return decoded(heard), peer


def code_of(said: list[Message]) -> str:
    """Return the code of a goodbye, which is all that was said."""
    (only,) = said
    assert isinstance(only, Goodbye), only
    return only.code


def openssl(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program `openssl`."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)


def hello_and_goodbye() -> bytes:
    """Return the bytes of both, built by msgpack and struct alone."""
    hello = {"software": "stranger", "newest_version": 2, "oldest_version": 2, "features": []}
    goodbye: dict[str, object] = {"code": "left", "reason": "that was all"}
    return _frame(Kind.HELLO, hello) + _frame(Kind.GOODBYE, goodbye)


def _frame(kind: Kind, fields: dict[str, object]) -> bytes:
    document: bytes = msgpack.packb(fields)
    return HEADER.pack(b"FN", 2, kind, len(document), 0) + document


async def take_part(puppets: Sequence[Puppet]) -> None:
    """Let all of them deliver an update in the next round, and stay until it has closed."""
    started = [await puppet.round_started() for puppet in puppets]
    for puppet, each in zip(puppets, started, strict=True):
        assert each is not None
        update = await update_in(puppet, each)
        await puppet.deliver(each, update, sha256=hashlib.sha256(update).hexdigest())
    for puppet in puppets:
        while not isinstance(await puppet.link.receive(), RoundClosed):
            pass


async def update_in(puppet: Puppet, started: RoundStarted, *, seed: int = 1) -> memoryview:
    """Take the round's model and return an update: small noise on every parameter, and the buffers as they were."""
    network = wiring.new_model("small-cnn", seed=0, pretrained="no", weights=None, notice=print)
    manifest = wiring.manifest_for(network)
    update = empty_flat(manifest)
    await puppet.take_model(started, bytes_of(update))
    noise = torch.randn(manifest.parameter_count, generator=torch.Generator().manual_seed(seed))
    parameters_of(update, manifest).copy_(noise * 1e-3)
    return bytes_of(update)
