import math

import torch

from fednet.privacy.noise import keystream, noised, sum_of_normals

N = 400_001


def test_it_is_normal_of_the_deviation_asked_for() -> None:
    found = noised(torch.zeros(N), 0.25).double() / 0.25
    error = 1 / math.sqrt(N)
    assert abs(float(found.mean())) < 5 * error
    assert abs(float(found.var()) - 1) < 5 * math.sqrt(2) * error
    assert abs(float((found**4).mean()) - 3) < 5 * math.sqrt(96) * error
    within_one = float((found.abs() < 1).double().mean())
    assert abs(within_one - math.erf(1 / math.sqrt(2))) < 5 * error


def test_neighbours_and_halves_share_nothing() -> None:
    found = noised(torch.zeros(N - 1), 1.0).double()
    for other in (found.roll(1), found.roll(len(found) // 2), found.roll(2**18)):
        assert abs(float((found * other).mean())) < 5 / math.sqrt(N)


def test_it_is_added_to_the_step_whose_place_it_takes() -> None:
    step = torch.arange(5.0)
    assert torch.allclose(noised(step, 1e-9), step)
    assert torch.equal(step, torch.arange(5.0))


def test_no_seed_decides_it() -> None:
    torch.manual_seed(0)
    first = noised(torch.zeros(100), 1.0)
    torch.manual_seed(0)
    assert not torch.equal(first, noised(torch.zeros(100), 1.0))


def test_bits_alone_decide_it_and_none_is_used_twice() -> None:
    drawn: list[int] = []
    stream = keystream()

    def bits(count: int) -> bytes:
        drawn.append(count)
        return stream(count)

    noised(torch.zeros(1000), 1.0, bits=bits)
    assert sum(drawn) == 4 * 1000 * 8


def test_the_smallest_and_the_largest_number_are_finite() -> None:
    for byte in (b"\x00", b"\xff"):
        found = sum_of_normals(3, lambda count, byte=byte: byte * count)  # type: ignore[misc]
        assert torch.from_numpy(found).isfinite().all()
