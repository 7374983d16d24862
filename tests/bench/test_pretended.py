import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fednet.bench.pretended import PretendedRun, names
from fednet.reporting.run_view import overview, verdicts, view_of
from fednet.reporting.status import live_status
from fednet.storage.history import Standing, read_history


@pytest.mark.parametrize("workers", [5, 30, 120])
def test_a_pretended_run_reads_as_a_real_one(tmp_path: Path, workers: int) -> None:
    run = PretendedRun(tmp_path / "run", workers=names(workers), attackers=["client5"], rounds=4)
    for number in (1, 2, 3):
        run.commit(number)
    run.show_status(4, 0.5)
    history = read_history(run.folder)
    assert history.standing is Standing.RUNNING
    seen = overview(history, live_status(run.folder), now=datetime.now(UTC), events=[], audit=None)
    assert seen["rounds_done"] == 3
    json.dumps([seen, view_of(history.round(2))], allow_nan=False)
    found = verdicts(history)
    assert found["grid"][found["workers"].index("client5")] == "rrr"
    assert len(found["workers"]) == workers
    run.close()
    assert read_history(run.folder).ending.startswith("finished")
