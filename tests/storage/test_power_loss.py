"""A power loss at any moment leaves the old state or the new one, and never takes back what was acknowledged."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.record import Retention, RunRecord, Timings
from fednet.errors import StorageError, SyncFailed
from fednet.storage import atomic, disk
from fednet.storage.disk import Kind, Operation
from fednet.storage.journal import Journal, read_journal
from fednet.storage.spool import SpoolFile, digest_of_file, spool_path
from fednet.storage.store import RunStore, StoredUpdate, checkpoint_name, has_run
from fednet.storage.sweep import sweep
from fednet.tensors import bytes_of
from tests.storage.power_loss import Check, CrashState, Recording, explore, recorded

SETTINGS = RunSettings(model="small-cnn", image_size=64, classes=("a", "b"), workers=3, quorum=2)
OLD, NEW = b"the old content", b"and the new content, which is longer"
RETURNED = "returned"
WORKER = WorkerName("client1")
UPDATE = bytes(range(1, 25))
KEEPING_ALL, KEEPING_ONE = Retention(), Retention(checkpoints=1)

Record = Callable[[Path], Recording]
"""Does something in an empty folder, and returns what was done."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder in memory, where there is one: recovery there need not wait for the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


# a file replaced, or published


def replacing(folder: Path) -> Recording:
    (folder / "file").write_bytes(OLD)
    with recorded(folder) as recording:
        atomic.write_bytes(folder / "file", NEW)
        recording.mark(RETURNED)
    return recording


def publishing(folder: Path) -> Recording:
    (folder / "file").write_bytes(OLD)
    with recorded(folder) as recording:
        atomic.write_bytes(folder / "source", NEW)
        atomic.publish(folder / "source", folder / "file")
        recording.mark(RETURNED)
    return recording


def replaced(folder: Path, state: CrashState) -> Iterator[str]:
    content = content_of(folder / "file")
    if content not in (OLD, NEW):
        yield "neither the old content nor the new"
    if RETURNED in state.reached and content == OLD:
        yield "the old content is back"


@pytest.mark.parametrize("record", [replacing, publishing])
def test_a_replaced_file_holds_the_old_content_or_the_new(folder: Path, scratch: Path, record: Record) -> None:
    explored = explore(record(folder), scratch, replaced)
    assert not explored.violations
    assert explored.states > 50


def test_a_file_in_new_folders_is_there_once_it_was_written(folder: Path, scratch: Path) -> None:
    def there(folder: Path, state: CrashState) -> Iterator[str]:
        if content_of(folder / "deep" / "deeper" / "file") not in (
            (NEW,) if RETURNED in state.reached else (NEW, None)
        ):
            yield "the file is gone, or torn"

    with recorded(folder) as recording:
        atomic.write_bytes(folder / "deep" / "deeper" / "file", NEW)
        recording.mark(RETURNED)
    explored = explore(recording, scratch, there)
    assert not explored.violations
    assert explored.states > 50


def test_publishing_the_same_file_again_leaves_no_other_name_of_it(folder: Path) -> None:
    atomic.write_bytes(folder / "source", NEW)
    for _ in range(2):
        atomic.publish(folder / "source", folder / "file")
    assert sorted(path.name for path in folder.iterdir()) == ["file", "source"]


# a journal


def journaling(folder: Path) -> Recording:
    with recorded(folder) as recording:
        journal = Journal(folder / "sub" / "log.jsonl")
        for number in range(3):
            journal.append({"line": number, "text": "x" * (30 - 10 * number)})
            recording.mark(str(number))
    return recording


def journaled(folder: Path, state: CrashState) -> Iterator[str]:
    path, acknowledged = folder / "sub" / "log.jsonl", len(state.reached - {""})
    found = [document["line"] for document in Journal(path).documents]
    if found != list(range(len(found))) or len(found) > acknowledged + 1:
        yield "lines that nobody wrote so"
    if len(found) < acknowledged:
        yield "a line that was written is gone"
    Journal(path).append({"line": len(found)})  # over what was torn
    if [document["line"] for document in read_journal(path)] != list(range(len(found) + 1)):
        yield "the journal does not go on"


def test_a_journal_has_the_lines_before_or_the_new_one_too(folder: Path, scratch: Path) -> None:
    explored = explore(journaling(folder), scratch, journaled)
    assert not explored.violations
    assert explored.states > 150


# an update that is acknowledged


def stored_update() -> StoredUpdate:
    return StoredUpdate(
        worker=WORKER,
        sha256=sha256(UPDATE).hexdigest(),
        nbytes=len(UPDATE),
        samples=10,
        train_s=1.0,
        loss=0.5,
        arrived_s=2.0,
        fingerprint="ab" * 32,
    )


def spool_update(folder: Path) -> None:
    file = SpoolFile(spool_path(folder, 1, WORKER), len(UPDATE))
    for offset in (16, 0, 8):
        file.write(offset, memoryview(UPDATE[offset : offset + 8]))
    file.sync()
    file.close()


def receiving(folder: Path, *, row_first: bool = False) -> Recording:
    with recorded(folder) as recording, closing(RunStore(folder)) as store:
        run_record(store, KEEPING_ALL).begin(model(0), manifest="m")
        store.round_begun(1, [WORKER])
        if row_first:
            store.update_stored(1, stored_update())
        spool_update(folder)
        store.update_stored(1, stored_update())
        recording.mark(RETURNED)
    return recording


def received(folder: Path, state: CrashState) -> Iterator[str]:
    if not has_run(folder):
        if RETURNED in state.reached:
            yield "the run is gone"
        return
    with closing(RunStore(folder)) as store:
        yield from sweep(store, keeps_updates=False)
        under_way = store.round_under_way()
        updates = under_way.updates if under_way else ()
        if RETURNED in state.reached and not updates:
            yield "an acknowledged update has no row"
        for update in updates:
            yield from broken_file(spool_path(folder, 1, update.worker), update)


def broken_file(path: Path, update: StoredUpdate) -> Iterator[str]:
    try:
        if digest_of_file(path) != update.sha256:
            yield "a row's file is not what was received"
    except StorageError:
        yield "a row's file is gone"


def test_an_update_with_a_row_is_on_disk_whole(folder: Path, scratch: Path) -> None:
    explored = explore(receiving(folder), scratch, received)
    assert not explored.violations
    assert explored.states > 400


# rounds


class FakeSigner:
    """Signs with the same few bytes."""

    certificate_der = b"certificate"

    def sign(self, header: bytes) -> bytes:
        return b"signature"


def model(number: int) -> torch.Tensor:
    return torch.full((40 + number,), number + 1, dtype=torch.uint8)


def save(path: Path, flat: torch.Tensor, facts: dict[str, Any]) -> None:
    atomic.write_bytes(path, bytes_of(flat))


def run_record(store: RunStore, retention: Retention) -> RunRecord:
    return RunRecord(
        run=RunId("run"),
        settings=SETTINGS,
        store=store,
        save=save,
        signer=FakeSigner(),
        software={"fednet": "test"},
        retention=retention,
    )


def document(number: int, *, macro_f1: float) -> dict[str, Any]:
    update = {
        "worker": WORKER,
        "fingerprint": "ab",
        "sha256": "cd",
        "samples": 10,
        "score": 0.5,
        "selected": True,
        "weight": 1.0,
        "reason": "",
    }
    return {"round": number, "byzantine": 0, "updates": [update], "validation": {"macro_f1": macro_f1, "loss": 1.0}}


def committing(folder: Path, retention: Retention, macro_f1: tuple[float, ...]) -> Recording:
    with recorded(folder) as recording, closing(RunStore(folder)) as store:
        record = run_record(store, retention)
        record.begin(model(0), manifest="m")
        recording.mark("0")
        for number, score in enumerate(macro_f1, start=1):
            record.commit(document(number, macro_f1=score), model(number), Timings(), round_began=0.0)
            recording.mark(str(number))
        record.finish()
        recording.mark("finished")
    return recording


def committed(folder: Path, state: CrashState, *, retention: Retention) -> Iterator[str]:
    acknowledged = len(state.reached & {"0", "1", "2"})  # the beginning counts as one
    if not has_run(folder):
        if acknowledged:
            yield "the run is gone"
        return
    with closing(RunStore(folder)) as store:
        if len(store.rounds()) + 1 < acknowledged:
            yield "a committed round is gone"
        yield from sweep(store, keeps_updates=False)
        yield from broken_checkpoints(store)
        run_record(store, retention).publish()
        yield from broken_checkpoints(store)
        yield from broken_copies(store)
    if "finished" in state.reached and content_of(folder / "final.pth") != bytes(bytes_of(model(2))):
        yield "final.pth is not the last model"


def broken_checkpoints(store: RunStore) -> Iterator[str]:
    rounds = store.rounds()
    names = {each.round: each.checkpoint for each in rounds if each.checkpoint}
    names[len(rounds)] = checkpoint_name(len(rounds))
    for number, name in names.items():
        if content_of(store.folder / "checkpoints" / name) != bytes(bytes_of(model(number))):
            yield f"round {number} is committed, and its checkpoint is not whole"


def broken_copies(store: RunStore) -> Iterator[str]:
    rounds = store.rounds()
    if not rounds:
        return
    best = max(rounds, key=lambda each: each.document["validation"]["macro_f1"])
    if content_of(store.folder / "best.pth") != bytes(bytes_of(model(best.round))):
        yield "best.pth is not the best round's model"
    history = json.loads((store.folder / "history.json").read_text())
    if history["rounds"] != [each.document for each in rounds] or history["best_round"] != best.round:
        yield "history.json does not fit the rows"


@pytest.mark.parametrize("macro_f1", [(0.5, 0.6), (0.6, 0.5)], ids=["second-is-best", "first-is-best"])
@pytest.mark.parametrize("retention", [KEEPING_ALL, KEEPING_ONE], ids=["keeping-all", "keeping-one"])
def test_a_committed_round_is_whole(
    folder: Path, scratch: Path, retention: Retention, macro_f1: tuple[float, ...]
) -> None:
    recording = committing(folder, retention, macro_f1)
    explored = explore(recording, scratch, partial(committed, retention=retention))
    assert not explored.violations
    assert explored.states > 300


def test_a_new_run_keeps_its_own_folder(tmp_path: Path, scratch: Path) -> None:
    def there(folder: Path, state: CrashState) -> Iterator[str]:
        if RETURNED in state.reached and not has_run(folder / "runs" / "run"):
            yield "the run is gone"

    with recorded(tmp_path) as recording, closing(RunStore(tmp_path / "runs" / "run")) as store:
        run_record(store, KEEPING_ALL).begin(model(0), manifest="m")
        recording.mark(RETURNED)
    assert not explore(recording, scratch, there).violations


# the process is killed, started again, and then the power fails


class Killed(BaseException):
    """The process is no more; what it gave to the system stays."""


class FirstProcessDies:
    """Kills the first process to do something of that kind, before it does."""

    def __init__(self, kind: Kind) -> None:
        self._kind: Kind | None = kind

    def __call__(self, operation: Operation) -> None:
        if operation.kind is self._kind:
            self._kind = None
            raise Killed


def test_a_journal_made_by_a_process_that_was_killed_keeps_its_name(folder: Path, scratch: Path) -> None:
    def there(folder: Path, state: CrashState) -> Iterator[str]:
        if RETURNED in state.reached and {"line": 2} not in Journal(folder / "log").documents:
            yield "a line that was written is gone"

    with disk.watched(FirstProcessDies(Kind.SYNC_FOLDER)), recorded(folder) as recording:
        with pytest.raises(Killed):
            Journal(folder / "log").append({"line": 1})
        Journal(folder / "log").append({"line": 2})
        recording.mark(RETURNED)
    assert not explore(recording, scratch, there).violations


def test_a_folder_made_by_a_process_that_was_killed_keeps_its_name(folder: Path, scratch: Path) -> None:
    def there(folder: Path, state: CrashState) -> Iterator[str]:
        if RETURNED in state.reached and content_of(spool_path(folder, 1, WORKER)) != UPDATE:
            yield "a row's file is gone"

    with disk.watched(FirstProcessDies(Kind.SYNC_FOLDER)), recorded(folder) as recording:
        with pytest.raises(Killed):
            spool_update(folder)
        spool_update(folder)
        recording.mark(RETURNED)
    assert not explore(recording, scratch, there).violations


# faults that are found: what is tried above can fail


def no_folder_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk, "sync_folder", lambda folder: None)


def no_file_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk.File, "sync", lambda file: None)


def written_in_place(patch: pytest.MonkeyPatch) -> None:
    def write_bytes(path: Path, content: bytes | memoryview) -> None:
        disk.make_folder(path.parent)
        with closing(disk.File(path, mode=0o644)) as file:
            file.write(0, content)
            file.truncate(len(content))
            file.sync()
        disk.sync_folder(path.parent)

    patch.setattr(atomic, "write_bytes", write_bytes)


def unpatched(patch: pytest.MonkeyPatch) -> None:
    """Leave everything as it is: the fault is in what is recorded."""


committing_two_rounds = partial(committing, retention=KEEPING_ONE, macro_f1=(0.5, 0.6))
are_committed = partial(committed, retention=KEEPING_ONE)


@pytest.mark.parametrize(
    ("fault", "record", "check", "violation"),
    [
        (no_folder_sync, replacing, replaced, "the old content is back"),
        (no_folder_sync, publishing, replaced, "the old content is back"),
        (no_folder_sync, journaling, journaled, "a line that was written is gone"),
        (no_folder_sync, receiving, received, "a row's file is gone"),
        (no_folder_sync, committing_two_rounds, are_committed, "round 1 is committed, and its checkpoint is not whole"),
        (no_file_sync, replacing, replaced, "neither the old content nor the new"),
        (no_file_sync, publishing, replaced, "neither the old content nor the new"),
        (no_file_sync, journaling, journaled, "a line that was written is gone"),
        (no_file_sync, receiving, received, "a row's file is not what was received"),
        (no_file_sync, committing_two_rounds, are_committed, "round 1 is committed, and its checkpoint is not whole"),
        (unpatched, partial(receiving, row_first=True), received, "a row's file is gone"),
        (unpatched, partial(receiving, row_first=True), received, "a row's file is not what was received"),
        (written_in_place, replacing, replaced, "neither the old content nor the new"),
    ],
)
def test_a_fault_is_found(
    folder: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[pytest.MonkeyPatch], None],
    record: Record,
    check: Check,
    violation: str,
) -> None:
    with monkeypatch.context() as patch:
        fault(patch)
        recording = record(folder)
    explored = explore(recording, scratch, check, until=violation)
    assert any(each.startswith(violation) for each in explored.violations)


# an fsync that fails


class FailingDisk:
    """Syncs until it is told to fail, and counts from then on."""

    def __init__(self) -> None:
        self._sync = os.fsync
        self._still_works: int | None = None
        self.syncs = 0

    def fail(self, *, after: int = 0) -> None:
        """Let every fsync fail, after so many more that do not."""
        self._still_works = after

    def fsync(self, descriptor: int) -> None:
        if self._still_works is None:
            return self._sync(descriptor)
        self.syncs += 1
        if self.syncs > self._still_works:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._sync(descriptor)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    failing = FailingDisk()
    monkeypatch.setattr(os, "fsync", failing.fsync)
    return failing


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_replacement_whose_fsync_fails_is_not_tried_again(folder: Path, failing: FailingDisk) -> None:
    atomic.write_bytes(folder / "file", OLD)
    failing.fail()
    with pytest.raises(SyncFailed):
        atomic.write_bytes(folder / "file", NEW)
    assert failing.syncs == 1
    assert contents(folder) == {"file": OLD}


def test_a_replacement_whose_folder_cannot_be_synced_is_not_tried_again(folder: Path, failing: FailingDisk) -> None:
    atomic.write_bytes(folder / "file", OLD)
    failing.fail(after=1)
    with pytest.raises(SyncFailed):
        atomic.write_bytes(folder / "file", NEW)
    assert failing.syncs == 2
    assert contents(folder) in ({"file": OLD}, {"file": NEW})


def test_a_published_file_whose_fsync_fails_is_not_tried_again(folder: Path, failing: FailingDisk) -> None:
    atomic.write_bytes(folder / "file", OLD)
    atomic.write_bytes(folder / "source", NEW)
    failing.fail()
    with pytest.raises(SyncFailed):
        atomic.publish(folder / "source", folder / "file")
    assert failing.syncs == 1
    assert contents(folder)["file"] in (OLD, NEW)


def test_a_line_whose_fsync_fails_is_not_tried_again(folder: Path, failing: FailingDisk) -> None:
    journal = Journal(folder / "log")
    journal.append({"line": 1})
    failing.fail()
    with pytest.raises(SyncFailed):
        journal.append({"line": 2})
    assert failing.syncs == 1
    assert read_journal(folder / "log")[0] == {"line": 1}


def test_an_update_whose_fsync_fails_is_not_tried_again(folder: Path, failing: FailingDisk) -> None:
    with closing(SpoolFile(folder / "update", len(UPDATE))) as file:
        file.write(0, memoryview(UPDATE))
        failing.fail()
        with pytest.raises(SyncFailed):
            file.sync()
    assert failing.syncs == 1
