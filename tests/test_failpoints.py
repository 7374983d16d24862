import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fednet import failpoints
from fednet.coordinator.round import Phase
from fednet.errors import BadInput, DiskFull, StorageError, SyncFailed
from fednet.storage import atomic, disk
from fednet.worker.session import Stage

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def nothing_stays_armed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_nothing_happens_where_nothing_is_armed() -> None:
    failpoints.reached("disk.sync")


def test_a_failpoint_strikes_once_at_its_hit() -> None:
    failpoints.arm("disk.sync:fail:2")
    failpoints.reached("disk.sync")
    failpoints.reached("disk.write")
    with pytest.raises(OSError, match=r"injected at disk\.sync"):
        failpoints.reached("disk.sync")
    failpoints.reached("disk.sync")


@pytest.mark.parametrize("text", ["", "disk.sync", "disk.sync:explode", "nowhere:die", "disk.sync:die:x"])
def test_what_is_no_failpoint_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=failpoints.VARIABLE):
        failpoints.arm(text)


def test_every_phase_stage_and_operation_has_its_failpoint() -> None:
    of_files = {f"disk.{kind.value}" for kind in disk.Kind}
    assert of_files == set(failpoints.OF_FILES)
    phases = {f"coordinator.{phase.name.lower()}" for phase in Phase if phase is not Phase.PARKED}
    assert phases <= set(failpoints.OF_COORDINATOR)
    assert {f"worker.{stage.name.lower()}" for stage in Stage if stage is not Stage.IDLE} <= set(failpoints.OF_WORKER)


def test_a_process_is_killed_as_by_kill_9(tmp_path: Path) -> None:
    environment = os.environ | {failpoints.VARIABLE: "disk.rename:die"}
    command = [sys.executable, str(ROOT / "cli.py"), "certs", "init", "--certs", str(tmp_path / "certs")]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert again.returncode == 0, "what the dead one left is in nobody's way"


@pytest.mark.parametrize(
    "name", ["disk.create", "disk.write", "disk.sync", "disk.rename", "disk.sync-folder", "disk.make-folder"]
)
def test_every_operation_that_fails_is_a_storage_error_and_keeps_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "old")
    target = tmp_path / "new" / "file" if name == "disk.make-folder" else path
    failpoints.arm(f"{name}:fail")
    with pytest.raises(StorageError) as caught:
        atomic.write_text(target, "new")
    assert not isinstance(caught.value, DiskFull)
    assert isinstance(caught.value, SyncFailed) == name.startswith("disk.sync")
    assert path.read_text() == ("new" if name == "disk.sync-folder" else "old")
