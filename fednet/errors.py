"""Every error FedNet raises on purpose, as one tree; the command line turns each into one line and an exit code.

FednetError                    exit 1: failed while running
├── BadInput                   exit 2: what a person gave cannot be used; names what, found, expected, what to do
│   ├── DataError              a data folder, image or split
│   │   └── TooFewScans        ... because there are not enough scans to put some aside
│   ├── ModelError             an architecture, checkpoint or weights file
│   ├── CredentialError        a certificate, key or join token
│   └── Refused                the coordinator's typed answer to a worker that cannot take part
├── ProtocolError
│   ├── LocalProtocolError     our own code used the protocol wrongly: a bug here
│   └── RemoteProtocolError    the peer broke the protocol: drop it
├── ConnectionLost             the link went away: retry
│   └── TooSlow                ... because this side dropped it: too few bytes came
├── AggregationError           the round's updates cannot be aggregated safely
├── TrainingError              local training failed
│   └── ProcessLost            ... because another process of this worker (`torchrun`) is gone
├── StorageError               a file could not be made durable
│   ├── DiskFull               ... because there is no room left
│   └── SyncFailed             ... because the disk refused what it had taken: stop, and never try again
├── AuditError                 the run's record contradicts itself, or what a hospital knows of it
└── RunParked                  the run stopped below quorum; everything is saved and it can be resumed
"""

from collections.abc import Sequence


class FednetError(Exception):
    """Base of all expected failures. Its text is one line that a user can act on."""

    exit_code = 1


class BadInput(FednetError):
    """What a person gave cannot be used.

    `what` names the thing, `found` what is there, `expected` what is needed, `todo` what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, found: str = "", expected: str = "", todo: str = "") -> None:
        self.what, self.found, self.expected, self.todo = what, found, expected, todo
        parts = [what]
        if found:
            parts.append(f"found {found}")
        if expected:
            parts.append(f"expected {expected}")
        line = "; ".join(parts)
        super().__init__(f"{line}. {todo[0].upper() + todo[1:]}" if todo else line)


class DataError(BadInput):
    """A data folder, an image or a split cannot be used."""


class TooFewScans(DataError):
    """No class has enough scans to put one of them aside."""


class ModelError(BadInput):
    """An architecture name, a checkpoint or a weights file cannot be used."""


class CredentialError(BadInput):
    """A certificate, a key or a join token cannot be used."""


DECLINED = "declined"  # the goodbye of a hospital that does not agree to the run
REVOKED = "revoked"  # the goodbye to whoever shows a certificate that is revoked


class Refused(BadInput):
    """The other end said, in a typed message, why this worker cannot take part; `code` is the wire's word for it."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class ProtocolError(FednetError):
    """The protocol was broken by one of the two ends."""


class LocalProtocolError(ProtocolError):
    """Our own code asked the protocol for something it does not allow: a bug on this side."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow. The connection is dropped and logged."""


class ConnectionLost(FednetError):
    """The link to the peer went away; what was agreed stays valid and the connection may be tried again."""


class TooSlow(ConnectionLost):
    """The peer moved too little of a transfer for too long, so this side dropped the link; it may be tried again."""


class AggregationError(FednetError):
    """The updates at hand cannot be aggregated with the promised tolerance; `faulty` names whose are to blame."""

    def __init__(self, reason: str, *, faulty: Sequence[str] = ()) -> None:
        self.faulty = tuple(faulty)
        super().__init__(reason)


class TrainingError(FednetError):
    """Local training could not produce an update (for example a loss that is not finite)."""


class ProcessLost(TrainingError):
    """Another process of this worker is gone, and with it what they were computing; started again they go on."""


class StorageError(FednetError):
    """A file could not be written durably. What was there before is untouched."""


class DiskFull(StorageError):
    """There is no room (or no quota) for the file. What was there before is untouched."""


class SyncFailed(StorageError):
    """An fsync failed. What the disk holds is unknown, and another fsync would claim success: the process must stop."""


class AuditError(FednetError):
    """A run's signed record contradicts itself, or what this hospital sent or was told before."""


class RunParked(FednetError):
    """The run stopped before its last round with everything saved; `coordinator start --resume` continues it."""
