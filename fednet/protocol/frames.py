"""Frames: a fixed 12-byte header, a msgpack document, and for chunks the tensor bytes that end the document.

The header is `magic "FN" | version u8 | kind u8 | head u32 | bulk u32`, big-endian. The document has `head + bulk`
bytes. Control frames have no bulk. A chunk is the msgpack array `[transfer, offset, bin]` written with fixed-width
integers, so its head always has 20 bytes and the bulk is the content of the `bin`.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, NamedTuple

import msgpack

from fednet.errors import LocalProtocolError, RemoteProtocolError
from fednet.protocol import limits

MAGIC = b"FN"
VERSION = 2
_HEADER = struct.Struct("!2sBBII")
_CHUNK_HEAD = struct.Struct("!BBIBQBI")
HEADER_BYTES = _HEADER.size
CHUNK_HEAD_BYTES = _CHUNK_HEAD.size
_ARRAY_OF_3, _UINT32, _UINT64, _BIN32 = 0x93, 0xCE, 0xCF, 0xC6  # msgpack's type bytes


class Kind(enum.IntEnum):
    """What a frame carries."""

    HELLO = 1
    WELCOME = 2
    READY = 3
    ROUND_STARTED = 4
    MODEL_WANTED = 5
    PROGRESS = 6
    UPDATE_OFFERED = 7
    UPDATE_WANTED = 8
    UPDATE_ACCEPTED = 9
    UPDATE_REFUSED = 10
    ROUND_CLOSED = 11
    RUN_STATUS = 12
    HEARTBEAT = 13
    CHUNKS_RECEIVED = 14
    CHUNK = 15
    ENROL_REQUESTED = 16
    ENROLLED = 17
    GOODBYE = 18
    PROBE = 19
    PROBED = 20
    RECORDS_WANTED = 21
    RECORDS = 22
    RENEWAL_REQUESTED = 23
    RENEWED = 24
    RENEWAL_REFUSED = 25
    ROUND_DECLINED = 26


class Header(NamedTuple):
    """A checked frame header: both lengths are within limits."""

    kind: Kind
    head_bytes: int
    bulk_bytes: int


class ChunkHead(NamedTuple):
    """Where the bulk of a chunk frame belongs."""

    transfer: int
    offset: int


def encode_header(header: Header) -> bytes:
    """Return the 12 bytes of a header."""
    return _HEADER.pack(MAGIC, VERSION, header.kind, header.head_bytes, header.bulk_bytes)


def decode_header(data: bytes | memoryview) -> Header:
    """Return the header, after checking every field against the limits; raises `RemoteProtocolError`."""
    magic, version, kind, head_bytes, bulk_bytes = _HEADER.unpack(data)
    if magic != MAGIC:
        raise RemoteProtocolError(f"frame starts with {magic!r}, not {MAGIC!r}: the peer does not speak FedNet")
    if version != VERSION:
        which = "this side" if version > VERSION else "the other side"
        raise RemoteProtocolError(f"frame has version {version}, this side speaks {VERSION}: upgrade {which}")
    try:
        known = Kind(kind)
    except ValueError as exc:
        raise RemoteProtocolError(f"frame kind {kind} is unknown in version {VERSION}") from exc
    if known is Kind.CHUNK:
        _check(head_bytes == CHUNK_HEAD_BYTES, f"chunk head is {head_bytes} bytes, must be {CHUNK_HEAD_BYTES}")
        _check(0 < bulk_bytes <= limits.MAX_CHUNK_BYTES, _over("chunk", bulk_bytes, limits.MAX_CHUNK_BYTES))
    else:
        _check(bulk_bytes == 0, f"{known.name} frame announces {bulk_bytes} bulk bytes, must be 0")
        _check(0 < head_bytes <= limits.MAX_CONTROL_BYTES, _over(known.name, head_bytes, limits.MAX_CONTROL_BYTES))
    return Header(known, head_bytes, bulk_bytes)


def encode_chunk_head(head: ChunkHead, nbytes: int) -> bytes:
    """Return header and head of a chunk frame; the `nbytes` tensor bytes follow as they lie in memory."""
    header = encode_header(Header(Kind.CHUNK, CHUNK_HEAD_BYTES, nbytes))
    return header + _CHUNK_HEAD.pack(_ARRAY_OF_3, _UINT32, head.transfer, _UINT64, head.offset, _BIN32, nbytes)


def decode_chunk_head(data: bytes | memoryview, bulk_bytes: int) -> ChunkHead:
    """Return where a chunk belongs; raises `RemoteProtocolError` unless its bytes are the fixed-width form."""
    array, wide32, transfer, wide64, offset, binary, nbytes = _CHUNK_HEAD.unpack(data)
    expected = (_ARRAY_OF_3, _UINT32, _UINT64, _BIN32)
    _check((array, wide32, wide64, binary) == expected, "chunk head is not [uint32, uint64, bin32]")
    _check(nbytes == bulk_bytes, f"chunk says {nbytes} bytes, its frame {bulk_bytes}")
    return ChunkHead(transfer, offset)


def encode_control(kind: Kind, fields: dict[str, Any]) -> bytes:
    """Return a whole control frame; raises `LocalProtocolError` when it is larger than a peer would accept."""
    document: bytes = msgpack.packb(fields)
    if len(document) > limits.MAX_CONTROL_BYTES:
        raise LocalProtocolError(_over(kind.name, len(document), limits.MAX_CONTROL_BYTES))
    return encode_header(Header(kind, len(document), 0)) + document


def decode_control(data: bytes | memoryview) -> dict[str, Any]:
    """Return the fields of a control document: one map with distinct text keys and no extension types.

    Raises `RemoteProtocolError` for anything else; never allocates more than the limits allow.
    """
    try:
        document = msgpack.unpackb(
            data,
            object_pairs_hook=_distinct,
            ext_hook=_no_extension,
            max_array_len=limits.MAX_ENTRIES,
            max_map_len=limits.MAX_ENTRIES,
        )
    except RemoteProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise RemoteProtocolError(f"control document cannot be read: {type(exc).__name__}") from exc
    _check(isinstance(document, dict), "control document is not a map")
    _check_values(document, depth=1)
    return dict(document)


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    fields = {}
    for key, value in pairs:
        _check(isinstance(key, str), "control document has a key that is no text")
        _check(key not in fields, f"control document has the key {key[:40]!r} twice")
        fields[key] = value
    return fields


def _no_extension(code: int, data: bytes) -> Any:
    raise RemoteProtocolError(f"control document has an extension of type {code}")


def _check_values(value: object, *, depth: int) -> None:
    _check(depth <= limits.MAX_DEPTH, f"control document nests deeper than {limits.MAX_DEPTH}")
    _check(not isinstance(value, msgpack.Timestamp), "control document has a timestamp")  # decoded past ext_hook
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_values(item, depth=depth + 1)


def _over(what: str, found: int, limit: int) -> str:
    return f"{what} is {found} bytes, limit is 1 to {limit}"


def _check(holds: bool, complaint: str) -> None:
    if not holds:
        raise RemoteProtocolError(complaint)
