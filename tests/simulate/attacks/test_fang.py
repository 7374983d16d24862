import pytest
import torch

from fednet.aggregation.rules.krum import krum_scores
from fednet.simulate.attacks.fang import fang
from tests.simulate.attacks.sights import deltas, sent, sight, sight_of, stacked


def winner(rows: torch.Tensor, byzantine: int) -> int:
    return int(krum_scores(torch.cdist(rows, rows).square(), byzantine).argmin())


def unlike(count: int, *, seed: int) -> list[torch.Tensor]:
    """Return updates that lie closer to the global model than to each other, as those of unlike hospitals do."""
    agreeing = deltas(count, seed=seed)
    common = torch.stack(agreeing).mean(dim=0)
    return [each - 0.5 * common for each in agreeing]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("honest", "attackers"), [(8, 3), (7, 2), (20, 5), (40, 10)])
def test_krum_selects_an_attacker(honest: int, attackers: int, seed: int) -> None:
    drawn = unlike(honest + attackers, seed=seed)
    seen = sight_of(drawn[:honest], drawn[honest:])
    everything = torch.cat([stacked(seen.honest), sent(fang("fang"), seen).double()])
    assert winner(everything, attackers) >= honest


def test_it_goes_against_the_sign_of_the_honest_mean_in_every_coordinate() -> None:
    seen = sight()
    poisoned = sent(fang("fang"), seen)[0].double()
    assert torch.equal(poisoned.sign(), -stacked(seen.honest).mean(dim=0).sign())
    assert float(poisoned.abs().min()) == float(poisoned.abs().max())


def test_twice_the_step_is_not_selected_or_beyond_the_papers_bound() -> None:
    honest, attackers = 8, 3
    seen = sight(honest=honest, attackers=attackers)
    rows, poisoned = stacked(seen.honest), sent(fang("fang"), seen).double()
    count, width = honest + attackers, rows.shape[1]
    squares = torch.cdist(rows, rows).square()
    nearest = min(float(row.sort().values[1 : count - attackers - 1].sum()) for row in squares)
    bound = (nearest / ((count - 2 * attackers - 1) * width)) ** 0.5 + float(rows.norm(dim=1).max()) / width**0.5
    step = float(poisoned[0].abs().max())
    halvings = torch.tensor(bound / step).log2()
    assert abs(float(halvings - halvings.round())) < 1e-4, "bound / 2^k"
    assert step > 0.99 * bound or winner(torch.cat([rows, 2 * poisoned]), attackers) < honest


def test_the_others_are_near_copies_of_the_first() -> None:
    poisoned = sent(fang("fang"), sight())
    apart = (poisoned[1:] - poisoned[0]).norm(dim=1)
    assert bool((apart > 0).all())
    assert float(apart.max()) < 2e-4 * float(poisoned[0].norm())


def test_where_the_honest_agree_too_well_no_step_is_selected_and_almost_nothing_is_sent() -> None:
    seen = sight(honest=8, attackers=1)
    assert float(sent(fang("fang"), seen).norm()) < 1e-3 * float(stacked(seen.honest).norm(dim=1).min())


def test_partial_knowledge_is_the_attackers_own_training() -> None:
    own = deltas(4)
    poisoned = sent(fang("fang"), sight_of([], own))[0].double()
    assert torch.equal(poisoned.sign(), -torch.stack(own).double().mean(dim=0).sign())
