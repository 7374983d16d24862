import pytest

from fednet.reporting import reading
from fednet.reporting.reading import progress_shown, reading_shown
from tests.reporting.screens import drawn, terminal


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    notices: list[str] = []
    with reading_shown("client1_data", notice=notices.append) as told:
        for done in range(1000, 3000, 1000):
            told(done, 3264)
    assert notices == ["reading client1_data: 1000 of 3264 scans"], "5 s have not passed"


def test_what_is_not_told_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    notices: list[str] = []
    with reading_shown("client1_data", notice=notices.append):
        pass
    assert not notices
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("rank", "is_shown"), [("0", True), ("1", False)])
def test_on_a_terminal_a_bar_comes_and_goes(monkeypatch: pytest.MonkeyPatch, rank: str, is_shown: bool) -> None:
    screen, notices = terminal(), list[str]()
    monkeypatch.setattr(reading, "Console", lambda stderr: screen)
    monkeypatch.setenv("RANK", rank)
    with reading_shown("client[1]_data", notice=notices.append) as told:
        assert drawn(screen) == ""
        told(1000, 3264)
        told(2000, 3264)
    assert ("2000/3264" in drawn(screen) and "client[1]_data" in drawn(screen)) is is_shown
    assert bool(notices) is not is_shown


def test_whoever_asks_for_quiet_sees_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal()
    monkeypatch.setattr(reading, "Console", lambda stderr: screen)
    with progress_shown("copying into here", "files", notice=lambda text: None, quiet=True) as told:
        told(1000, 3264)
    assert drawn(screen) == ""
