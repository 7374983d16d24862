from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.config import ClientPrivacySettings
from fednet.coordinator.privacy_ledger import CentreLedger, planned, promise, require_affordable
from fednet.errors import BadInput, RunParked, StorageError
from fednet.privacy.accounting import epsilon_after
from fednet.storage.store import RunStore
from tests.federation import settings


def private(**changes: Any) -> ClientPrivacySettings:
    return ClientPrivacySettings(**{"clip": 1.0, "noise": 4.0} | changes)


def test_each_draw_is_charged_before_it_and_counted_by_the_next_process(tmp_path: Path) -> None:
    asked = settings(aggregator="fedavg", client_privacy=private())
    store = RunStore(tmp_path)
    ledger = CentreLedger(asked, store)
    ledger.release(torch.zeros(5), 2)
    _, told = ledger.release(torch.zeros(5), 2)
    store.close()
    store = RunStore(tmp_path)
    _, third = CentreLedger(asked, store).release(torch.zeros(5), 0)
    store.close()
    assert (told["rounds"], told["clipped"], third["rounds"]) == (2, 2, 3)
    for document in (told, third):
        assert document["epsilon"] == epsilon_after(document["rounds"], multiplier=2.0, delta=1e-5)
    assert third["epsilon"] == told["epsilon_of_another"]
    assert (told["sensitivity"], told["noise_deviation"]) == pytest.approx((2 / 3, 4 / 3))


def test_what_cannot_be_charged_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    ledger = CentreLedger(settings(aggregator="fedavg", client_privacy=private()), store)

    def full() -> None:
        raise StorageError("no room")

    drawn = []
    monkeypatch.setattr(store, "noise_charged", full)
    monkeypatch.setattr("fednet.coordinator.privacy_ledger.noised", lambda step, deviation: drawn.append(step))
    with pytest.raises(StorageError):
        ledger.release(torch.zeros(5), 0)
    assert drawn == []
    store.close()


def test_the_noise_of_krum_is_that_of_its_sensitivity(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    asked = settings(aggregator="krum", client_privacy=private())
    step, told = CentreLedger(asked, store).release(torch.zeros(20_000), 0)
    store.close()
    assert float(step.std()) == pytest.approx(8.0, rel=0.05)
    assert told["epsilon"] == epsilon_after(1, multiplier=4.0, delta=1e-5)


def test_a_budget_that_one_round_exceeds_is_refused() -> None:
    with pytest.raises(BadInput, match="by the first round"):
        require_affordable(settings(aggregator="fedavg", client_privacy=private(epsilon=0.5)))
    require_affordable(settings(aggregator="fedavg", client_privacy=private(epsilon=50.0)))


def test_a_budget_that_was_drawn_for_rounds_which_never_came_is_said(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    ledger = CentreLedger(settings(aggregator="fedavg", client_privacy=private(epsilon=3.0)), store)
    ledger.require_room()
    while ledger.affords_another:
        store.noise_charged()
    with pytest.raises(BadInput, match="by another round"):
        ledger.require_room()
    store.close()


def test_no_more_rounds_are_planned_than_the_epsilon_allows() -> None:
    asked = settings(rounds=5000, aggregator="fedavg", client_privacy=private(epsilon=8.0))
    cut = planned(asked)
    assert 1 < cut.rounds < 5000
    assert planned(cut) == cut == replace(asked, rounds=cut.rounds)
    assert planned(replace(asked, warmup_rounds=2500)).warmup_rounds == round(cut.rounds / 2)
    none = replace(asked, client_privacy=private(epsilon=1e-6))
    assert planned(none) is none, "and refused, in its own words"
    endless = replace(asked, client_privacy=private(epsilon=0.0))
    assert planned(endless) is endless


def test_what_is_promised() -> None:
    text = promise(settings(rounds=50, aggregator="fedavg", client_privacy=private(epsilon=8.0)))
    assert "50 rounds would spend epsilon" in text
    assert " of 8 (delta 1e-05" in text


def test_what_is_not_affordable_is_never_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round can be aggregated twice: a worker's certificate is revoked after its update was counted."""
    store = RunStore(tmp_path)
    one = epsilon_after(1, multiplier=2.0, delta=1e-5)
    ledger = CentreLedger(settings(aggregator="fedavg", client_privacy=private(epsilon=one)), store)
    ledger.release(torch.zeros(5), 0)
    drawn = []
    monkeypatch.setattr("fednet.coordinator.privacy_ledger.noised", lambda step, deviation: drawn.append(step))
    with pytest.raises(RunParked, match="another noised step would spend more than the run may"):
        ledger.release(torch.zeros(5), 0)
    assert (drawn, store.noise_draws()) == ([], 1)
    store.close()
