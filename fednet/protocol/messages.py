"""The control messages: frozen dataclasses, encoded as msgpack maps, decoded against their own annotations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple, get_type_hints

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import VERSION, Kind, decode_control, encode_control


class Between(NamedTuple):
    """Both ends included: the value of a number, or the length of a text or of bytes."""

    low: float
    high: float


Natural = Annotated[int, Between(0, 2**63 - 1)]
Round = Annotated[int, Between(1, 10**6)]
TransferId = Annotated[int, Between(0, 2**32 - 1)]
Bytes = Annotated[int, Between(0, limits.MAX_TRANSFER_BYTES)]
Window = Annotated[int, Between(limits.MIN_WINDOW_BYTES, limits.WINDOW_BYTES)]
Seconds = Annotated[float, Between(0.0, 1e9)]
Moment = Annotated[float, Between(0.0, 1e10)]  # seconds since 1970, UTC
Number = Annotated[float, Between(-1e300, 1e300)]
Share = Annotated[float, Between(0.0, 1.0)]
Epsilon = Annotated[float, Between(0.0, 1e6)]
Text = Annotated[str, Between(0, limits.MAX_TEXT)]
Name = Annotated[str, Between(1, 64)]
Digest = Annotated[str, Between(64, 64)]
MaybeDigest = Annotated[str, Between(0, 64)]
Blob = Annotated[bytes, Between(1, 8192)]
MaybeBlob = Annotated[bytes, Between(0, 8192)]
Blobs = Annotated[list[bytes], Between(0, limits.MAX_RECORDS)]  # each a blob
Filling = Annotated[bytes, Between(0, limits.MAX_PROBE_BYTES)]
Document = Annotated[dict[str, Any], Between(0, limits.MAX_ENTRIES)]
Names = Annotated[list[str], Between(0, limits.MAX_ENTRIES)]  # each a name
Counts = Annotated[list[int], Between(0, limits.MAX_ENTRIES)]  # each a natural number


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of all messages. `kind` is its number on the wire."""

    kind: ClassVar[Kind]

    def encode(self) -> bytes:
        """Return the whole frame; a text that is longer than a peer takes is cut."""
        fields = asdict(self)
        cut = {name: value[: limits.MAX_TEXT] for name, value in fields.items() if isinstance(value, str)}
        return encode_control(self.kind, fields | cut)


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """Worker: opens a session. Who it is stands in its certificate, not here.

    The one message that may have further fields: a newer worker must be able to say more to an older coordinator.
    """

    kind = Kind.HELLO
    software: Text
    newest_version: Natural = VERSION
    oldest_version: Natural = VERSION
    features: Names = field(default_factory=list)  # forms of transfers that it can read and write


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """Coordinator: what this run trains, so that the worker can build its own model of it."""

    kind = Kind.WELCOME
    run: Name
    worker: Name
    settings: Document
    manifest: Digest
    heartbeat_s: Seconds
    authorities_sha256: MaybeDigest = ""  # of the authorities that it trusts; empty: it renews no certificates


@dataclass(frozen=True, kw_only=True)
class Ready(Message):
    """Worker: has a model of the same layout and this many samples; from now on it takes part."""

    kind = Kind.READY
    manifest: Digest
    samples: Natural
    device: Text
    known_record: Natural = 0  # the last round of this run whose record it has


@dataclass(frozen=True, kw_only=True)
class RoundStarted(Message):
    """Coordinator: offers the round's global model as `transfer` and says how to train on it."""

    kind = Kind.ROUND_STARTED
    round: Round
    rounds: Round
    transfer: TransferId
    nbytes: Bytes
    sha256: Digest
    training: Document
    seed: Natural
    remaining_s: Seconds  # until the deadline: a duration, because clocks differ between sites


@dataclass(frozen=True, kw_only=True)
class ModelWanted(Message):
    """Worker: send the model from `offset` on (its whole size where it is known already)."""

    kind = Kind.MODEL_WANTED
    round: Round
    transfer: TransferId
    offset: Bytes
    window: Window = limits.WINDOW_BYTES


@dataclass(frozen=True, kw_only=True)
class Progress(Message):
    """Worker: how far its local training is."""

    kind = Kind.PROGRESS
    round: Round
    fraction: Share
    remaining_s: Seconds
    images_per_s: Number
    loss: Number


@dataclass(frozen=True, kw_only=True)
class RoundDeclined(Message):
    """Worker: does not train in this round, and why. Asking for the model after all takes it back."""

    kind = Kind.ROUND_DECLINED
    round: Round
    reason: Text


@dataclass(frozen=True, kw_only=True)
class UpdateOffered(Message):
    """Worker: its trained update, safe on its own disk, as `transfer`."""

    kind = Kind.UPDATE_OFFERED
    round: Round
    transfer: TransferId
    nbytes: Bytes
    sha256: Digest
    samples: Natural
    train_s: Seconds
    loss: Number
    confusion: Counts = field(default_factory=list)  # of the round's model on scans held out here; empty: not shared
    epsilon: Epsilon = 0.0  # of differential privacy, spent here so far; 0: none, else `loss` is untold
    delta: Share = 0.0


@dataclass(frozen=True, kw_only=True)
class UpdateWanted(Message):
    """Coordinator: send the update from `offset` on, at most `window` bytes beyond what was acknowledged."""

    kind = Kind.UPDATE_WANTED
    round: Round
    transfer: TransferId
    offset: Bytes
    window: Window = limits.WINDOW_BYTES


@dataclass(frozen=True, kw_only=True)
class UpdateAccepted(Message):
    """Coordinator: the update of this round is verified and durable: the one with this digest."""

    kind = Kind.UPDATE_ACCEPTED
    round: Round
    sha256: Digest


@dataclass(frozen=True, kw_only=True)
class UpdateRefused(Message):
    """Coordinator: the offered update is not taken (late, not what was offered, or with counts that cannot be)."""

    kind = Kind.UPDATE_REFUSED
    round: Round
    code: Name
    reason: Text


@dataclass(frozen=True, kw_only=True)
class RoundClosed(Message):
    """Coordinator: the round is committed; what became of this worker's update, and how good the model is.

    And the proof of it: the round's record in the run's chain as far as this worker may see it.
    """

    kind = Kind.ROUND_CLOSED
    round: Round
    verdict: Name
    reason: Text
    weight: Share
    metrics: Document
    header: Blob
    signature: Blob
    certificate: Blob  # the signer's, DER
    entry: MaybeBlob  # this worker's own; empty where it has none
    position: Natural  # of the entry, in the record's Merkle tree
    path: MaybeBlob  # the entry's Merkle path, 32 bytes a hash


@dataclass(frozen=True, kw_only=True)
class RecordsWanted(Message):
    """Worker: show the headers of the chain that come after this round; it was away meanwhile."""

    kind = Kind.RECORDS_WANTED
    after: Natural


@dataclass(frozen=True, kw_only=True)
class Records(Message):
    """Coordinator: the headers that come next, some at a time."""

    kind = Kind.RECORDS
    headers: Blobs


@dataclass(frozen=True, kw_only=True)
class RunStatus(Message):
    """Coordinator: what it waits for, in words."""

    kind = Kind.RUN_STATUS
    text: Text


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Message):
    """Either side: is alive. With `answer_wanted` the other side says so at once."""

    kind = Kind.HEARTBEAT
    answer_wanted: bool = False


@dataclass(frozen=True, kw_only=True)
class ChunksReceived(Message):
    """The receiver of a transfer has taken everything before `offset`; the sender's window moves on."""

    kind = Kind.CHUNKS_RECEIVED
    transfer: TransferId
    offset: Bytes


@dataclass(frozen=True, kw_only=True)
class EnrolRequested(Message):
    """A peer without a certificate: asks for one. The only thing it can do."""

    kind = Kind.ENROL_REQUESTED
    name: Name
    secret: Blob = field(repr=False)  # never in a log
    request: Blob  # a PKCS #10 signing request, DER (RFC 2986)


@dataclass(frozen=True, kw_only=True)
class Enrolled(Message):
    """Coordinator: the certificate, DER (RFC 5280)."""

    kind = Kind.ENROLLED
    certificate: Blob


@dataclass(frozen=True, kw_only=True)
class RenewalRequested(Message):
    """Worker: asks for a new certificate of the name and role of the one it shows; in place of Hello, or later."""

    kind = Kind.RENEWAL_REQUESTED
    request: Blob  # a PKCS #10 signing request for a new key, DER (RFC 2986)


@dataclass(frozen=True, kw_only=True)
class Renewed(Message):
    """Coordinator: the certificate, to be shown from the next connection on, and whom to trust."""

    kind = Kind.RENEWED
    certificate: Blob
    authorities: Blobs  # DER each: those that are trusted now, and certificates by which one vouches for another


@dataclass(frozen=True, kw_only=True)
class RenewalRefused(Message):
    """Coordinator: signs no new certificate; the session goes on."""

    kind = Kind.RENEWAL_REFUSED
    code: Name
    reason: Text


@dataclass(frozen=True, kw_only=True)
class Goodbye(Message):
    """Either side: ends the session; `code` for programs, `reason` for people."""

    kind = Kind.GOODBYE
    code: Name
    reason: Text


@dataclass(frozen=True, kw_only=True)
class Probe(Message):
    """Worker, in place of Hello: measures the way (`cli.py doctor`). It takes part in nothing."""

    kind = Kind.PROBE
    filling: Filling


@dataclass(frozen=True, kw_only=True)
class Probed(Message):
    """Coordinator: its clock, and the same filling back."""

    kind = Kind.PROBED
    unix_time_s: Moment
    filling: Filling


_ITEMS: dict[Any, Any] = {Names: Name, Blobs: Blob, Counts: Natural}
_BY_KIND: dict[Kind, type[Message]] = {cls.kind: cls for cls in Message.__subclasses__()}
_HINTS = {cls: get_type_hints(cls, include_extras=True) for cls in _BY_KIND.values()}


def decode_message(kind: Kind, data: bytes | memoryview) -> Message:
    """Return the message of a control frame: exactly its fields, each of its type and within its bounds.

    Raises `RemoteProtocolError` naming the field.
    """
    cls = _BY_KIND[kind]
    hints = {name: hint for name, hint in _HINTS[cls].items() if name != "kind"}
    fields = decode_control(data)
    if cls is Hello:
        fields = {name: value for name, value in fields.items() if name in hints}
    if fields.keys() != hints.keys():
        odd = ", ".join(sorted(str(key)[:40] for key in fields.keys() ^ hints.keys()))
        raise RemoteProtocolError(f"{kind.name} has missing or unknown fields: {odd}")
    for name, hint in hints.items():
        _check_field(f"{kind.name}.{name}", fields[name], hint)
    return cls(**fields)


def _check_field(where: str, value: Any, hint: Any) -> None:
    annotated = getattr(hint, "__origin__", hint)
    expected = getattr(annotated, "__origin__", annotated)
    if type(value) is not expected:  # not isinstance: True is no number on the wire
        raise RemoteProtocolError(f"{where} is {type(value).__name__}, must be {expected.__name__}")
    if expected is bool:
        return
    bounds: Between = hint.__metadata__[0]
    size: float = value if isinstance(value, int | float) else len(value)
    if not bounds.low <= size <= bounds.high:  # NaN is never within bounds
        raise RemoteProtocolError(f"{where} is {size}, must be {bounds.low} to {bounds.high}")
    if isinstance(value, list):
        for item in value:
            _check_field(f"an entry of {where}", item, _ITEMS[hint])
