from fednet.protocol import limits
from fednet.transport.attempts import Attempts


def allowed(attempts: Attempts, address: str, *, tries: int, now: float) -> int:
    return sum(attempts.take(address, now=now) == 0.0 for _ in range(tries))


def test_an_address_may_try_so_often_at_once_and_then_at_its_rate() -> None:
    attempts = Attempts()
    assert allowed(attempts, "a", tries=1000, now=5.0) == limits.ENROLMENTS_AT_ONCE_OF_ONE
    assert 0.0 < attempts.take("a", now=5.0) <= 1.0 / limits.ENROLMENTS_PER_S_OF_ONE
    assert allowed(attempts, "a", tries=1000, now=8.0) == 3 * limits.ENROLMENTS_PER_S_OF_ONE


def test_who_waits_as_long_as_it_is_told_may_try() -> None:
    attempts = Attempts()
    allowed(attempts, "a", tries=1000, now=5.0)
    wait_s = attempts.take("a", now=5.25)
    assert attempts.take("a", now=5.25 + wait_s) == 0.0


def test_one_address_that_guesses_takes_nothing_from_the_others() -> None:
    attempts = Attempts()
    allowed(attempts, "guesser", tries=100_000, now=5.0)
    assert attempts.take("hospital", now=5.0) == 0.0


def test_many_addresses_together_are_limited_too() -> None:
    attempts = Attempts()
    tried = sum(allowed(attempts, f"address {number}", tries=1, now=5.0) for number in range(1000))
    assert tried == limits.ENROLMENTS_AT_ONCE
    assert sum(allowed(attempts, f"address {number}", tries=1, now=6.0) for number in range(1000)) == 10


def test_only_so_many_addresses_are_remembered() -> None:
    attempts = Attempts()
    for number in range(2 * limits.MAX_ENROLLING_ADDRESSES):
        attempts.take(f"address {number}", now=float(number))
    assert len(attempts._of) == limits.MAX_ENROLLING_ADDRESSES
