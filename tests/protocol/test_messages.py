from dataclasses import fields
from typing import Any

import msgpack
import pytest

from fednet.errors import RemoteProtocolError
from fednet.protocol import messages
from fednet.protocol.frames import HEADER_BYTES, Kind, decode_header
from fednet.protocol.messages import Heartbeat, Hello, Message, Progress, UpdateOffered, decode_message

SAMPLES: dict[str, Any] = {
    "round": 3,
    "sha256": "ab" * 32,
    "manifest": "cd" * 32,
    "training": {"local_epochs": 1},
    "settings": {"model": "resnet18"},
    "metrics": {"accuracy": 0.5},
    "secret": b"s" * 32,
    "request": b"r",
    "certificate": b"c",
    "answer_wanted": True,
    "features": ["zstd", "int8"],
    "confusion": [5, 0, 1, 4],
    "filling": b"f" * 100,
    "fraction": 0.5,
    "window": 2**20,
    "weight": 0.25,
    "delta": 0.25,
    "header": b"{}",
    "headers": [b"{}", b"[]"],
    "authorities": [b"a", b"b"],
    "authorities_sha256": "ef" * 32,
    "signature": b"s",
    "entry": b"e",
    "path": b"p" * 32,
}
NUMBERS = {"heartbeat_s", "remaining_s", "images_per_s", "loss", "train_s", "unix_time_s", "epsilon"}
TEXTS = {"software", "run", "worker", "name", "device", "code", "reason", "verdict", "text"}


def sample(cls: type[Message]) -> Message:
    values = {}
    for field in fields(cls):
        fallback: Any = 1.5 if field.name in NUMBERS else "text" if field.name in TEXTS else 7
        values[field.name] = SAMPLES.get(field.name, fallback)
    return cls(**values)


ALL = [
    cls for cls in vars(messages).values() if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message
]


def test_every_kind_but_the_chunk_has_a_message() -> None:
    assert {cls.kind for cls in ALL} == set(Kind) - {Kind.CHUNK}


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_message_survives_the_wire(cls: type[Message]) -> None:
    before = sample(cls)
    frame = before.encode()
    header = decode_header(frame[:HEADER_BYTES])
    assert decode_message(header.kind, frame[HEADER_BYTES:]) == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"round": "3"}, "PROGRESS.round is str"),
        ({"round": True}, "PROGRESS.round is bool"),
        ({"round": 0}, "must be 1 to"),
        ({"fraction": 1}, "PROGRESS.fraction is int"),
        ({"fraction": 1.5}, "must be 0.0 to 1.0"),
        ({"loss": float("nan")}, "PROGRESS.loss is nan"),
        ({"loss": float("inf")}, "PROGRESS.loss is inf"),
        ({"extra": 1}, "missing or unknown fields: extra"),
    ],
)
def test_a_field_out_of_place_is_named(change: dict[str, Any], complaint: str) -> None:
    document = {"round": 1, "fraction": 0.5, "remaining_s": 1.0, "images_per_s": 1.0, "loss": 1.0} | change
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode_message(Progress.kind, msgpack.packb(document))


def test_hello_alone_may_say_more_than_its_reader_knows() -> None:
    document: dict[str, Any] = {"software": "fednet 9", "newest_version": 3, "oldest_version": 1, "features": ["zstd"]}
    hello = decode_message(Hello.kind, msgpack.packb(document | {"colour": "blue"}))
    assert hello == Hello(**document)
    with pytest.raises(RemoteProtocolError, match="unknown fields: features"):
        decode_message(Hello.kind, msgpack.packb({key: document[key] for key in list(document)[:3]}))


@pytest.mark.parametrize("features", ["zstd", ["x" * 65], [7], ["x"] * 65])
def test_feature_names_are_a_list_of_names(features: object) -> None:
    document = {"software": "", "newest_version": 1, "oldest_version": 1, "features": features}
    with pytest.raises(RemoteProtocolError):
        decode_message(Hello.kind, msgpack.packb(document))


@pytest.mark.parametrize("confusion", [None, [1.0], [-1], [True], [2**63], [1] * 65])
def test_what_a_site_finds_is_a_list_of_counts(confusion: object) -> None:
    fields = dict.fromkeys(("transfer", "nbytes", "samples"), 1) | {"round": 1, "sha256": "ab" * 32}
    document = fields | {"train_s": 1.0, "loss": 1.0, "epsilon": 0.0, "delta": 0.0, "confusion": confusion}
    with pytest.raises(RemoteProtocolError, match=r"UPDATE_OFFERED\.confusion|cannot be read"):
        decode_message(UpdateOffered.kind, msgpack.packb(document))


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="answer_wanted"):
        decode_message(Heartbeat.kind, msgpack.packb({}))
