import json
from pathlib import Path

import pytest

from fednet.config import PrivacySettings
from fednet.storage.journal import Journal
from fednet.worker.privacy_ledger import SiteLedger, SiteMechanism
from tests.commands.running import run
from tests.federation import Federation, settings


@pytest.fixture
async def finished(tmp_path: Path) -> Path:
    """The log of a hospital that has taken part in a run, and its certificates beside it."""
    federation = Federation(tmp_path, run_settings=settings(rounds=2))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    (tmp_path / "client2.audit.jsonl").rename(tmp_path / "client_2.audit.jsonl")
    return tmp_path / "client_2.pth"


def inspected(capsys: pytest.CaptureFixture[str], save: Path, *more: object) -> tuple[int, str, str]:
    ran = run(capsys, "worker", "inspect", "--save", save, "--certs", save.parent / "certs", *more)
    return ran.code, ran.out, ran.err


def test_a_hospital_sees_what_left_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspected(capsys, finished)
    document = json.loads(inspected(capsys, finished, "--json")[1])
    (found,) = document["runs"]
    first, second = found["updates"]
    total = first["nbytes"] + second["nbytes"]
    assert (code, document["bytes"], found["bytes"], found["worker"]) == (0, total, total, "client2")
    assert (document["verifies"], document["signatures_checked"], document["privacy"]) == (True, True, None)
    assert f"2 updates in 1 runs have left this hospital, {total:,} bytes" in out
    row = next(line for line in out.splitlines() if line.startswith("1 "))
    assert first["sha256"][:16] in row and "24" in row and "selected, weight 0.33" in row
    assert f"verifies up to round 2, signatures included; its head is {found['chain']['head']}" in out
    assert "keeps no ledger" in out


def test_a_log_is_looked_at_by_the_workers_number_where_it_lies(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent)
    assert "signatures included" in run(capsys, "worker", "inspect", "--id", "2").out
    assert "but for the signatures" in run(capsys, "worker", "inspect", "--id", "2", "--certs", "none").out
    authority = finished.parent / "certs" / "authority" / "ca.pem"
    given = run(capsys, "worker", "inspect", "--id", "2", "--certs", "none", "--ca", authority)
    assert "signatures included" in given.out


def test_a_record_that_was_changed_ends_with_code_1(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = finished.with_suffix(".audit.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    changed = next(line for line in lines if line["kind"] == "record")
    changed["signature"] = changed["signature"][:-2] + ("00" if changed["signature"][-2:] != "00" else "01")
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = inspected(capsys, finished)
    assert (code, "DOES NOT VERIFY: signature" in out) == (1, True)
    assert "signature: not the coordinator's" in err


def test_a_loss_that_was_not_told_is_said_to_be_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = finished.with_suffix(".audit.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "offered" and line["round"] == 2:
            line |= {"loss": 0.0, "epsilon": 3.5, "delta": 1e-5}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = (
        next(line for line in inspected(capsys, finished)[1].splitlines() if line.startswith(number))
        for number in ("1 ", "2 ")
    )
    assert "not told" in second and "0.000" not in second
    assert "not told" not in first
    updates = json.loads(inspected(capsys, finished, "--json")[1])["runs"][0]["updates"]
    assert updates[0]["loss"] > 0.0
    assert updates[1]["loss"] is None


def test_the_privacy_spent_is_shown_where_there_is_a_ledger(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = SiteLedger(Journal(finished.with_suffix(".privacy.jsonl")), name="client_2")
    mechanism = SiteMechanism(noise_multiplier=1.0, sample_rate=0.1, steps=10)
    ledger.plan("test-run", mechanism, PrivacySettings(epsilon=8.0, delta=1e-5))
    ledger.charge("test-run", 1, mechanism, epsilon=1.25, delta=1e-5)
    code, out, _ = inspected(capsys, finished)
    assert code == 0
    assert "epsilon 1.250 of 8 spent, at delta 1e-05, in 1 trainings of 1 runs" in out


@pytest.mark.parametrize(
    ("options", "said"), [((), "neither --id nor --save"), (("--id", "7"), "client_7.audit.jsonl")]
)
def test_what_is_missing_is_said(
    options: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "worker", "inspect", *options)
    assert (ran.code, said in ran.err) == (2, True)
