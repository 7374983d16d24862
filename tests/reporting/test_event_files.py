import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fednet.reporting import event_files
from fednet.reporting.event_files import EventFiles, scalars_of
from tests.reporting.made_up import round_document


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (round, value) of each curve, as TensorBoard reads them from all files in the folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        events = EventAccumulator(str(path))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return found


def test_a_round_is_metrics_recall_by_class_verdicts_and_seconds() -> None:
    scalars = scalars_of(round_document(2))
    assert scalars["test/accuracy"] == 0.75
    assert scalars["validation/macro_f1"] == 0.74
    assert scalars["recall/glioma"] == 0.75
    assert (scalars["updates/selected"], scalars["updates/rejected"], scalars["updates/absent"]) == (4, 1, 0)
    assert scalars["seconds/train"] == 3.0


def test_a_round_that_was_not_evaluated_still_has_its_verdicts() -> None:
    bare = {"round": 1, "updates": [], "seconds": {"round": 1.0}}
    assert scalars_of(bare) == {"updates/selected": 0, "updates/rejected": 0, "updates/absent": 0, "seconds/round": 1.0}


def test_each_round_is_a_point_of_each_curve(tmp_path: Path) -> None:
    files = EventFiles(tmp_path / "tensorboard")
    for number in (1, 2, 3):
        files.round_committed(round_document(number))
    files.close()
    found = curves(tmp_path / "tensorboard")
    assert found["test/accuracy"] == [(1, 0.5), (2, 0.75), (3, pytest.approx(1 - 0.5 / 3))]
    assert set(found) == set(scalars_of(round_document(1)))


def test_a_run_that_goes_on_has_no_point_twice_and_none_missing(tmp_path: Path) -> None:
    first = EventFiles(tmp_path)
    first.round_committed(round_document(1))
    first.close()
    earlier = [(round_document(number), 1000.0 * number) for number in (1, 2)]  # the second was committed, not written
    second = EventFiles(tmp_path, earlier=earlier)
    second.round_committed(round_document(3))
    second.close()
    assert [step for step, _ in curves(tmp_path)["test/accuracy"]] == [1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_person_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    files = EventFiles(tmp_path)
    files.round_committed(round_document(1))
    files.close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_is_written_before_a_round_is(tmp_path: Path) -> None:
    EventFiles(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_folder_that_cannot_be_written_to_costs_the_curves_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file in its place")
    files = EventFiles(tmp_path / "tensorboard")
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            files.round_committed(round_document(number))
        files.close()
    assert len(caplog.records) == 1
    assert "no more TensorBoard files are written" in caplog.text


def test_a_round_with_something_odd_in_it_costs_the_curves_and_no_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(document: Any) -> dict[str, float]:
        raise ValueError("odd")

    files = EventFiles(tmp_path)
    monkeypatch.setattr(event_files, "scalars_of", refuse)
    files.round_committed(round_document(1))
    files.close()
    assert "odd" in caplog.text
