import asyncio
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn

from fednet.commands.processes import CLI
from fednet.dashboard.app import dashboard_app
from fednet.dashboard.connections import Connection
from fednet.dashboard.feed import Feed
from fednet.dashboard.security import Access
from fednet.dashboard.server import Place, _serve, address_in, bound, is_loopback
from fednet.errors import BadInput

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost", ("localhost", 8733)),
        (":9000", ("127.0.0.1", 9000)),
        ("[::1]:0", ("::1", 0)),
        ("[::1]", ("::1", 8733)),
        ("::1", ("::1", 8733)),
        ("centre.example:443", ("centre.example", 443)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert address_in(text, option="--listen") == address


@pytest.mark.parametrize("text", ["127.0.0.1:http", "127.0.0.1:70000", "host:-1", "host:\u00b2", "host:\u0663"])
def test_another_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match=r"--listen .*such as 127\.0\.0\.1:8733"):
        address_in(text, option="--listen")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["::", "10.0.0.5", "centre.example", "localhost.example", "127.0.0.1.nip.io"])
def test_what_others_reach_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_on_loopback_only_loopback_s_names_are_let_in() -> None:
    place = Place(host="127.0.0.1", port=0)
    assert (set(place.access.hosts), place.access.token) == ({"localhost", "127.0.0.1", "[::1]"}, None)
    assert place.url(8733) == "http://127.0.0.1:8733/"


def test_another_loopback_address_that_is_printed_is_let_in() -> None:
    place = Place(host="127.0.0.2", port=0)
    assert place.url(8733) == "http://127.0.0.2:8733/" and "127.0.0.2" in place.access.hosts


def test_an_ipv6_address_is_let_in_as_browsers_write_it() -> None:
    place = Place(host="2001:DB8:0:0::5", port=0, tls=TLS, token="t" * 20)
    assert place.access.hosts == ["[2001:db8::5]"]
    assert place.url(8733).startswith("https://[2001:db8::5]:8733/")


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, None])
def test_a_page_whose_parent_has_no_pipe_ends_and_makes_no_fuss(stdin: int | None, tmp_path: Path) -> None:
    arguments = ["dashboard", "--run-dir", str(tmp_path), "--listen", "127.0.0.1:0", "--wait", "--with-parent"]
    command = [sys.executable, *CLI, *arguments]
    if stdin is None:
        command = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command]
    ran = subprocess.run(command, check=False, stdin=stdin, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


async def test_who_begins_no_handshake_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Connection, "asked_within_s", 0.3)
    feed = Feed(tmp_path)
    server = uvicorn.Server(uvicorn.Config(dashboard_app(feed, Access(hosts=[])), http="h11", lifespan="off"))
    listening = bound(Place(host="127.0.0.1", port=0), option="--listen")
    address = listening.getsockname()
    serving = asyncio.create_task(_serve(server, feed, listening, tls=TLS, ends_with=None))
    reader, writer = await asyncio.open_connection(*address)
    assert await asyncio.wait_for(reader.read(1), 20) == b""
    writer.close()
    server.should_exit = True
    await serving


def test_elsewhere_only_what_the_certificate_is_for_and_the_token_is_in_the_address() -> None:
    place = Place(host="::", port=0, tls=TLS, certified=["localhost", "Centre.example", "2001:db8::5"], token="t" * 20)
    assert set(place.access.hosts) == {"localhost", "centre.example", "[2001:db8::5]"}
    assert place.access.token == "t" * 20
    assert place.url(8733) == f"https://Centre.example:8733/?token={'t' * 20}"
    assert place.url(8733, with_token=False) == "https://Centre.example:8733/"
    assert "t" * 20 not in repr(place)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=rf"--listen 127\.0\.0\.1:{port}; found .*in use"):
            bound(Place(host="127.0.0.1", port=port), option="--listen")
