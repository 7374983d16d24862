import pytest

from fednet.config import WorkerName
from fednet.reporting.console import RunConsole, WorkerConsole, privacy_line, rejections, round_cells, sites_line
from fednet.reporting.reporter import WorkerView
from fednet.worker.progress import TrainingProgress
from tests.audit.records import chain, closing

DOCUMENT = {
    "round": 2,
    "test": {"accuracy": 0.5, "macro_f1": 0.25},
    "updates": [
        {"worker": "client1", "selected": True, "reason": "selected"},
        {"worker": "client2", "selected": False, "reason": "rejected: it points away"},
    ],
    "seconds": {"train": 1.0, "transfer": 0.25, "aggregate": 0.1, "evaluate": 2.0, "commit": 0.1},
}


def test_a_row_says_who_was_selected_and_who_was_not() -> None:
    assert round_cells(DOCUMENT) == ("2", "0.500", "0.250", "client1", "client2", "1.0 s", "0.2 s", "0.1 s", "2.0 s")
    assert rejections(DOCUMENT) == ["client2 rejected: it points away"]


def test_a_line_says_what_sites_found_of_the_model_before_the_lowest_first() -> None:
    assert sites_line(DOCUMENT) is None
    sites = {"client1": {"accuracy": 0.914, "images": 85}, "client3": {"accuracy": 0.62, "images": 40}}
    told = sites_line(DOCUMENT | {"site_evaluation": sites})
    assert told == "sites on round 1's model: client3 0.62 of 40, client1 0.91 of 85"
    many = {f"client{number}": {"accuracy": number / 100, "images": 9} for number in range(20)}
    told = sites_line(DOCUMENT | {"site_evaluation": many})
    assert told is not None
    assert told.endswith("client7 0.07 of 9, and 12 more")


def test_a_line_says_what_client_level_privacy_has_spent() -> None:
    assert privacy_line(DOCUMENT) is None
    spent = {"epsilon": 3.14159, "delta": 1e-5, "rounds": 2, "clip": 0.5, "clipped": 1}
    told = "client-level privacy spent: epsilon 3.14 at delta 1e-05 for {}; 1 of 2 updates were clipped to 0.5"
    assert privacy_line(DOCUMENT | {"client_privacy": spent}) == told.format("2 noised steps")
    lost = told.format("5 noised steps, 3 of them of rounds that were not committed")
    assert privacy_line(DOCUMENT | {"client_privacy": spent | {"rounds": 5}}) == lost


def test_without_a_terminal_lines_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    console = RunConsole()
    console.status("round 2, waiting for 1 of 2: " + "client1 is training " * 10, [])
    console.status("round 2, waiting for 1 of 2: still", [])
    console.round_committed(DOCUMENT | {"site_evaluation": {"client1": {"accuracy": 0.5, "images": 8}}})
    console.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("client1 is training ")
    assert lines[1].startswith("round | accuracy")
    assert lines[2].startswith("2 | 0.500")
    assert lines[3].strip() == "client2 rejected: it points away"
    assert lines[4].strip() == "sites on round 1's model: client1 0.50 of 8"
    assert "\x1b" not in "".join(lines)


def test_a_worker_hears_what_became_of_its_update(capsys: pytest.CaptureFixture[str]) -> None:
    console = WorkerConsole()
    console.notice("same")
    console.notice("same")
    console.training(1, TrainingProgress(0.5, 1, 0.75, 80.0, 12.0))
    console._last_plain_s = 0.0
    console.training(1, TrainingProgress(0.5, 1, None, 80.0, 12.0))
    console.round_closed(closing(chain({"client1": "1" * 64})[1], 0, weight=0.25, metrics={"accuracy": 0.5}))
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "same",
        "round 1: training 50%, loss 0.750, 80 images/s, about 12 s left",
        "round 1: training 50%, 80 images/s, about 12 s left",
        "round 1 closed: selected, weight 0.25. Global model: accuracy 0.500",
    ]


def test_a_view_is_a_sentence() -> None:
    view = WorkerView(name=WorkerName("client3"), activity="training", fraction=0.62, remaining_s=40.0)
    assert view.sentence() == "client3 is training, 62%, about 40 s left"
    view.is_connected, view.activity = False, "lost its connection"
    assert view.sentence() == "client3 lost its connection"
