import pytest
import torch
from scipy import stats

from fednet.worker.entropy import Entropy


def test_noise_is_normal_of_the_deviation_asked_for() -> None:
    like = torch.empty(300, 1001, dtype=torch.float32)
    found = Entropy().noise(like, deviation=2.5)
    assert found.shape == like.shape and found.dtype == torch.float32
    assert stats.kstest(found.flatten().numpy(), "norm", args=(0, 2.5)).pvalue > 1e-6


def test_numbers_do_not_depend_on_each_other() -> None:
    noise = Entropy().noise(torch.empty(2**18), deviation=1.0)
    for lag in (1, 2**15, 2**16, 2**17):  # how far apart what is made of one block of words may lie
        assert abs(float((noise[lag:] * noise[:-lag]).mean())) < 0.02, lag


def test_no_two_streams_are_alike_whatever_torch_was_seeded_with() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(Entropy().noise(torch.empty(8), deviation=1.0))
    assert not torch.equal(found[0], found[1])


def test_each_place_is_chosen_by_itself_with_the_chance_asked_for() -> None:
    entropy = Entropy()
    counts = torch.tensor([len(entropy.chosen(1000, 0.3)) for _ in range(400)], dtype=torch.float64)
    assert float(counts.mean()) == pytest.approx(300, abs=5)  # seven standard deviations of this mean
    assert float(counts.var()) == pytest.approx(210, abs=110)  # of a binomial, not of a fixed size
    times = torch.zeros(50)
    for _ in range(2000):
        times[entropy.chosen(50, 0.3)] += 1
    assert float(times.min()) > 480 and float(times.max()) < 720


def test_a_rate_of_one_takes_all_and_one_of_zero_none() -> None:
    entropy = Entropy()
    assert entropy.chosen(100, 1.0).tolist() == list(range(100))
    assert entropy.chosen(100, 0.0).tolist() == []


def test_why_torchs_own_generator_is_not_used() -> None:
    low, high = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**40))
    assert torch.equal(torch.randn(8, generator=low), torch.randn(8, generator=high)), "it takes 64 bits now: good news"
