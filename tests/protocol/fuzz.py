"""Fuzzes the pure core with damaged frames: `python -m tests.protocol.fuzz --frames 10000000`.

Every frame starts as a good one (or as a random msgpack document) and is damaged in one of several ways; a connection
in a random state takes it in pieces. `RemoteProtocolError` is the only thing that may come out. With
`tests/requirements-fuzz.txt` installed, `--atheris SECONDS` lets coverage guide the damage instead.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgpack

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.connection import Connection
from fednet.protocol.frames import HEADER_BYTES, ChunkHead, Kind, encode_chunk_head
from fednet.protocol.states import RECEIVE
from tests.protocol.test_connection import Memory, feed, written
from tests.protocol.test_messages import ALL, sample

TRANSFER, NBYTES = 7, 4096
STATES = list(RECEIVE)
GOOD = [sample(cls).encode() for cls in ALL]
GOOD += [encode_chunk_head(ChunkHead(TRANSFER, offset), 1024) + bytes(1024) for offset in (0, 1024, 2048, 3072)]
CORPUS = Path("runs") / "fuzz-corpus"
MOST_GROWTH_BYTES = 32 * 2**20


class Fuzzer:
    """Damages frames from a seed, and feeds them."""

    def __init__(self, seed: int, *, connection: Connection | None = None) -> None:
        """`connection`: whose state decides which frames are damaged; a random one's without it."""
        self._random = random.Random(seed)
        self._connection = connection or self._fresh()
        self.frames = self.refused = self.messages = 0
        self.last = b""

    def step(self) -> None:
        """Feed one damaged frame; a connection that has refused one is replaced."""
        self.last = self.damaged()
        self.frames += 1
        try:
            self.messages += len(feed(self._connection, self.last, step=self._random.choice((None, 1, 7, 4096))))
            for _ in written(self._connection):
                pass
        except RemoteProtocolError:
            self.refused += 1
            self._connection = self._fresh()

    def _fresh(self) -> Connection:
        connection = Connection(*self._random.choice(STATES))
        connection.expect(TRANSFER, nbytes=NBYTES, offset=0, destination=Memory(NBYTES))
        connection.start_transfer(TRANSFER, memoryview(bytes(NBYTES)), offset=0)
        if self._random.random() < 0.2:
            connection.discard(TRANSFER)
        return connection

    def harmless(self, names: Sequence[str]) -> bytes:
        """Return a good frame of one of these kinds."""
        kind = Kind[self._random.choice(names)]
        return next(frame for frame in GOOD if frame[3] == kind)

    def damaged(self) -> bytes:
        """Return what mostly would have been allowed, had it not been damaged: so the later checks are tried too."""
        damage: Callable[[bytearray], bytes] = self._random.choice(
            (bytes, self._flipped, self._cut, self._spliced, self._redocumented, self._reheaded, self._random_bytes)
        )
        allowed = RECEIVE.get((self._connection.role, self._connection.state), {})  # none once it is closed
        fitting = [frame for frame in GOOD if frame[3] in allowed]
        return damage(bytearray(self._random.choice(fitting if fitting and self._random.random() < 0.7 else GOOD)))

    def _flipped(self, frame: bytearray) -> bytes:
        for _ in range(self._random.randint(1, 4)):
            frame[self._random.randrange(len(frame))] = self._random.randrange(256)
        return bytes(frame)

    def _cut(self, frame: bytearray) -> bytes:
        return bytes(frame[: self._random.randrange(1, len(frame) + 1)])

    def _spliced(self, frame: bytearray) -> bytes:
        other = self._random.choice(GOOD)
        return bytes(frame[: self._random.randrange(len(frame))]) + other[self._random.randrange(len(other)) :]

    def _redocumented(self, frame: bytearray) -> bytes:
        document: bytes = msgpack.packb(self._value(0))
        return bytes(frame[:4]) + len(document).to_bytes(4, "big") + bytes(4) + document

    def _reheaded(self, frame: bytearray) -> bytes:
        sizes = (
            0,
            1,
            20,
            limits.MAX_CONTROL_BYTES,
            limits.MAX_CONTROL_BYTES + 1,
            limits.MAX_CHUNK_BYTES + 1,
            2**32 - 1,
        )
        frame[3] = self._random.choice((*Kind, 0, 255))
        frame[4:8] = self._random.choice(sizes).to_bytes(4, "big")
        frame[8:12] = self._random.choice(sizes).to_bytes(4, "big")
        return bytes(frame)

    def _random_bytes(self, frame: bytearray) -> bytes:
        return self._random.randbytes(self._random.randint(1, 80))

    def _value(self, depth: int) -> object:
        """Return a random document: odd types, odd sizes, deep nesting."""
        kind = self._random.randrange(11 if depth < 2 * limits.MAX_DEPTH else 8)
        scalars: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: self._random.random() < 0.5,
            lambda: self._random.randint(-(2**63), 2**64 - 1),
            lambda: self._random.choice((0.0, -0.0, float("nan"), float("inf"), 1e308, 1.5)),
            lambda: "x" * self._random.choice((0, 1, 64, limits.MAX_TEXT + 1)),
            lambda: bytes(self._random.choice((0, 1, limits.MAX_PROBE_BYTES + 1))),
            lambda: msgpack.ExtType(self._random.randrange(128), b"x"),
            lambda: msgpack.Timestamp(1, 1),
        )
        if kind < len(scalars):
            return scalars[kind]()
        if kind == len(scalars):
            return [self._value(depth + 1) for _ in range(self._random.choice((0, 1, 3)))]
        names = ("round", "transfer", "offset", "text", "filling", "settings", "code", "reason", "features", "", "x")
        return {self._random.choice(names): self._value(depth + 1) for _ in range(self._random.choice((0, 1, 3)))}


def run(frames: int, *, seed: int) -> Fuzzer:
    """Feed so many frames; what comes out beside `RemoteProtocolError` is raised with the frame in its notes."""
    fuzzer = Fuzzer(seed)
    try:
        for _ in range(frames):
            fuzzer.step()
    except Exception as exc:
        exc.add_note(f"frame {fuzzer.frames} of seed {seed}: {fuzzer.last.hex()}")
        raise
    return fuzzer


@click.command()
@click.option("--frames", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--atheris", "guided_s", type=click.IntRange(1), help="Seconds of coverage-guided fuzzing instead.")
def main(frames: int, seed: int, guided_s: int | None) -> None:
    """Fuzz, and say what was fed, refused, and how memory grew."""
    if guided_s is not None:
        _guided(guided_s, seed)
    run(min(frames, 20_000), seed=seed + 1)  # what is imported and cached at first is no growth
    before, began = _peak_bytes(), time.perf_counter()
    fuzzer = run(frames, seed=seed)
    seconds, growth = time.perf_counter() - began, _peak_bytes() - before
    click.echo(
        f"{fuzzer.frames} frames in {seconds:.0f} s ({fuzzer.frames / seconds:.0f}/s): {fuzzer.refused} refused, "
        f"{fuzzer.messages} messages, nothing else came out; peak memory grew by {growth / 2**20:.1f} MiB"
    )
    refuse_growth(growth)


def refuse_growth(nbytes: int) -> None:
    """End the program with an error where memory grew by more than is borne."""
    if nbytes > MOST_GROWTH_BYTES:
        raise click.ClickException(f"memory grew by more than {MOST_GROWTH_BYTES / 2**20:.0f} MiB")


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _guided(seconds: int, seed: int) -> None:
    atheris: Any = importlib.import_module("atheris")  # tests/requirements-fuzz.txt

    def one_input(data: bytes) -> None:
        connection = Connection(*STATES[data[0] % len(STATES)] if data else STATES[0])
        connection.expect(TRANSFER, nbytes=NBYTES, offset=0, destination=Memory(NBYTES))
        with contextlib.suppress(RemoteProtocolError):
            feed(connection, data[1:])

    atheris.instrument_all()
    CORPUS.mkdir(parents=True, exist_ok=True)  # kept: the next run goes on from what this one finds
    for number, frame in enumerate(GOOD):
        for state in range(len(STATES)):
            (CORPUS / f"good-{number}-{state}").write_bytes(bytes([state]) + frame)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", str(CORPUS)], one_input)
    atheris.Fuzz()  # ends the process


assert HEADER_BYTES == 12, "the damage above knows where the header's fields are"

if __name__ == "__main__":
    main()
