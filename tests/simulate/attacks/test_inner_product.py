import pytest
import torch

from fednet.simulate.attacks.inner_product import ipm
from tests.simulate.attacks.sights import sent, sight, stacked


@pytest.mark.parametrize("scale", [0.1, 2.0, 10.0])
def test_it_is_the_honest_mean_turned_around_and_scaled(scale: float) -> None:
    seen = sight()
    poisoned = sent(ipm("ipm", scale=scale), seen)
    expected = -scale / 8 * sum(stacked(seen.honest))
    for row in poisoned.double():
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)


def test_its_inner_product_with_the_honest_mean_is_negative() -> None:
    seen = sight()
    assert float(sent(ipm("ipm"), seen)[0].double() @ stacked(seen.honest).mean(dim=0)) < 0


@pytest.mark.parametrize(("scale", "turns"), [(2.6, False), (2.7, True)])
def test_a_plain_mean_turns_around_beyond_the_papers_limit(scale: float, turns: bool) -> None:
    seen = sight(honest=8, attackers=3)  # limit 8 / 3
    everything = torch.cat([stacked(seen.honest), sent(ipm("ipm", scale=scale), seen).double()])
    assert (float(everything.mean(dim=0) @ stacked(seen.honest).mean(dim=0)) < 0) is turns
