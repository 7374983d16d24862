"""One hospital's budget: what is charged when, and when it ends; over restarts, and over a connection that is cut."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.compression.forms import form_named
from fednet.config import PrivacySettings, TrainingSettings
from fednet.errors import BadInput, Refused, TrainingError
from fednet.protocol.messages import RoundStarted
from fednet.tensors import bytes_of, digest_of, manifest_of, pack
from fednet.worker import privacy
from fednet.worker.compute import Compute
from fednet.worker.privacy_accounting import epsilon_of
from fednet.worker.privacy_ledger import SiteLedger, SiteMechanism, spent_in
from fednet.worker.session import UpdateSaved
from fednet.worker.workshop import Rounded, Workshop
from tests.worker.fakes import MemoryOwnModel, TinyData, tiny_net
from tests.worker.private_sites import CPU, PRIVACY, TRAINING, group_net, ledger_in, planned, site

ROUND = SiteMechanism(noise_multiplier=1.0, sample_rate=8 / 24, steps=3)


def rounds(made: privacy.SitePrivacy, *numbers: int, training: TrainingSettings = TRAINING) -> list[float]:
    """Train some rounds, and return what was spent after each."""
    found = []
    for number in numbers:
        made.train(group_net(), training, round_number=number, compute=Compute(CPU))
        found.append(made.epsilon)
    return found


def test_the_planned_run_uses_up_the_budget_and_no_round_comes_after_it() -> None:
    made = site()
    spent = rounds(made, 1, 2, 3)
    assert spent == sorted(spent) and 7.9 < spent[-1] <= 8.0
    with pytest.raises(Refused, match=r"budget used up: epsilon 7\.99\d of 8 spent .*round 4 would make it") as caught:
        rounds(made, 4)
    assert caught.value.code == "declined"
    assert made.epsilon == spent[-1]


def test_the_end_of_the_budget_survives_a_restart_in_this_run_and_in_another(tmp_path: Path) -> None:
    path = tmp_path / "client_1.privacy.jsonl"
    rounds(site(ledger_in(path)), 1, 2, 3)
    again = site(ledger_in(path))
    with pytest.raises(Refused, match="privacy budget used up"):
        rounds(again, 4)
    with pytest.raises(Refused, match=r"used up: .*too little is left for a run of 9 steps"):
        site(ledger_in(path), run="another")
    assert spent_in(path).rounds == 3


def test_a_restarted_run_goes_on_with_its_noise(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    rounds(site(ledger_in(path)), 1)
    first = ledger_in(path).charged[0]
    rounds(site(ledger_in(path), run_settings=planned(rounds=50)), 2)
    assert ledger_in(path).charged == [first, first]


def test_the_next_run_shares_out_what_is_left() -> None:
    ledger = site()._ledger
    rounds(site(ledger), 1)
    later = site(ledger, run="later")
    assert ledger.noise_multiplier("later") != ledger.noise_multiplier("r")
    assert 7.9 < rounds(later, 1, 2, 3)[-1] <= 8.0


def test_more_than_was_planned_is_charged_as_it_is() -> None:
    made = site(settings=PrivacySettings(epsilon=8.0, delta=1e-5))
    longer = TrainingSettings(local_epochs=2, batch_size=8)
    rounds(made, 1, training=longer)
    assert made._ledger.charged[0].steps == 6
    with pytest.raises(Refused, match="used up"):
        rounds(made, 2, training=longer)


def test_it_is_charged_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    made = site()

    def crash(*args: Any, **options: Any) -> None:
        assert len(made._ledger.charged) == 1
        raise TrainingError("crashed")

    monkeypatch.setattr(privacy, "train_privately", crash)
    with pytest.raises(TrainingError):
        rounds(made, 1)
    assert made.epsilon == epsilon_of(made._ledger.charged, delta=1e-5) > 0


def test_a_model_that_is_not_finite_costs_nothing(tmp_path: Path) -> None:
    path, spoilt = tmp_path / "l.jsonl", group_net()
    made = site(ledger_in(path))
    with torch.no_grad():
        spoilt.fc.weight[0, 0] = float("nan")
    for number in (1, 2):
        with pytest.raises(TrainingError, match="weights that are not finite: nothing was trained, and no privacy"):
            made.train(spoilt, TRAINING, round_number=number, compute=Compute(CPU))
    assert (made.epsilon, spent_in(path).rounds) == (0.0, 0)
    assert rounds(made, 3)[0] > 0.0, "the next one that is whole is trained on"


def test_a_training_that_is_stopped_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    made = site(ledger_in(path))
    rounds(made, 1)
    spent = made.epsilon
    made.train(group_net(), TRAINING, round_number=2, compute=Compute(CPU), should_stop=lambda: True)
    assert made.epsilon == spent == spent_in(path).epsilon
    assert spent_in(path).rounds == 1


def test_no_epochs_cost_nothing() -> None:
    made = site()
    assert rounds(made, 1, training=TrainingSettings(local_epochs=0, batch_size=8)) == [0.0]


def test_each_round_says_what_is_spent() -> None:
    said: list[str] = []
    made = site(notice=said.append)
    rounds(made, 1)
    assert said[0] == "privacy: a ledger is new: nothing has been spent of these scans so far"
    assert said[1].startswith("privacy: 3 rounds of 3 steps, each with 33.3% of the scans by chance and noise of ")
    assert said[2] == f"privacy: epsilon {made.epsilon:.4g} of 8 spent (delta 1e-05)"


def test_what_cannot_be_private_is_declined_when_the_run_or_a_round_asks_for_it() -> None:
    with pytest.raises(Refused, match="the run trains tiny-gn, whose BatchNorm mixes scans") as caught:
        site(model=tiny_net())
    assert caught.value.code == "declined"
    balanced = TrainingSettings(balance="loss")
    with pytest.raises(Refused, match="--balance loss"):
        site(run_settings=planned(training=balanced))
    made = site()
    with pytest.raises(Refused, match="--balance loss"):
        rounds(made, 1, training=balanced)
    assert made.epsilon == 0.0


def test_a_delta_that_gives_a_scan_away_is_refused() -> None:
    with pytest.raises(BadInput, match=r"--dp-delta; found 0\.05; expected less than 1 / 24"):
        site(settings=PrivacySettings(epsilon=8.0, delta=0.05))


# In a workshop, as `worker join` has it


def base() -> torch.Tensor:
    model = group_net(5)
    return pack(model.state_dict(), manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()]))


def workshop(own: MemoryOwnModel, ledger: SiteLedger | None, **changes: Any) -> Workshop:
    data = TinyData(24)
    fields: dict[str, Any] = {
        "run": "r",
        "worker": "client1",
        "model": group_net(),
        "data": data,
        "compute": Compute(CPU),
        "own_model": own,
        "privacy": None if ledger is None else site(ledger, data=data),
    }
    made = Workshop(**(fields | changes))
    intake = made.new_intake(nbytes=made.manifest.total_bytes, sha256=digest_of(base()))
    intake.buffer(0, intake.nbytes)[:] = bytes_of(base())
    return made


def work(made: Workshop, number: int = 1) -> UpdateSaved:
    started = RoundStarted(
        round=number,
        rounds=3,
        transfer=1,
        nbytes=base().numel(),
        sha256=digest_of(base()),
        training={},
        seed=7,
        remaining_s=1.0,
    )
    saved = made.work(started, TRAINING, lambda progress: None)
    assert saved is not None
    return saved


def test_an_update_tells_what_was_spent_and_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    saved = work(workshop(MemoryOwnModel(), ledger_in(path)))
    assert saved.epsilon == spent_in(path).epsilon > 0
    assert (saved.delta, saved.loss) == (PRIVACY.delta, 0.0)
    assert (work(workshop(MemoryOwnModel(), None)).epsilon, work(workshop(MemoryOwnModel(), None)).delta) == (0.0, 0.0)


def test_the_same_seed_gives_other_updates(tmp_path: Path) -> None:
    first, second = (work(workshop(MemoryOwnModel(), ledger_in(tmp_path / name))) for name in ("a.jsonl", "b.jsonl"))
    assert first.sha256 != second.sha256


def test_an_update_that_is_sent_again_is_neither_trained_nor_charged_again(tmp_path: Path) -> None:
    path, own = tmp_path / "l.jsonl", MemoryOwnModel()
    made = workshop(own, ledger_in(path))
    first = work(made)
    assert work(made) == first, "within one process"
    assert work(workshop(own, ledger_in(path))) == first, "after a restart"
    assert (own.writes, spent_in(path).rounds) == (1, 1)
    work(workshop(own, ledger_in(path)), number=2)
    assert (own.writes, spent_in(path).rounds) == (2, 2)


def test_the_saved_model_names_the_ledger_that_it_was_charged_to(tmp_path: Path) -> None:
    path, own = tmp_path / "l.jsonl", MemoryOwnModel()
    work(workshop(own, ledger_in(path)))
    assert own.saved is not None
    ledger_in(path).require(own.saved[1].ledger, beside="client_1.pth")


def test_what_was_trained_without_privacy_is_not_sent_as_if_it_had_any(tmp_path: Path) -> None:
    own = MemoryOwnModel()
    plain = work(workshop(own, None))
    private = work(workshop(own, ledger_in(tmp_path / "l.jsonl")))
    assert private.sha256 != plain.sha256
    assert (own.writes, private.epsilon > 0) == (2, True)


def test_what_rounding_lost_without_privacy_is_not_made_up_for_with_it(tmp_path: Path) -> None:
    own, path = MemoryOwnModel(), tmp_path / "l.jsonl"
    int8 = form_named("int8", option="--compress")
    made = workshop(own, None, update_form=int8)
    work(made)
    plain = own.rounded
    assert plain is not None and not plain.is_private
    private = workshop(own, ledger_in(path), update_form=int8)
    assert not private._goes_on_from(plain) and made._goes_on_from(plain)
    first = work(private)
    rounded: Rounded | None = own.rounded
    assert rounded is not None and rounded is not plain and rounded.is_private
    assert private._goes_on_from(rounded)
    assert work(workshop(own, ledger_in(path), update_form=int8)) == first, "a rounded update is sent again as it was"
