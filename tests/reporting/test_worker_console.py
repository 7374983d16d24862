import pytest

from fednet.reporting.reporter import Transfer
from fednet.reporting.worker_console import WorkerConsole
from fednet.worker.progress import TrainingProgress
from tests.audit.records import chain, closing
from tests.reporting.screens import drawn, terminal

CLOSED = closing(chain({"client1": "1" * 64})[1], 0, weight=0.25, metrics={"accuracy": 0.5})


def test_a_worker_hears_what_became_of_its_update(capsys: pytest.CaptureFixture[str]) -> None:
    console = WorkerConsole()
    console.notice("same")
    console.notice("same")
    console.training(1, TrainingProgress(0.5, 1, 0.75, 80.0, 12.0))
    console._plain_training._last_s -= 20.0
    console.training(1, TrainingProgress(0.5, 1, None, 80.0, 12.0))
    console.round_closed(CLOSED)
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "same",
        "round 1: training 50%, loss 0.750, 80 images/s, about 12 s left",
        "round 1: training 50%, 80 images/s, about 12 s left",
        "round 1 closed: selected, weight 0.25. Global model: accuracy 0.500",
    ]


def test_without_a_terminal_a_transfer_is_told_of_where_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    console = WorkerConsole()
    for done in (1_000_000, 2_000_000):
        console.transferring(1, Transfer(is_update=True, done=done, total=44_700_000))
    assert capsys.readouterr().out == ""
    console._plain_transfer._last_s -= 20.0
    console.transferring(1, Transfer(is_update=True, done=12_300_000, total=44_700_000))
    assert capsys.readouterr().out == "round 1: 12.3 of 44.7 MB of the update are sent\n"


def test_without_a_terminal_training_is_told_of_whatever_was_transferred_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = WorkerConsole()
    console.transferring(1, Transfer(is_update=False, done=1_000_000, total=44_700_000))
    console.training(1, TrainingProgress(0.5, 1, 0.75, 80.0, 12.0))
    assert capsys.readouterr().out == "round 1: training 50%, loss 0.750, 80 images/s, about 12 s left\n"


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_epoch_batch_loss_and_pace(width: int) -> None:
    screen = terminal(width=width)
    console = WorkerConsole(console=screen)
    for loss in (1.0, 0.5):
        console.training(4, TrainingProgress(0.62, 2, loss, 128.4, 40.0, epochs=3, batch=47, batches=75))
    console.close()
    shown = drawn(screen)
    assert "round 4: training, epoch 2 of 3, batch 47 of 75" in shown
    assert "62%  about 40 s left" in shown
    assert "loss 0.500 █▁  128 images/s" in shown
    assert all(len(line) <= width for line in shown.splitlines())


def test_a_terminal_tells_no_loss_under_differential_privacy() -> None:
    screen = terminal()
    console = WorkerConsole(console=screen)
    console.training(4, TrainingProgress(0.5, 1, None, 128.4, 40.0, batch=8, batches=16))
    console.close()
    shown = drawn(screen)
    assert "round 4: training, batch 8 of 16" in shown
    assert "loss" not in shown


def test_a_terminal_shows_the_bytes_of_an_upload_and_the_verdict_so_far() -> None:
    screen = terminal()
    console = WorkerConsole(console=screen)
    console.round_closed(CLOSED)
    console.round_closed(closing(chain({"client1": "1" * 64})[1], 0, weight=0.25, metrics={"accuracy": 0.75}))
    console.transferring(2, Transfer(is_update=True, done=12_300_000, total=44_700_000))
    console.close()
    console.transferring(3, Transfer(is_update=False, done=0, total=44_700_000))
    console.close()
    shown = drawn(screen)
    assert "round 1 closed: selected, weight 0.25. Global model: accuracy 0.500" in shown
    assert "round 2: sending the update" in shown
    assert "12.3 MB of 44.7 MB" in shown
    assert "round 3: receiving the model" in shown
    assert "global model's accuracy ▁█ 0.750" in shown


def test_what_is_printed_comes_after_what_was_under_way() -> None:
    screen = terminal()
    console = WorkerConsole(console=screen)
    console.training(1, TrainingProgress(0.5, 1, 0.5, 80.0, 12.0))
    console.notice("round 1: the update arrived and is stored")
    console.close()
    assert drawn(screen).rstrip().endswith("round 1: the update arrived and is stored")


def test_quiet_leaves_warnings_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = WorkerConsole(quiet=True)
    console.notice("joined")
    console.notice("Warning: the certificate was not renewed")
    console.training(1, TrainingProgress(0.5, 1, 0.5, 80.0, 12.0))
    console.transferring(1, Transfer(is_update=True, done=1, total=2))
    console.round_closed(CLOSED)
    console.close()
    assert capsys.readouterr() == ("", "Warning: the certificate was not renewed\n")
