import io
import re

import pytest
from rich.console import Console

from fednet.config import WorkerName
from fednet.reporting.console import RunConsole, those_that_matter
from fednet.reporting.reporter import WorkerView
from tests.reporting.rounds import DOCUMENT, round_document
from tests.reporting.screens import drawn, terminal


def at_work(name: str, left_s: float) -> WorkerView:
    return WorkerView(
        name=WorkerName(name),
        activity="training",
        fraction=0.5,
        remaining_s=left_s,
        images_per_s=80.0,
        loss=0.75,
        samples=58,
        device="cuda:0",
    )


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


@pytest.mark.parametrize(("workers", "lines"), [(4, 10), (1000, 1)])
def test_of_many_workers_not_each_change_is_a_plain_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workers: int, lines: int
) -> None:
    console = RunConsole()
    views = [WorkerView(name=WorkerName(f"client{number}")) for number in range(workers)]
    for second in range(10):
        monkeypatch.setattr("time.monotonic", lambda second=second: 1000.0 + second)
        console.status(f"round 1, waiting for {workers - second} of {workers}", views)
    assert len(capsys.readouterr().out.splitlines()) == lines


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_the_curve_the_last_rounds_and_every_worker(width: int) -> None:
    screen = terminal(width=width)
    console = RunConsole(
        rounds=10, earlier=[round_document(number, number / 10) for number in range(1, 8)], console=screen
    )
    lost = WorkerView(name=WorkerName("client2"), activity="lost its connection", is_connected=False)
    console.status("round 8 of 10, waiting for 2 of 2: client1 is training", [at_work("client1", 40.0), lost])
    console.close()
    shown = drawn(screen)
    assert "round 8 of 10, waiting for 2 of 2 - 1 of 2 workers connected - about 3 min left" in shown
    assert "accuracy 0.100 ▁▂▃▅▆▇█ 0.700  macro F1 0.350  best: round 7" in shown
    assert [line.split()[0] for line in shown.splitlines() if "1 of 2  " in line and "client2" in line] == [
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
    assert any(line.startswith("client1") and "40 s" in line and "0.750" in line for line in shown.splitlines())
    assert any(line.startswith("client2") and "lost its connection" in line for line in shown.splitlines())
    assert all(len(line) <= width for line in shown.splitlines())
    assert ("cuda:0" in shown) is (width == 120)


def test_a_round_on_a_terminal_leaves_its_reasons_and_at_the_end_the_table() -> None:
    screen = terminal()
    console = RunConsole(rounds=2, earlier=[round_document(1, 0.25)], console=screen)
    console.status("round 2 of 2", [])
    console.round_committed(round_document(2, 0.5))
    console.close()
    shown = drawn(screen)
    assert "round 2: client2 rejected: it points away" in shown
    rows = shown[shown.rindex("round  accuracy") :].splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [["2", "0.500"]], "of an earlier process's rounds, that one has told"


def test_of_a_thousand_workers_those_are_shown_that_matter_and_the_others_counted() -> None:
    screen = terminal(width=120, height=30)
    console = RunConsole(console=screen)
    views = [
        WorkerView(name=WorkerName(f"client{number:04d}"), activity="done with this round") for number in range(996)
    ]
    views += [at_work("client0996", 5.0), at_work("client0997", 300.0)]
    views += [WorkerView(name=WorkerName(f"client{n:04d}"), activity="left", is_connected=False) for n in (998, 999)]
    console.status("round 1 of 3, waiting for 4 of 1000: ...", views)
    console.close()
    shown = drawn(screen)
    assert all(name in shown for name in ("client0996", "client0997", "client0998", "client0999"))
    assert "and 983 more: 983 done with this round" in shown
    assert len(shown.splitlines()) <= 30


def test_who_is_lost_takes_half_of_the_lines_at_most() -> None:
    lost = [WorkerView(name=WorkerName(f"a{n}"), is_connected=False) for n in range(9)]
    busy = [at_work(f"b{n}", float(n)) for n in range(9)]
    assert [view.name for view in those_that_matter([*lost, *busy], most=4)] == ["a0", "a1", "b7", "b8"]
    assert those_that_matter(busy[:2], most=4) == busy[:2]


def test_quiet_leaves_warnings_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = RunConsole(quiet=True)
    console.notice("listening")
    console.notice("Warning: client3 is slow")
    console.status("round 1", [])
    console.round_committed(DOCUMENT)
    console.close()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Warning: client3 is slow\n")


@pytest.mark.parametrize(("environment", "has_colours"), [({"NO_COLOR": "1"}, False), ({}, True)])
def test_no_color_is_obeyed(environment: dict[str, str], has_colours: bool) -> None:
    screen = terminal(environment=environment)
    console = RunConsole(rounds=3, console=screen)
    console.round_committed(round_document(1, 0.5))
    console.status("round 2 of 3", [at_work("client1", 40.0)])
    console.close()
    assert isinstance(screen.file, io.StringIO)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.file.getvalue())) is has_colours


def test_colours_that_are_forced_into_a_file_make_no_live_view_of_it() -> None:
    file = io.StringIO()
    console = RunConsole(console=Console(file=file, force_terminal=True, force_interactive=True, highlight=False))
    console.status("round 1, waiting for 2 of 2: ...", [at_work("client1", 40.0)])
    console.close()
    assert file.getvalue() == "round 1, waiting for 2 of 2: ...\n"


def test_a_view_is_a_sentence() -> None:
    view = WorkerView(name=WorkerName("client3"), activity="training", fraction=0.62, remaining_s=40.0)
    assert view.sentence() == "client3 is training, 62%, about 40 s left"
    view.is_connected, view.activity = False, "lost its connection"
    assert view.sentence() == "client3 lost its connection"
