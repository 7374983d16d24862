import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fednet.commands.runs import _learned, _safe
from fednet.errors import BadInput
from fednet.simulate.attacks.tamper import tamper_named
from fednet.storage.history import read_history, stopped_with
from fednet.storage.store import RunStore
from fednet.worker.held_out import HeldOut
from tests.commands.running import run
from tests.federation import CLASSES, Federation, settings
from tests.worker.fakes import TinyData


@pytest.fixture
async def runs(tmp_path: Path) -> Path:
    """A folder with a finished run, in which client5 lies, and one that was begun only."""
    federation = Federation(tmp_path / "work", run_settings=settings(workers=5, byzantine=1, quorum=5))
    liar = federation.worker(5, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), liar)
    (tmp_path / "runs").mkdir()
    (tmp_path / "work" / "run").rename(tmp_path / "runs" / "liar")
    Federation(tmp_path / "begun").store.close()
    (tmp_path / "begun" / "run").rename(tmp_path / "runs" / "begun")
    return tmp_path / "runs"


def test_runs_are_listed_with_how_they_stand(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = json.loads(run(capsys, "runs", "list", "--runs", runs, "--json").out)
    assert [(each["name"], each["standing"], each["rounds_done"]) for each in listed] == [
        ("begun", "stopped", 0),
        ("liar", "finished", 2),
    ]
    held = RunStore(runs / "begun")
    assert json.loads(run(capsys, "runs", "list", "--runs", runs, "--json").out)[0]["standing"] == "running"
    held.close()
    monkeypatch.setenv("COLUMNS", "200")
    table = run(capsys, "runs", "list", "--runs", runs).out
    assert "2 of 2" in table
    assert "finished" in table


def test_a_round_says_of_each_worker_what_became_of_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "runs", "show", runs / "liar", "--round", 2)
    assert ran.code == 0
    assert "client1: counted with weight 0.25" in ran.out
    assert "client5: did not count: rejected" in ran.out
    assert "cosine to the mean of those that count -" in ran.out
    document = json.loads(run(capsys, "runs", "show", runs / "liar", "--round", 2, "--json").out)
    assert document["round"] == 2


def test_a_run_is_shown_whole_and_by_its_name(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    ran = run(capsys, "runs", "show", "liar")
    assert "finished after 2 of 2 rounds" in ran.out
    assert "round 1: client5 rejected" in ran.out
    assert len(json.loads(run(capsys, "runs", "show", "liar", "--json").out)["history"]) == 2


async def test_what_sites_found_is_shown_and_whose_word_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path)
    judge = HeldOut(TinyData(20, seed=9), classes=CLASSES, is_shared=True, notice=lambda text: None)
    await federation.run(federation.worker(1, held_out=judge), federation.worker(2), federation.worker(3))
    found = federation.notes.documents[-1]["site_evaluation"]["client1"]
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(capsys, "runs", "show", tmp_path / "run").out
    assert "sites, on scans that they hold out, of round 1's model (they say so):" in shown
    table = shown[shown.index("sites, on scans") :].splitlines()
    lowest, name = min((row[label] / sum(row), CLASSES[label]) for label, row in enumerate(found["confusion"]))
    numbers = [f"{found['accuracy']:.3f}", f"{found['macro_f1']:.3f}", f"{lowest:.3f}", f"({name})"]
    assert table[4].split() == ["client1", "20", *numbers]
    one = run(capsys, "runs", "show", tmp_path / "run", "--round", 2).out
    assert f"sites on round 1's model: client1 {found['accuracy']:.2f} of 20" in one


def test_export_writes_what_a_spreadsheet_reads(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "runs", "export", runs / "liar", "--out", tmp_path / "csv").code == 0
    texts = [(tmp_path / "csv" / name).read_text().splitlines() for name in ("rounds.csv", "updates.csv")]
    rounds, updates = (list(csv.DictReader(text)) for text in texts)
    assert [row["selected"] for row in rounds] == ["4", "4"]
    assert 0.0 <= float(rounds[-1]["test_accuracy"]) <= 1.0
    assert [(row["round"], row["worker"], row["selected"]) for row in updates][4] == ("1", "client5", "False")


def test_text_that_would_be_a_formula_is_quoted() -> None:
    assert _safe({"reason": "=1+1", "worker": "client1", "weight": -1.0}) == {
        "reason": "'=1+1",
        "worker": "client1",
        "weight": -1.0,
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["show", "nothing"], "no run.sqlite there"),
        (["show", "liar", "--round", "9"], "2 committed rounds"),
        (["export", "begun"], "no committed round yet"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(runs.parent)
    ran = run(capsys, "runs", *arguments)
    assert ran.code == 2
    assert complaint in ran.err


def test_an_empty_folder_and_a_damaged_run_hide_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run in" in run(capsys, "runs", "list", "--runs", tmp_path).out
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.sqlite").write_bytes(b"not a database, not a database")
    ran = run(capsys, "runs", "list", "--runs", tmp_path)
    assert ran.code == 0
    assert "broken" in ran.err


def test_a_start_that_failed_too_early_hides_no_other_run(tmp_path: Path) -> None:
    """Found in review: it broke `runs list` and every later start."""
    RunStore(tmp_path / "runs" / "never").close()
    with pytest.raises(BadInput, match="never begun"):
        read_history(tmp_path / "runs" / "never")
    assert stopped_with(settings(), tmp_path / "runs") is None


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"loss": 0.25}, "loss 0.250"),
        ({"loss": 0.25, "epsilon": None}, "loss 0.250"),
        (
            {"loss": None, "epsilon": 3.25, "delta": 1e-5},
            "differential privacy of single scans: epsilon 3.25, delta 1e-05 so far",
        ),
    ],
)
def test_a_site_tells_its_loss_or_what_it_has_spent_of_privacy(entry: dict[str, Any], told: str) -> None:
    assert _learned(entry) == told
