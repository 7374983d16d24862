import json
from pathlib import Path

import pytest

from tests.audit.finished import make_run, settings
from tests.commands.running import run
from tests.reporting.cards import EXAMINED


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, one that an older version finished, and one that stopped."""
    folder = tmp_path_factory.mktemp("cards") / "runs"
    for name, site in (
        ("new", make_run(folder.parent / "a", examine=lambda flat: EXAMINED)),
        ("old", make_run(folder.parent / "b")),
        ("stopped", make_run(folder.parent / "c", run_settings=settings(rounds=9), rounds=2)),
    ):
        folder.mkdir(exist_ok=True)
        site.run.rename(folder / name)
    return folder


def test_a_runs_cards_are_printed_as_they_are(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    ran = run(capsys, "runs", "card", "new")
    assert (ran.code, ran.out) == (0, (runs / "new" / "final.card.md").read_text())
    assert run(capsys, "runs", "card", runs / "new", "--best").out.startswith("# Model card of best.pth\n")
    found = json.loads(run(capsys, "runs", "card", "new", "--json", "--best").out)
    assert (found["model"]["file"], found["model"]["round"]) == ("best.pth", 1)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("old", "found no final.card.md, 2 of 2 rounds done. `coordinator start --resume` writes"),
        ("stopped", "found no final.card.md, 2 of 9 rounds done; expected a run that has finished"),
        ("nowhere", "no run.sqlite there"),
    ],
)
def test_a_run_without_a_card_is_one_line(
    runs: Path, name: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run(capsys, "runs", "card", runs / name)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert complaint in ran.err
