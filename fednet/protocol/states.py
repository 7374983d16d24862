"""Who may say what, and when: the session's states as a table."""

from __future__ import annotations

import enum

from fednet.protocol.frames import Kind


class Role(enum.Enum):
    """Which end of the connection this is."""

    COORDINATOR = "coordinator"
    WORKER = "worker"


class State(enum.Enum):
    """What the peer has shown so far."""

    ANONYMOUS = "anonymous"  # coordinator: the peer has no certificate; it may enrol, nothing else
    IDENTIFIED = "identified"  # coordinator: the peer has a certificate and has said nothing yet
    PROBING = "probing"  # both: the peer measures the way
    GREETED = "greeted"  # coordinator: Hello came; the worker builds its model
    ENROLLING = "enrolling"  # worker: asked for a certificate
    RENEWING = "renewing"  # worker: asked for a certificate in the place of the one it shows, and for nothing else
    WAITING = "waiting"  # worker: said Hello
    JOINED = "joined"  # both: rounds may come
    CLOSED = "closed"  # Goodbye came, or an enrolment is done


_ANYTIME = (Kind.HEARTBEAT, Kind.GOODBYE)

# (our role, state) -> {kind that may be received: state after it}
RECEIVE: dict[tuple[Role, State], dict[Kind, State]] = {
    (Role.COORDINATOR, State.ANONYMOUS): {Kind.ENROL_REQUESTED: State.CLOSED, Kind.GOODBYE: State.CLOSED},
    (Role.COORDINATOR, State.IDENTIFIED): {
        Kind.HELLO: State.GREETED,
        Kind.PROBE: State.PROBING,
        Kind.RENEWAL_REQUESTED: State.CLOSED,
        Kind.GOODBYE: State.CLOSED,
    },
    (Role.COORDINATOR, State.PROBING): {Kind.PROBE: State.PROBING, Kind.GOODBYE: State.CLOSED},
    (Role.COORDINATOR, State.GREETED): {
        Kind.READY: State.JOINED,
        Kind.HEARTBEAT: State.GREETED,
        Kind.GOODBYE: State.CLOSED,
    },
    (Role.COORDINATOR, State.JOINED): {
        Kind.MODEL_WANTED: State.JOINED,
        Kind.PROGRESS: State.JOINED,
        Kind.ROUND_DECLINED: State.JOINED,
        Kind.UPDATE_OFFERED: State.JOINED,
        Kind.RECORDS_WANTED: State.JOINED,
        Kind.RENEWAL_REQUESTED: State.JOINED,
        Kind.CHUNK: State.JOINED,
        Kind.CHUNKS_RECEIVED: State.JOINED,
        Kind.HEARTBEAT: State.JOINED,
        Kind.GOODBYE: State.CLOSED,
    },
    (Role.WORKER, State.ENROLLING): {Kind.ENROLLED: State.CLOSED, Kind.GOODBYE: State.CLOSED},
    (Role.WORKER, State.RENEWING): {
        Kind.RENEWED: State.CLOSED,
        Kind.RENEWAL_REFUSED: State.CLOSED,
        Kind.GOODBYE: State.CLOSED,
    },
    (Role.WORKER, State.PROBING): {Kind.PROBED: State.PROBING, Kind.GOODBYE: State.CLOSED},
    (Role.WORKER, State.WAITING): {
        Kind.WELCOME: State.JOINED,
        Kind.HEARTBEAT: State.WAITING,
        Kind.GOODBYE: State.CLOSED,
    },
    (Role.WORKER, State.JOINED): {
        Kind.ROUND_STARTED: State.JOINED,
        Kind.CHUNK: State.JOINED,
        Kind.CHUNKS_RECEIVED: State.JOINED,
        Kind.UPDATE_WANTED: State.JOINED,
        Kind.UPDATE_ACCEPTED: State.JOINED,
        Kind.UPDATE_REFUSED: State.JOINED,
        Kind.ROUND_CLOSED: State.JOINED,
        Kind.RECORDS: State.JOINED,
        Kind.RENEWED: State.JOINED,
        Kind.RENEWAL_REFUSED: State.JOINED,
        Kind.RUN_STATUS: State.JOINED,
        Kind.HEARTBEAT: State.JOINED,
        Kind.GOODBYE: State.CLOSED,
    },
}

# What each role sends: anything else is a bug on our side.
SEND: dict[Role, frozenset[Kind]] = {
    Role.COORDINATOR: frozenset(
        {
            Kind.WELCOME,
            Kind.ROUND_STARTED,
            Kind.CHUNKS_RECEIVED,
            Kind.UPDATE_WANTED,
            Kind.UPDATE_ACCEPTED,
            Kind.UPDATE_REFUSED,
            Kind.ROUND_CLOSED,
            Kind.RECORDS,
            Kind.RUN_STATUS,
            Kind.ENROLLED,
            Kind.RENEWED,
            Kind.RENEWAL_REFUSED,
            Kind.PROBED,
            *_ANYTIME,
        }
    ),
    Role.WORKER: frozenset(
        {
            Kind.HELLO,
            Kind.READY,
            Kind.MODEL_WANTED,
            Kind.PROGRESS,
            Kind.ROUND_DECLINED,
            Kind.UPDATE_OFFERED,
            Kind.RECORDS_WANTED,
            Kind.CHUNKS_RECEIVED,
            Kind.ENROL_REQUESTED,
            Kind.RENEWAL_REQUESTED,
            Kind.PROBE,
            *_ANYTIME,
        }
    ),
}
