import torch

from fednet.aggregation.checks import faults
from fednet.simulate.attacks.batch_norm import bn_stats
from fednet.simulate.attacks.sight import Submission
from tests.simulate.attacks.sights import sent, sight, stacked


def test_the_delta_is_honest() -> None:
    seen = sight()
    assert torch.equal(sent(bn_stats("bn-stats"), seen), stacked(seen.own).float())


def test_means_move_by_ten_deviations_and_variances_grow_a_hundredfold() -> None:
    poisoned = bn_stats("bn-stats").poison(sight())[0].buffers
    assert poisoned["bn.running_mean"].tolist() == [0.5 + 20.0, -1.0 + 5.0]
    assert poisoned["bn.running_var"].tolist() == [400.0, 25.0]
    assert int(poisoned["bn.num_batches_tracked"]) == 7


def test_checks_before_scoring_see_nothing_wrong() -> None:
    poisoned = bn_stats("bn-stats").poison(sight())
    norms = stacked(poisoned).norm(dim=1)
    assert faults(norms, [each.samples for each in poisoned], [each.buffers for each in poisoned]) == [None] * 3


def test_a_model_without_variances_or_statistics_is_no_obstacle() -> None:
    seen = sight(attackers=1)
    bare = Submission(delta=seen.own[0].delta, buffers={"norm.running_mean": torch.zeros(2)}, samples=1)
    attack = bn_stats("bn-stats")
    [poisoned] = attack.poison(type(seen)(honest=(), own=[bare], byzantine=1, memory={}, generator=seen.generator))
    assert poisoned.buffers["norm.running_mean"].tolist() == [10.0, 10.0]
