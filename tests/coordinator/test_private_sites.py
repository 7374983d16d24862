"""Whole runs of hospitals that train under differential privacy of their own."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.config import PrivacySettings, TrainingSettings
from fednet.errors import Refused
from fednet.reporting.metrics import evaluate
from fednet.tensors import views
from fednet.worker import service as worker_service
from fednet.worker.privacy import SitePrivacy
from fednet.worker.privacy_ledger import spent_in
from fednet.worker.service import Worker
from fednet.worker.workshop import Workshop
from tests.federation import CLASSES, Federation, Notes, manifest, settings
from tests.worker.fakes import MemoryOwnModel, TinyData
from tests.worker.private_sites import group_net, ledger_in, planned

BUDGET = PrivacySettings(epsilon=8.0, delta=1e-5)


@pytest.fixture(autouse=True)
def workers_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_service, "FIRST_RETRY_S", 0.01)


def judge(flat: torch.Tensor) -> dict[str, Any]:
    model = group_net()
    model.load_state_dict(views(flat, manifest(model)))
    metrics = evaluate(model, TinyData(40, seed=99), classes=CLASSES).to_dict()
    return {"test": metrics, "validation": metrics}


def federation(folder: Path, **changes: Any) -> Federation:
    training = TrainingSettings(batch_size=8, learning_rate=0.05)
    asked: dict[str, Any] = {"training": training, "workers": 2, "quorum": 1, "rounds": 3}
    made = Federation(folder, run_settings=settings(**(asked | changes)), network=group_net)
    made.coordinator._judge = judge
    return made


def private(
    made: Federation,
    number: int,
    *,
    rounds: int,
    own: MemoryOwnModel | None = None,
    notes: Notes | None = None,
    change: Callable[[Workshop], Workshop] = lambda workshop: workshop,
) -> Worker:
    """Return a worker whose budget is that of a run of so many rounds, with its ledger in the federation's folder."""
    data = TinyData(24, seed=number)

    def with_privacy(workshop: Workshop) -> Workshop:
        workshop._privacy = SitePrivacy(
            BUDGET,
            ledger_in(ledger(made, number)),
            run="test-run",
            planned=planned(rounds=rounds),
            data=data,
            model=group_net(),
            notice=lambda text: None,
        )
        return change(workshop)

    return made.worker(number, own=own, data=data, notes=notes, workshop=with_privacy)


def ledger(made: Federation, number: int) -> Path:
    return made.folder / f"client_{number}.privacy.jsonl"


async def test_the_record_says_which_sites_train_privately_and_what_they_claim(tmp_path: Path) -> None:
    made = federation(tmp_path)
    notes = Notes()
    await made.run(private(made, 1, rounds=3, notes=notes), made.worker(2))
    told = [{each["worker"]: each for each in document["updates"]} for document in made.notes.documents]
    spent = spent_in(ledger(made, 1))
    assert [each["client1"]["loss"] for each in told] == [None] * 3
    assert (
        told[0]["client1"]["epsilon"] < told[1]["client1"]["epsilon"] < told[2]["client1"]["epsilon"] == spent.epsilon
    )
    assert told[2]["client1"]["delta"] == spent.delta
    assert all(each["client2"]["loss"] > 0 and each["client2"]["epsilon"] is None for each in told)
    card = json.loads((tmp_path / "run" / "final.card.json").read_text())["privacy"]
    assert card["sites"] == {"client1": {"epsilon": spent.epsilon, "delta": 1e-5}}
    assert "Nothing bounds it for client2." in card["spent"]


async def test_a_cut_connection_charges_nothing_again(tmp_path: Path) -> None:
    made = federation(tmp_path)
    works: list[int] = []

    def cutting(workshop: Workshop) -> Workshop:
        work = workshop.work

        def and_cut(*arguments: Any) -> object:
            result = work(*arguments)
            works.append(arguments[0].round)
            link = made.links["client1"][-1]
            link._loop.call_soon_threadsafe(link.abort, "cut by a test")
            return result

        workshop.work = and_cut  # type: ignore[method-assign, assignment]
        return workshop

    await made.run(private(made, 1, rounds=3, change=cutting), made.worker(2))
    assert len(made.links["client1"]) == 4, "cut in each of three rounds"
    assert works == [1, 2, 3]
    assert spent_in(ledger(made, 1)).rounds == 3
    assert [len(document["updates"]) for document in made.notes.documents] == [2, 2, 2]


async def test_a_worker_without_budget_leaves_and_stays_away_whatever_is_cut_or_restarted(tmp_path: Path) -> None:
    made, own, may_go_on = federation(tmp_path, rounds=4), MemoryOwnModel(), threading.Event()

    def waiting(workshop: Workshop) -> Workshop:
        work = workshop.work

        def and_wait(*arguments: Any) -> object:
            if arguments[0].round == 3:
                may_go_on.wait(30)
            return work(*arguments)

        workshop.work = and_wait  # type: ignore[method-assign, assignment]
        return workshop

    worker, other = private(made, 1, rounds=2, own=own), made.worker(2, workshop=waiting)
    run = asyncio.create_task(made.coordinator.run(made))
    tasks = [asyncio.create_task(each.run()) for each in (worker, other)]
    async with asyncio.timeout(60):
        with pytest.raises(Refused, match="privacy budget used up") as first:
            await tasks[0]
        again = private(made, 1, rounds=2, own=own)  # another process, another connection, the same ledger
        with pytest.raises(Refused, match="privacy budget used up") as second:
            await again.run()
        may_go_on.set()
        await asyncio.gather(run, tasks[1])
    made.store.close()
    assert (first.value.code, second.value.code, second.value.exit_code) == ("declined", "declined", 2)
    assert spent_in(ledger(made, 1)).rounds == 2
    by_round = [{each["worker"] for each in document["updates"]} for document in made.notes.documents]
    assert by_round == [{"client1", "client2"}, {"client1", "client2"}, {"client2"}, {"client2"}]
    assert "privacy budget used up" in str(made.notes.documents[2].get("declined"))
