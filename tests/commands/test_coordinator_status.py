"""`cli.py coordinator status` of a run whose status file is not as a coordinator writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.running import run
from tests.reporting.test_status import begun


@pytest.mark.parametrize("status", ["[]", "{}", '{"updated": "soon"}', '{"updated": "2999-01-01T00:00:00+00:00"}'])
def test_a_status_that_no_coordinator_writes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    store = begun(tmp_path)
    (tmp_path / "status.json").write_text(status)
    ran = run(capsys, "coordinator", "status", "--run-dir", str(tmp_path))
    store.close()
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "not as a coordinator writes it" in ran.err
