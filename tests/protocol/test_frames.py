import contextlib
import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fednet.errors import LocalProtocolError, RemoteProtocolError
from fednet.protocol import frames, limits
from fednet.protocol.frames import VERSION, ChunkHead, Header, Kind


def header(magic: bytes = b"FN", version: int = VERSION, kind: int = 13, head: int = 1, bulk: int = 0) -> bytes:
    return struct.pack("!2sBBII", magic, version, kind, head, bulk)


def test_a_header_survives() -> None:
    before = Header(Kind.HELLO, 100, 0)
    assert frames.decode_header(frames.encode_header(before)) == before


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (header(magic=b"HT"), "does not speak FedNet"),
        (header(version=9), "upgrade this side"),
        (header(version=0), "upgrade the other side"),
        (header(kind=99), "unknown"),
        (header(head=0), "limit"),
        (header(head=limits.MAX_CONTROL_BYTES + 1), "limit"),
        (header(bulk=1), "must be 0"),
        (header(kind=Kind.CHUNK, head=20, bulk=2**32 - 1), "limit"),
        (header(kind=Kind.CHUNK, head=20, bulk=0), "limit"),
        (header(kind=Kind.CHUNK, head=21, bulk=1), "must be 20"),
    ],
)
def test_a_header_beyond_the_limits_is_refused_before_anything_is_allocated(data: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        frames.decode_header(data)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**36), st.binary(min_size=1, max_size=64))
def test_a_chunk_is_plain_msgpack(transfer: int, offset: int, data: bytes) -> None:
    frame = frames.encode_chunk_head(ChunkHead(transfer, offset), len(data)) + data
    assert msgpack.unpackb(frame[frames.HEADER_BYTES :]) == [transfer, offset, data]
    assert frames.decode_chunk_head(frame[12:32], len(data)) == ChunkHead(transfer, offset)


def test_a_chunk_head_that_lies_about_its_length_is_refused() -> None:
    head = frames.encode_chunk_head(ChunkHead(1, 0), 10)[12:]
    with pytest.raises(RemoteProtocolError, match="its frame 11"):
        frames.decode_chunk_head(head, 11)


def test_a_chunk_head_in_another_msgpack_form_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        frames.decode_chunk_head(bytes(20), 0)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (msgpack.packb([1]), "not a map"),
        (b"\x81\xa1a", "cannot be read"),
        (b"\x82\xa1a\x01\xa1a\x02", "twice"),
        (msgpack.packb({1: 2}), "cannot be read"),
        (msgpack.packb({b"a": 2}), "no text"),
        (msgpack.packb({"a": msgpack.ExtType(4, b"x")}), "extension"),
        (msgpack.packb({"a": msgpack.Timestamp(1)}), "timestamp"),
        (msgpack.packb({"a": nested(10)}), "deeper"),
        (msgpack.packb({"a": nested(600)}), "cannot be read|deeper"),
        (msgpack.packb({"a": list(range(100))}), "cannot be read"),
        (msgpack.packb({"a": 1}) + b"\x00", "cannot be read"),
        (b"\xdf\xff\xff\xff\xff", "cannot be read"),
        (b"\x81\xa1a\xc6\xff\xff\xff\xff", "cannot be read"),
        (b"\x81\xa2\xff\xfe\x01", "cannot be read"),
        (b"\x81\xa1a\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", "cannot be read|timestamp"),
    ],
)
def test_a_document_that_is_not_ours_is_refused(document: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        frames.decode_control(document)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_a_remote_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(frames.decode_control(data), dict)


def test_a_control_document_over_the_limit_is_our_own_bug() -> None:
    with pytest.raises(LocalProtocolError):
        frames.encode_control(Kind.HELLO, {"text": "x" * limits.MAX_CONTROL_BYTES})
