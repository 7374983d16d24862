import logging
import threading
from typing import Any

import pytest

from fednet.config import WorkerName
from fednet.reporting import aside
from fednet.reporting.aside import Aside
from fednet.reporting.reporter import NullReporter, WorkerView


class Terminal(NullReporter):
    """Keeps what it is told; stands still while `goes_on` is not set, and fails at `fails_at`."""

    def __init__(self, *, fails_at: str = "", fails_with: BaseException | None = None) -> None:
        self.told: list[str] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._fails_at, self._fails_with = fails_at, fails_with
        self.is_closed = False

    def notice(self, text: str) -> None:
        self.goes_on.wait()
        if self._fails_with is not None and text == self._fails_at:
            raise self._fails_with
        self.told.append(text)

    def status(self, text: str, views: list[WorkerView]) -> None:
        self.notice(f"{text} {[view.activity for view in views]}")

    def round_committed(self, document: dict[str, Any]) -> None:
        self.notice(f"round {document['round']}")

    def close(self) -> None:
        self.is_closed = True


def test_everything_that_was_told_is_shown_in_order_before_the_end() -> None:
    terminal = Terminal()
    told = Aside(terminal)
    for number in range(100):
        told.notice(str(number))
    told.round_committed({"round": 1})
    told.close()
    assert terminal.told == [*map(str, range(100)), "round 1"]
    assert terminal.is_closed


def test_a_terminal_that_stands_still_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_PATIENCE_S", 0.05)
    terminal = Terminal()
    terminal.goes_on.clear()
    told = Aside(terminal)
    view = WorkerView(name=WorkerName("client1"), activity="joined")
    told.notice("first")
    for number in range(3000):
        view.activity = f"training {number}"
        told.status("waiting", [view])
        told.notice(str(number))
    view.activity = "left"
    told.close()
    assert terminal.told == []
    terminal.goes_on.set()
    told._thread.join(5)
    assert terminal.told[1:-1] == [str(number) for number in range(2000, 3000)]
    assert terminal.told[-1] == "waiting ['training 2999']", "as it was when it was told, and once"


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), SystemExit(1), RuntimeError("any")])
def test_a_terminal_that_fails_is_told_nothing_more_and_ends_nothing(
    trouble: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal(fails_at="broken", fails_with=trouble)
    told = Aside(terminal)
    with caplog.at_level(logging.WARNING):
        for text in ("before", "broken", "after"):
            told.notice(text)
        told.close()
    assert terminal.told == ["before"]
    assert terminal.is_closed
    assert caplog.text.count("nothing is shown any more") == 1
