"""Whole runs behind `--pre similarity`: who sends another's update, or an old one, is named."""

from pathlib import Path

import torch

from fednet.tensors import Manifest, parameters_of
from tests.federation import Federation, Notes, settings


def same(update: torch.Tensor, layout: Manifest) -> torch.Tensor:
    """Send what two workers have agreed on."""
    sent = update.clone()
    parameters = parameters_of(sent, layout)
    parameters.copy_(0.01 * torch.randn(parameters.shape, generator=torch.Generator().manual_seed(1)))
    return sent


async def test_two_that_send_the_same_update_count_once_and_both_are_named(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1, workers=5, quorum=5, pre=("similarity",)))
    notes = Notes()
    liars = [federation.worker(4, tamper=same), federation.worker(5, tamper=same, notes=notes)]
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)), *liars)
    (document,) = federation.notes.documents
    reasons = {entry["worker"]: entry["reason"] for entry in document["updates"]}
    assert "same update as client4's" in reasons["client5"]
    assert "the same update came from client5" in reasons["client4"]
    assert [entry["selected"] for entry in document["updates"]] == [True, True, True, True, False]
    assert document["aggregation"]["note"] == (
        "client4, client5 sent the same update: one counts; "
        "copies: 1, more than f = 0, beyond the guarantee of any rule"
    )
    assert "same update as client4's" in notes.closed[0].reason


async def test_an_update_of_a_round_before_is_known_by_its_bytes(tmp_path: Path) -> None:
    kept: list[torch.Tensor] = []

    def again(update: torch.Tensor, layout: Manifest) -> torch.Tensor:
        kept.append(update.clone())
        return kept[0]

    run_settings = settings(rounds=2, workers=5, quorum=5, byzantine=1, pre=("similarity",))
    federation = Federation(tmp_path, run_settings=run_settings)
    liar = federation.worker(2, tamper=again)
    await federation.run(liar, *(federation.worker(number) for number in (1, 3, 4, 5)))
    first, second = ({entry["worker"]: entry for entry in each["updates"]} for each in federation.notes.documents)
    assert "sent again" not in first["client2"]["reason"]
    assert second["client2"]["reason"] == "rejected before scoring: sent again: client2's update of round 1"
    assert federation.notes.documents[1]["byzantine"] == 0
    assert all("sent again" not in second[name]["reason"] for name in ("client1", "client3", "client4", "client5"))
