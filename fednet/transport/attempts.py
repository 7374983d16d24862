"""How often enrolment may be tried: a token bucket for each address, one for all; the time comes in with each call."""

from __future__ import annotations

from collections import OrderedDict

from fednet.protocol import limits


class Bucket:
    """Fills with `per_s` attempts a second up to `burst`, which may be made at once."""

    def __init__(self, *, per_s: float, burst: float, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._as_of = burst, now

    def wait_s(self, *, now: float) -> float:
        """Return how long it is until there is an attempt in it; 0: there is one."""
        self._left = min(self._burst, self._left + (now - self._as_of) * self._per_s)
        self._as_of = now
        return max(0.0, 1.0 - self._left) / self._per_s

    def take(self) -> None:
        """Take the attempt that `wait_s` has just found."""
        self._left -= 1.0


class Attempts:
    """Limits attempts, so that guessing costs the guesser time and never the run.

    Nobody guesses a secret of 256 bit; what is bounded is the work: each attempt reads a signing request and writes to
    the ledger. An attempt that an address may not make takes nothing from the others.
    """

    def __init__(self) -> None:
        self._all = Bucket(per_s=limits.ENROLMENTS_PER_S, burst=limits.ENROLMENTS_AT_ONCE, now=0.0)
        self._of: OrderedDict[str, Bucket] = OrderedDict()  # by address, the one that tried last at the end

    def take(self, address: str, *, now: float) -> float:
        """Count an attempt and return 0, or return the seconds to wait, counting nothing. `now` is in seconds."""
        own = self._of.pop(address, None) or Bucket(
            per_s=limits.ENROLMENTS_PER_S_OF_ONE, burst=limits.ENROLMENTS_AT_ONCE_OF_ONE, now=now
        )
        self._of[address] = own
        if len(self._of) > limits.MAX_ENROLLING_ADDRESSES:
            self._of.popitem(last=False)
        wait_s = own.wait_s(now=now) or self._all.wait_s(now=now)
        if wait_s == 0.0:
            own.take()
            self._all.take()
        return wait_s
