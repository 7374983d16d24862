import asyncio
import functools
import json
from pathlib import Path

import pytest
import torch

from fednet.config import WorkerName
from fednet.coordinator.site_evaluation import impossibility, site_evaluation
from fednet.reporting.metrics import evaluate
from fednet.storage.store import StoredUpdate
from fednet.tensors import views
from fednet.worker.held_out import HeldOut
from tests.coordinator.test_service import Telling, await_joined, killed
from tests.federation import CLASSES, Federation, Notes, manifest, settings
from tests.worker.fakes import TinyData, tiny_net


def update(worker: str, confusion: list[int]) -> StoredUpdate:
    return StoredUpdate(
        worker=WorkerName(worker),
        sha256="ab" * 32,
        nbytes=1,
        samples=100,
        train_s=1.0,
        loss=0.5,
        arrived_s=1.0,
        fingerprint="cd" * 32,
        confusion=confusion,
    )


def test_what_sites_told_is_of_the_model_that_the_round_began_with() -> None:
    told = [update("b", [8, 2, 0, 0]), update("a", [6, 2, 0, 5]), update("c", []), update("d", [0, 0, 0, 0])]
    found = site_evaluation(told, classes=2, round_number=4)["site_evaluation"]
    assert list(found) == ["a", "b"]
    assert found["a"] == {
        "of_round": 3,
        "confusion": [[6, 2], [0, 5]],
        "images": 13,
        "accuracy": pytest.approx(11 / 13),
        "macro_f1": pytest.approx((12 / 14 + 10 / 12) / 2),
    }
    assert found["b"]["accuracy"] == 0.8


def test_a_round_in_which_nobody_shares_has_no_such_part() -> None:
    assert site_evaluation([update("a", [])], classes=2, round_number=1) == {}


@pytest.mark.parametrize("confusion", [[], [1, 2, 3, 4], [0, 0, 0, 10]])
def test_counts_that_can_be_are_taken(confusion: list[int]) -> None:
    assert impossibility(confusion, classes=2, samples=10) is None


@pytest.mark.parametrize(
    ("confusion", "complaint"),
    [
        ([1, 2, 3], "confusion has 3 counts, must be 4, or 0 where nothing is shared"),
        ([1] * 9, "confusion has 9 counts, must be 4, or 0 where nothing is shared"),
        ([0, 0, 0, 11], "confusion is of 11 scans, more than the 10 that this site trains on"),
    ],
)
def test_why_counts_cannot_be(confusion: list[int], complaint: str) -> None:
    assert impossibility(confusion, classes=2, samples=10) == complaint


def sharing(seed: int, *, is_shared: bool = True) -> HeldOut:
    return HeldOut(TinyData(20, seed=seed), classes=CLASSES, is_shared=is_shared, notice=lambda text: None)


def found_by(seed: int, checkpoint: Path) -> list[list[int]]:
    """Return what the model in a checkpoint of the tiny run gets right of a site's held-out data."""
    flat, model = torch.frombuffer(bytearray(checkpoint.read_bytes()), dtype=torch.uint8), tiny_net()
    model.load_state_dict(views(flat, manifest()))
    return evaluate(model, TinyData(20, seed=seed), classes=CLASSES).confusion


async def test_a_rounds_document_says_what_each_site_that_shares_found_of_the_model_before(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    quiet = federation.worker(3, held_out=sharing(13, is_shared=False))
    await federation.run(federation.worker(1, held_out=sharing(11)), federation.worker(2, held_out=sharing(12)), quiet)
    for document in federation.notes.documents:
        before = document["round"] - 1
        sites = document["site_evaluation"]
        assert list(sites) == ["client1", "client2"], "client3 keeps it to itself"
        checkpoint = tmp_path / "run" / "checkpoints" / f"round-{before:04d}.pth"
        for name, seed in (("client1", 11), ("client2", 12)):
            assert sites[name]["of_round"] == before
            assert sites[name]["confusion"] == found_by(seed, checkpoint)
            assert sites[name]["images"] == 20
    assert json.loads((tmp_path / "run" / "history.json").read_text())["rounds"] == federation.notes.documents


async def test_sharing_changes_neither_models_nor_the_rest_of_the_document(tmp_path: Path) -> None:
    plain, told = Federation(tmp_path / "plain"), Federation(tmp_path / "told")
    await plain.run(*(plain.worker(number) for number in (1, 2, 3)))
    await told.run(*(told.worker(number, held_out=sharing(number)) for number in (1, 2, 3)))
    assert told.model() == plain.model()
    ours, theirs = told.notes.documents[-1], plain.notes.documents[-1]
    assert ours.keys() - theirs.keys() == {"site_evaluation"}


async def test_a_coordinator_that_dies_within_a_round_keeps_what_sites_told(tmp_path: Path) -> None:
    changed = settings(rounds=1, workers=2, quorum=2)
    federation = Federation(tmp_path, run_settings=changed)
    notes = Telling()
    early = federation.worker(1, notes=notes, held_out=sharing(11))
    link = asyncio.create_task(await_joined(federation, "client2"))
    tasks = await killed(federation, early, after=[notes])
    link.cancel()
    await asyncio.gather(link, return_exceptions=True)
    again = Federation(tmp_path, run_settings=changed)
    early._connect = functools.partial(again.connect, "client1")
    await again.run(again.worker(2, held_out=sharing(12)))
    await asyncio.gather(*tasks)
    assert "client1 delivered already" in " ".join(again.notes.notices)
    assert list(again.notes.documents[0]["site_evaluation"]) == ["client1", "client2"]


async def test_an_update_with_impossible_counts_is_refused_by_name(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(deadline_s=0.5, rounds=1))
    boasting = HeldOut(TinyData(100), classes=CLASSES, is_shared=True, notice=lambda text: None)
    notes = Notes()
    await federation.run(
        federation.worker(1), federation.worker(2), federation.worker(3, notes=notes, held_out=boasting)
    )
    assert any("confusion is of 100 scans, more than the 24" in text for text in notes.notices)
    assert [each["worker"] for each in federation.notes.documents[0]["updates"]] == ["client1", "client2"]
