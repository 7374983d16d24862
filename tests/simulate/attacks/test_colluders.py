import pytest
import torch

from fednet.simulate.attacks.colluders import colluders
from tests.simulate.attacks.sights import sent, sight, sight_of, stacked


def test_one_more_than_f_take_part() -> None:
    assert colluders("colluders").extra_attackers == 1


def test_all_send_one_update_statistics_included() -> None:
    sent_by_all = colluders("colluders").poison(sight(attackers=4))
    assert all(torch.equal(each.delta, sent_by_all[0].delta) for each in sent_by_all)
    assert all(each.buffers is sent_by_all[0].buffers for each in sent_by_all)


def test_it_points_against_what_they_learned_and_is_as_large() -> None:
    seen = sight(attackers=4)
    own, poisoned = stacked(seen.own), sent(colluders("colluders"), seen)[0].double()
    assert float(torch.cosine_similarity(poisoned, own.mean(dim=0), dim=0)) == pytest.approx(-1, abs=1e-6)
    assert float(poisoned.norm()) == pytest.approx(float(own.norm(dim=1).mean()), rel=1e-5)


def test_colluders_whose_updates_cancel_send_zeros() -> None:
    row = torch.ones(5)
    assert not sent(colluders("colluders"), sight_of([], [row, -row])).any()
