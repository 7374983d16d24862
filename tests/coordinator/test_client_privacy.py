"""Whole runs that keep client-level differential privacy."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import opacus  # noqa: F401 - imported by the run where it needs it first: not on the event loop
import pytest
import torch
from torch import nn

from fednet.aggregation.server_optimizer import FRESH
from fednet.audit.verification import verify
from fednet.commands.verify import _what_is_same
from fednet.config import ClientPrivacySettings, RunSettings, WorkerName
from fednet.coordinator.record import Retention
from fednet.coordinator.replay import Replay, Replayed
from fednet.coordinator.round import WorkerRevoked
from fednet.errors import RunParked
from fednet.privacy.accounting import epsilon_after
from fednet.reporting.metrics import evaluate
from fednet.reporting.round_text import privacy_line
from fednet.security.authority import read_certificate
from fednet.security.signing import SignatureCheck
from fednet.simulate.attacks.tamper import tamper_named
from fednet.storage.evidence import read_evidence
from fednet.storage.history import Standing, read_history
from fednet.storage.store import RunStore
from fednet.tensors import views
from tests.federation import CLASSES, Federation, load_flat, manifest, settings
from tests.worker.fakes import TinyData, TinyNet, seeded


class PlainNet(TinyNet):
    """Without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.features[1] = nn.Identity()


def plain_net() -> PlainNet:
    with seeded(0):
        return PlainNet()


def judge(flat: torch.Tensor) -> dict[str, Any]:
    model = plain_net()
    model.load_state_dict(views(flat, manifest(model)))
    metrics = evaluate(model, TinyData(40, seed=99), classes=CLASSES).to_dict()
    return {"test": metrics, "validation": metrics}


def private(*, noise: float = 4.0, epsilon: float = 0.0, **changes: Any) -> RunSettings:
    privacy = ClientPrivacySettings(clip=0.05, noise=noise, epsilon=epsilon)
    return settings(**{"aggregator": "fedavg", "client_privacy": privacy} | changes)


def quiet(**changes: Any) -> RunSettings:
    """Return settings by which noise is too little to change what is selected."""
    return settings(**changes, client_privacy=ClientPrivacySettings(clip=100.0, noise=1e-7))


def federation(folder: Path, run_settings: RunSettings) -> Federation:
    made = Federation(folder, run_settings=run_settings, network=plain_net)
    made.coordinator._judge = judge
    return made


async def whole(folder: Path, run_settings: RunSettings) -> Federation:
    made = federation(folder, run_settings)
    await made.run(*(made.worker(number) for number in range(1, run_settings.workers + 1)))
    return made


async def test_a_run_tells_what_it_has_spent_in_every_round(tmp_path: Path) -> None:
    made = await whole(tmp_path, private(rounds=3))
    told = [document["client_privacy"] for document in made.notes.documents]
    assert [each["rounds"] for each in told] == [1, 2, 3]
    assert told[0]["epsilon"] < told[1]["epsilon"] < told[2]["epsilon"]
    assert all(each["clipped"] == 3 for each in told), "an epoch moves the model further than 0.05"
    for document in made.notes.documents:
        assert document["aggregation"]["squared_distances"] is None
        assert [entry["weight"] for entry in document["updates"]] == pytest.approx([1 / 3] * 3)
        assert all(entry["cosine"] is None for entry in document["updates"])
        assert "clipped to 0.05" in (privacy_line(document) or "")
    card = (tmp_path / "run" / "final.card.md").read_text()
    assert f"epsilon {told[-1]['epsilon']:.3g} at delta 1e-05" in card


async def test_two_runs_of_one_seed_have_other_noise(tmp_path: Path) -> None:
    first = await whole(tmp_path / "1", private(rounds=1))
    again = await whole(tmp_path / "2", private(rounds=1))
    ours, theirs = first.notes.documents[0], again.notes.documents[0]
    assert [each["sha256"] for each in ours["updates"]] == [each["sha256"] for each in theirs["updates"]]
    assert ours["model_sha256"] != theirs["model_sha256"]


async def test_the_run_ends_before_the_round_that_would_exceed_its_epsilon(tmp_path: Path) -> None:
    unlimited = await whole(tmp_path / "free", private(rounds=4))
    epsilon = unlimited.notes.documents[1]["client_privacy"]["epsilon"]
    made = await whole(tmp_path / "bound", private(rounds=4, epsilon=epsilon))
    assert [document["round"] for document in made.notes.documents] == [1, 2]
    history = read_history(tmp_path / "bound" / "run")
    assert history.standing is Standing.FINISHED
    assert "would spend more privacy than the run may" in history.ending
    assert any("ended early, after 2 of 4 rounds: another would spend" in text for text in made.notes.notices)
    assert (tmp_path / "bound" / "run" / "final.pth").exists()
    again = federation(tmp_path / "bound", private(rounds=9, epsilon=epsilon))
    assert again.coordinator._rounds.is_over, "more rounds do not buy more privacy"
    again.store.close()


async def test_a_resumed_run_goes_on_with_what_is_left(tmp_path: Path) -> None:
    first = federation(tmp_path, private(rounds=4))
    first.notes.round_committed = lambda document: first.coordinator.stop("test")  # type: ignore[method-assign]
    with pytest.raises(RunParked):
        await first.run(*(first.worker(number) for number in (1, 2, 3)))
    again = await whole(tmp_path, private(rounds=4))
    told = [document["client_privacy"] for document in again.notes.documents]
    assert [each["rounds"] for each in told] == [2, 3, 4]


async def test_noise_of_a_round_that_was_never_committed_is_counted(tmp_path: Path) -> None:
    first = federation(tmp_path, private(rounds=2))

    def dies(*arguments: Any, **named: Any) -> dict[str, Any]:
        raise RuntimeError("the process dies between drawing and committing")

    first.coordinator._record.commit = dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="dies"):
        await first.run(*(first.worker(number) for number in (1, 2, 3)))
    again = await whole(tmp_path, private(rounds=2))
    assert [document["client_privacy"]["rounds"] for document in again.notes.documents] == [2, 3]
    assert "1 of them of rounds that were not committed" in (privacy_line(again.notes.documents[-1]) or "")


async def test_no_model_of_an_update_without_noise_is_ever_judged(tmp_path: Path) -> None:
    """Without privacy a suspect's update is tried beside the others: that model would be of updates as they came."""
    asked = {"rounds": 3, "workers": 5, "quorum": 5, "byzantine": 1, "aggregator": "multikrum", "reputation_window": 1}
    for folder, run_settings, is_tried in (("open", settings(**asked), True), ("private", quiet(**asked), False)):
        made = federation(tmp_path / folder, run_settings)
        liar = made.worker(5, tamper=tamper_named("sign-flip", seed=0))
        await made.run(*(made.worker(number) for number in (1, 2, 3, 4)), liar)
        documents = made.notes.documents
        assert [each["updates"][4]["selected"] for each in documents] == [False, False, False], "a suspect"
        assert any("validation_with" in document for document in documents) is is_tried


async def test_a_replay_compares_verdicts_and_says_that_noise_cannot_be_drawn_again(tmp_path: Path) -> None:
    run_settings = private(rounds=3)
    made = Federation(tmp_path, run_settings=run_settings, network=plain_net, retention=Retention(updates=True))
    made.coordinator._judge = judge
    await made.run(*(made.worker(number) for number in (1, 2, 3)))
    check = SignatureCheck(read_certificate(made.certs / "authority" / "ca.pem"))
    verified = verify(read_evidence(tmp_path / "run"), history=None, check_signature=check)
    assert verified.findings == ()
    replay = Replay(
        folder=tmp_path / "run",
        settings=run_settings,
        manifest=manifest(plain_net()),
        load=lambda path: (load_flat(path), FRESH),
    )
    assert list(replay.rounds(verified)) == [Replayed(round=number, has_noise=True) for number in (1, 2, 3)]
    shutil.copyfile(tmp_path / "run/spool/round-0002/client1.update", tmp_path / "run/spool/round-0002/client2.update")
    found = list(replay.rounds(verified))
    assert [bool(each.findings) for each in found] == [False, True, False]
    assert _what_is_same(found[0]).startswith("replayed: same verdicts; its model cannot be computed again")


async def test_a_round_that_was_spoilt_when_nothing_was_left_is_not_drawn_again(tmp_path: Path) -> None:
    """After two of four rounds a revocation costs the third its draw: it parks, and a resumed run is finished."""
    limit = epsilon_after(3, multiplier=2.0, delta=1e-5)
    asked = private(rounds=4, workers=4, quorum=2, epsilon=limit)
    first = federation(tmp_path, asked)
    judged = 0

    def spoils(flat: torch.Tensor) -> dict[str, Any]:
        nonlocal judged
        judged += 1
        if judged == 3:  # the noise of the third round is drawn, and its model is being evaluated
            loop.call_soon_threadsafe(
                first.coordinator._desk.events.put_nowait, WorkerRevoked(WorkerName("client4"), "lost")
            )
        return judge(flat)

    loop = asyncio.get_running_loop()
    first.coordinator._judge = spoils
    with pytest.raises(RunParked, match="would spend more"):
        await first.run(*(first.worker(number) for number in (1, 2, 3, 4)))
    assert [document["round"] for document in first.notes.documents] == [1, 2]
    again = federation(tmp_path, asked)
    assert again.coordinator._rounds.is_over
    await again.run()
    history = read_history(tmp_path / "run")
    assert (history.standing, len(history.rounds)) == (Standing.FINISHED, 2)
    assert (tmp_path / "run" / "final.pth").exists()
    store = RunStore(tmp_path / "run")
    assert store.noise_draws() == 3
    store.close()
