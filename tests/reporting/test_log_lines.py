import logging

import pytest

from fednet.reporting.log_lines import LogReporter
from fednet.worker.progress import TrainingProgress
from tests.audit.records import chain, closing

DOCUMENT = {
    "round": 2,
    "test": {"accuracy": 0.5, "macro_f1": 0.4, "loss": 1.0},
    "seconds": {"round": 3.0},
    "updates": [{"worker": "client1", "reason": "selected"}],
    "absent": ["client2"],
    "site_evaluation": {"client1": {"of_round": 1, "accuracy": 0.5, "images": 8, "macro_f1": 0.4, "confusion": []}},
}


def test_what_is_reported_becomes_log_lines_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reporter = LogReporter()
    reporter.notice("listening")
    reporter.notice("Warning: client3 is slow")
    reporter.status("round 1, waiting for 3: a", [])
    reporter.status("round 1, waiting for 3: b", [])
    reporter.round_committed(DOCUMENT)
    reporter.training(2, TrainingProgress(0.5, 1, 0.75, 80.0, 12.0))
    reporter.training(2, TrainingProgress(0.6, 1, 0.75, 80.0, 12.0))
    reporter.round_closed(closing(chain({"client1": "1" * 64})[1], 0))
    reporter.close()
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "listening"),
        ("WARNING", "Warning: client3 is slow"),
        ("INFO", "round 1, waiting for 3: a"),
        ("INFO", "round committed"),
        ("INFO", "training"),
        ("INFO", "round closed"),
    ]
    committed = vars(caplog.records[3])["fields"]
    assert (committed["round"], committed["accuracy"], committed["absent"]) == (2, 0.5, ["client2"])
    assert committed["sites"] == {"client1": {"accuracy": 0.5, "images": 8}}
    assert vars(caplog.records[5])["fields"]["verdict"] == "selected"
