import itertools
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fednet.config import PrivacySettings
from fednet.errors import BadInput, StorageError
from fednet.worker.privacy_ledger import SiteMechanism, Spent, spent_in
from tests.worker.private_sites import digest, ledger_in

SETTINGS = PrivacySettings(epsilon=8.0, delta=1e-5, clip=1.0)
STEP = SiteMechanism(noise_multiplier=1.25, sample_rate=0.1, steps=10)
Lines = list[dict[str, Any]]


def written(path: Path) -> Path:
    ledger = ledger_in(path)
    ledger.plan("a", SiteMechanism(noise_multiplier=1.25, sample_rate=0.1, steps=30), SETTINGS)
    ledger.charge("a", 1, STEP, epsilon=1.0, delta=1e-5)
    ledger.charge("a", 2, STEP, epsilon=1.5, delta=1e-5)
    ledger.charge("a", 3, STEP, epsilon=2.0, delta=1e-5)
    ledger.give_back("a", 3, epsilon=1.5, delta=1e-5)
    return path


def test_another_process_finds_what_was_charged_and_not_what_was_given_back(tmp_path: Path) -> None:
    found = ledger_in(written(tmp_path / "l.jsonl"))
    assert found.charged == [STEP, STEP]
    assert found.noise_multiplier("a") == 1.25
    assert found.noise_multiplier("b") is None


def test_what_is_spent_can_be_read_without_an_accountant(tmp_path: Path) -> None:
    assert spent_in(written(tmp_path / "l.jsonl")) == Spent(epsilon=1.5, delta=1e-5, budget=8.0, rounds=2, runs=1)
    with pytest.raises(StorageError, match="no such file"):
        spent_in(tmp_path / "none.jsonl")


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    assert stat.S_IMODE(written(tmp_path / "l.jsonl").stat().st_mode) == 0o600


def rechained(lines: Lines) -> Lines:
    """Name the digests anew, as somebody would who knows how."""
    for before, line in itertools.pairwise(lines):
        line["previous"] = digest(before)
    return lines


def changed(lines: Lines) -> Lines:
    lines[1]["steps"] = 1
    return lines


def without_noise(lines: Lines) -> Lines:
    lines[1]["noise_multiplier"] = 0
    return rechained(lines)


def another_given_back(lines: Lines) -> Lines:
    lines[-1]["round"] = 1
    return lines


def unheard_of(lines: Lines) -> Lines:
    lines[-1]["kind"] = "forgiven"
    return lines


def without_a_run(lines: Lines) -> Lines:
    del lines[-1]["run"]
    return lines


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (changed, "line 3 is not as it was written .it does not follow"),
        (lambda lines: lines[:1] + lines[2:], "line 2 is not as it was written .it does not follow"),
        (lambda lines: lines[1:], "line 1 is not"),
        (without_noise, "line 2 is not as it was written .its figures cannot be"),
        (another_given_back, "line 5 .*gives back what was not charged last"),
        (unheard_of, "line 5 .*kind is 'forgiven'"),
        (without_a_run, "line 5 .*no usable 'run'"),
    ],
)
def test_a_ledger_that_was_changed_is_refused_by_name(
    tmp_path: Path, tamper: Callable[[Lines], Lines], complaint: str
) -> None:
    path = written(tmp_path / "l.jsonl")
    lines = tamper([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for read in (ledger_in, spent_in):
        with pytest.raises(BadInput, match=complaint) as caught:
            read(path)
        assert "l.jsonl" in str(caught.value)


def test_a_ledger_that_lacks_its_end_is_not_the_one_that_a_model_names(tmp_path: Path) -> None:
    path = written(tmp_path / "l.jsonl")
    head = ledger_in(path).head
    ledger_in(path).require(head, beside="client_1.pth")
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:2]))
    with pytest.raises(BadInput, match=r"nothing of what was charged for client_1\.pth"):
        ledger_in(path).require(head, beside="client_1.pth")
    path.unlink()
    with pytest.raises(BadInput, match="Put it back from a backup"):
        ledger_in(path).require(head, beside="client_1.pth")


def test_it_goes_on_after_what_a_crash_tore(tmp_path: Path) -> None:
    path = written(tmp_path / "l.jsonl")
    with path.open("ab") as file:
        file.write(b'{"previous": "')
    ledger = ledger_in(path)
    ledger.charge("a", 3, STEP, epsilon=2.0, delta=1e-5)
    assert len(ledger_in(path).charged) == 3
