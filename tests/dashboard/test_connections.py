import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from fednet.dashboard.connections import Connection, LimitedListener

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
WITHIN_S = 20


class Impatient(Connection):
    asked_within_s = 0.3
    taken_within_s = 0.3


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@contextlib.asynccontextmanager
async def served(app: Any, **limits: int) -> AsyncIterator[tuple[str, int]]:
    listening = LimitedListener(socket.create_server(("127.0.0.1", 0)), **limits)
    config = uvicorn.Config(
        app, http=Impatient, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        await serving


async def opened(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_connection(*address), WITHIN_S)


async def is_hung_up_on(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(1), WITHIN_S) == b""
    return True


def test_no_part_of_an_answer_waits_for_the_part_before_it() -> None:
    with (
        LimitedListener(socket.create_server(("127.0.0.1", 0))) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_who_asks_for_nothing_is_hung_up_on_and_others_are_served_again() -> None:
    async with served(hello, most=2) as address:
        silent = [await opened(address) for _ in range(2)]
        reader, writer = await opened(address)
        assert await is_hung_up_on(reader), "one too many"
        writer.close()
        for reader, writer in silent:
            assert await is_hung_up_on(reader)
            writer.close()
        reader, writer = await opened(address)
        writer.write(ASK)
        assert (await asyncio.wait_for(reader.readuntil(b"hi"), WITHIN_S)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_one_address_does_not_take_all_connections() -> None:
    async with served(hello, most=9, most_per_address=1) as address:
        _, silent = await opened(address)
        reader, writer = await opened(address)
        assert await is_hung_up_on(reader)
        writer.close()
        reader, writer = await asyncio.open_connection(*address, local_addr=("127.0.0.2", 0))
        writer.write(ASK)
        await asyncio.wait_for(reader.readuntil(b"hi"), WITHIN_S)
        silent.close()
        writer.close()


@pytest.mark.parametrize("before", [b"", ASK])
async def test_bytes_that_are_no_request_win_no_time(before: bytes) -> None:
    async with served(hello) as address:
        reader, writer = await opened(address)
        writer.write(before)
        if before:
            await asyncio.wait_for(reader.readuntil(b"hi"), WITHIN_S)

        async def dribble() -> None:
            writer.write(b"GET / HTTP/1.1\r\n")
            while True:
                writer.write(b"a: b\r\n")
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        assert await is_hung_up_on(reader)
        dribbling.cancel()
        writer.close()


async def test_a_watcher_that_takes_nothing_is_hung_up_on() -> None:
    gone = asyncio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sending = asyncio.create_task(send_on(send))
        while (await receive())["type"] != "http.disconnect":
            pass
        sending.cancel()
        gone.set()

    async def send_on(send: Any) -> None:
        while True:
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
            await asyncio.sleep(0)

    async with served(watched) as address:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, address)
            await asyncio.get_running_loop().sock_sendall(client, ASK)
            async with asyncio.timeout(WITHIN_S):
                await gone.wait()


async def test_who_asks_and_takes_nothing_of_a_long_answer_is_hung_up_on() -> None:
    async def long(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2**26)})

    async with served(long, most=1) as address:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, ASK)
            async with asyncio.timeout(WITHIN_S):
                while True:  # until its place is free for another
                    reader, writer = await opened(address)
                    writer.write(ASK)
                    with contextlib.suppress(ConnectionResetError):
                        if await reader.read(1):
                            break
                    writer.close()
            writer.close()


async def test_a_process_of_few_descriptors_takes_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (2, 2))
    async with served(hello) as address:
        _, first = await opened(address)
        reader, writer = await opened(address)
        assert await is_hung_up_on(reader)
        first.close()
        writer.close()
