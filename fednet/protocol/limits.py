"""Every bound on what a peer may send or make us keep; each is a constant with its reason."""

# Frames
MAX_CONTROL_BYTES = 64 * 1024  # a control document; the largest real one is a signing request or round metrics
MAX_CHUNK_BYTES = 2**20  # tensor bytes in one frame; a heartbeat never waits behind more than one chunk
CHUNK_BYTES = 2**19  # what we send at a time: asyncio's TLS queues two, and a message waits behind them; `bench
# transport` finds 256 KiB to be 5 per cent slower, 1 MiB no faster
MAX_DEPTH = 8  # nesting of a control document; ours have 3
MAX_ENTRIES = 64  # entries of one array or map; bounds the objects that a few bytes can decode to
MAX_TEXT = 4096  # characters of one string; reasons and names are far shorter
MAX_RECORDS = 5  # headers of the audit chain in one message; each is a Blob, so they fit in a control document

# Transfers
MAX_TRANSFER_BYTES = 2**36  # 64 GiB: nothing is allocated from this, a receiver compares with its own manifest
WINDOW_BYTES = 8 * 2**20  # at most sent but not yet taken by the receiver, who may ask for less
MIN_WINDOW_BYTES = 2**17  # over a link with a round trip of 50 ms this still moves 2.6 MB/s
ALL_WINDOWS_BYTES = 2**26  # of a coordinator's workers together: what a slow disk can make it hold
MAX_TRANSFERS = 4  # transfers in one direction of one connection at a time; a round needs one, a late one drains
LEAST_BYTES_PER_S = 16 * 1024  # of a peer that owes a transfer: 45 MB take three quarters of an hour then
LEAST_RATE_OVER_S = 60.0  # a shorter stall is the network's
MAX_SILENT_ACKNOWLEDGE_S = WINDOW_BYTES / 4 / LEAST_BYTES_PER_S + LEAST_RATE_OVER_S  # from a reader at that rate
MAX_QUEUED_MESSAGES = 256  # control messages queued for a peer that does not read; then the connection is dropped
MAX_PROBE_BYTES = 32 * 1024  # of filling in one probe: two of them fit in a control frame

# Frames of one kind in a second, over a connection; what is more costs us time that others need
FRAMES_PER_S = {
    "CHUNK": 20_000,  # chunks of 64 KiB, at more than a gigabyte a second; ours are of 32 to 512 KiB
    "CHUNKS_RECEIVED": 20_000,  # a receiver may acknowledge every chunk
    "PROBE": 20_000,  # bounded in number and time already
    "PROBED": 20_000,
}
OTHER_FRAMES_PER_S = 50  # rounds without training may follow each other that fast; PROGRESS comes once a second
FRAMES_BURST_S = 5  # so many seconds' worth at once: a stalled link delivers what has piled up

# Enrolment: an attempt costs a thread, a transaction and perhaps a signature; workers wait and try again
ENROLMENTS_AT_ONCE_OF_ONE = 20  # of one address: a firewall's hospitals, or all workers of a demonstration
ENROLMENTS_PER_S_OF_ONE = 1.0
ENROLMENTS_AT_ONCE = 100
ENROLMENTS_PER_S = 10.0  # of all together; a federation enrols once
MAX_ENROLLING_ADDRESSES = 4096  # that are remembered, the latest

# Time, in seconds
HANDSHAKE_TIMEOUT_S = 5.0  # for TLS, from accept; absolute, so a byte a second gains nothing
HELLO_TIMEOUT_S = 5.0  # for the first complete frame after TLS; absolute too
GREETING_TAKES_S = 0.5  # of a peer whose place another needs: TLS and Hello are four messages
HEARTBEAT_S = 10.0  # how often each side says that it lives
DEAD_AFTER_S = 30.0  # three heartbeats without a byte: the link is half open
RENEWAL_EVERY_S = 10.0  # of one worker: each renewal costs a signature and a row that stays
PARTING_S = 0.3  # for hanging up, of a peer that is shown out: with the look for revocations less than a second
PROBING_S = 30.0  # how long one connection may measure; absolute
ALIVE_WITHIN_S = 3.0  # how long an older session has to answer before a newer one of the same identity replaces it

# Connections
MAX_PROBING = 2  # connections that measure at one time, one of an identity: each may fill its queue with probes
MAX_PROBES = 2048  # of one connection: 64 MiB, two seconds of a fast link
MAX_PROXY_ANSWER_BYTES = 8192  # status line and headers of an HTTP proxy; real ones take a few hundred
MAX_UNAUTHENTICATED = 64  # in all; an idle TLS connection costs about 300 KiB before it has said who it is
MAX_UNAUTHENTICATED_PER_ADDRESS = 16  # several hospitals may share one address behind a firewall
