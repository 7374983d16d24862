"""PROTOCOL.md is right: frames are decoded with `struct` and `msgpack` alone, as a second implementation would."""

import hashlib
import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch

from fednet.protocol import limits
from fednet.protocol.chunks import step_for
from fednet.protocol.frames import ChunkHead, Kind, encode_chunk_head
from fednet.protocol.messages import Message
from fednet.tensors import bytes_of, pack
from tests.federation import manifest
from tests.protocol.test_messages import ALL, sample
from tests.worker.fakes import tiny_net

DOCUMENT = (Path(__file__).resolve().parents[2] / "fednet" / "protocol" / "PROTOCOL.md").read_text()
TABLE = {
    int(kind): (name, set(re.findall(r"`([a-z_0-9]+)`", listed)))
    for kind, name, listed in re.findall(r"^\| (\d+) \| ([A-Z_]+) \| [^|]+ \| (.+) \|$", DOCUMENT, re.MULTILINE)
}
VALUES = {"selected", "rejected", "absent"}


def decode(frame: bytes) -> tuple[int, Any]:
    """Decode a frame as PROTOCOL.md says."""
    magic, version, kind, head, bulk = struct.unpack(">2sBBII", frame[:12])
    assert (magic, version) == (b"FN", 2)
    assert len(frame) == 12 + head + bulk
    return kind, msgpack.unpackb(frame[12:])


def test_the_table_lists_every_kind() -> None:
    assert {kind: name for kind, (name, _) in TABLE.items()} == {kind.value: kind.name for kind in Kind}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_message_has_the_fields_that_the_table_lists(cls: type[Message]) -> None:
    kind, document = decode(sample(cls).encode())
    listed = TABLE[kind][1] - VALUES
    assert document.keys() == listed == {field.name for field in fields(cls)}


def test_a_chunk_is_an_array_with_its_data_at_offset_32() -> None:
    data = bytes(range(100))
    frame = encode_chunk_head(ChunkHead(7, 2**33), len(data)) + data
    assert decode(frame) == (15, [7, 2**33, data])
    assert frame[32:] == data


def test_the_limits_are_the_documents() -> None:
    for text, value in (
        ("`head` is 1 to 65,536", limits.MAX_CONTROL_BYTES == 65536),
        ("1 to 1,048,576 bytes", limits.MAX_CHUNK_BYTES == 1048576),
        ("at least every quarter of the window", step_for(400) == 100),
        ("131,072 to 8,388,608", (limits.MIN_WINDOW_BYTES, limits.WINDOW_BYTES) == (2**17, 2**23)),
        ("At most 4 transfers", limits.MAX_TRANSFERS == 4),
        ("`headers` list of bin, at most 5", limits.MAX_RECORDS == 5),
        ("no byte for 30 s", limits.DEAD_AFTER_S == 30),
        ("At most 8\nlevels of nesting, 64 entries", (limits.MAX_DEPTH, limits.MAX_ENTRIES) == (8, 64)),
    ):
        assert text in DOCUMENT and value, text


def test_the_manifests_digest_can_be_computed_from_the_document() -> None:
    lines, offset = [], 0
    model = tiny_net()
    parameters = {name for name, _ in model.named_parameters()}
    state = model.state_dict()
    for name in sorted(state, key=lambda name: name not in parameters):
        tensor = state[name]
        if name not in parameters:
            offset = (offset + 7) // 8 * 8
        shape = ",".join(map(str, tensor.shape))
        lines.append(f"{name} {str(tensor.dtype).removeprefix('torch.')} {shape} {offset} {int(name in parameters)}")
        offset += tensor.numel() * tensor.element_size()
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == manifest().digest


def test_the_buffer_starts_with_the_first_parameter_in_little_endian() -> None:
    model = tiny_net()
    first = next(model.parameters()).detach().flatten()[:3]
    data = bytes(bytes_of(pack(model.state_dict(), manifest())))
    assert torch.equal(torch.tensor(struct.unpack("<3f", data[:12])), first)
