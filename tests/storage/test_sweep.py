from pathlib import Path

from fednet.config import RunId, WorkerName
from fednet.storage.store import CommittedRound, RunStore
from fednet.storage.sweep import sweep
from tests.audit.records import chain
from tests.storage.test_store import SETTINGS, stored

RECORDS = chain({}, {})


def store_with(folder: Path, *, rounds: int) -> RunStore:
    """A run of which so many rounds are committed, and the next is under way with one update."""
    store = RunStore(folder)
    store.begin(RunId("run"), SETTINGS, RECORDS[0], manifest="m", software="test")
    for number in range(1, rounds + 1):
        name = f"round-{number:04d}.pth"
        store.update_stored(number, stored("a"))
        store.commit(
            CommittedRound(round=number, checkpoint=name, model_sha256="ab" * 32, document={"round": number}),
            RECORDS[number],
        )
    store.round_begun(rounds + 1, {WorkerName("a"), WorkerName("b")})
    store.update_stored(rounds + 1, stored("a"))
    return store


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names_in(folder: Path) -> set[str]:
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in kept if not name.startswith(("run.sqlite", "lock"))}


def test_what_has_no_row_goes_and_what_has_one_stays(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)
    rows = {"checkpoints/round-0000.pth", "checkpoints/round-0001.pth", "spool/round-0002/a.update"}
    left_over = {
        "checkpoints/round-0002.pth",
        "checkpoints/.round-0002.pth.00ff.tmp",
        ".history.json.00ff.tmp",
        "spool/round-0001/a.update",
        "spool/round-0002/b.update",
        "spool/round-0002/a.decoded",
        "spool/round-0003/a.update",
    }
    write(tmp_path, *rows, *left_over, "history.json")
    assert sweep(store, keeps_updates=False) == []
    assert names_in(tmp_path) == rows | {"history.json"}
    store.close()


def test_updates_that_are_kept_stay(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)
    kept = {"checkpoints/round-0001.pth", "spool/round-0001/a.update", "spool/round-0002/a.update"}
    write(tmp_path, *kept, "spool/round-0001/a.decoded", "spool/round-0001/b.update")
    sweep(store, keeps_updates=True)
    assert names_in(tmp_path) == kept
    store.close()


def test_rounds_that_kept_their_updates_keep_them_when_later_ones_do_not(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=2)
    write(tmp_path, "checkpoints/round-0001.pth", "checkpoints/round-0002.pth", "spool/round-0001/a.update")
    sweep(store, keeps_updates=False)
    assert "spool/round-0001/a.update" in names_in(tmp_path)
    store.close()


def test_a_row_without_its_file_is_said(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=2)
    store.checkpoint_dropped(1)
    assert sweep(store, keeps_updates=False) == [
        f"round 2: its checkpoint {tmp_path}/checkpoints/round-0002.pth is recorded, but missing"
    ]
    store.close()
