"""Clears a run folder of what a process that died left behind: a file without its row does not exist."""

from __future__ import annotations

from fednet.storage import disk
from fednet.storage.atomic import sweep_temporary
from fednet.storage.spool import keep_only, spool_folder
from fednet.storage.store import RunStore, checkpoint_name


def sweep(store: RunStore, *, keeps_updates: bool) -> list[str]:
    """Remove files without a row; return a sentence for each row without its file. Nobody else may hold the run.

    An update whose file is missing is found when its round goes on (`Desk.recovered`).
    """
    checkpoints = store.folder / "checkpoints"
    for folder in (store.folder, checkpoints):
        sweep_temporary(folder)
    rounds = store.rounds()
    names = {each.checkpoint for each in rounds if each.checkpoint} | {checkpoint_name(0)}  # which has no round's row
    for path in checkpoints.glob("round-*.pth"):
        if path.name not in names:
            disk.unlink(path)
    _sweep_spool(store, committed=len(rounds), keeps_updates=keeps_updates)
    return [
        f"round {each.round}: its checkpoint {checkpoints / each.checkpoint} is recorded, but missing"
        for each in rounds
        if each.checkpoint and not (checkpoints / each.checkpoint).exists()
    ]


def _sweep_spool(store: RunStore, *, committed: int, keeps_updates: bool) -> None:
    """Earlier rounds are as their own processes left them; of the last one a crash may have left too much."""
    kept = {spool_folder(store.folder, number) for number in range(1, committed + keeps_updates)}
    under_way = store.round_under_way()
    if under_way is not None:
        kept.add(spool_folder(store.folder, under_way.round))
        keep_only(spool_folder(store.folder, under_way.round), {update.worker for update in under_way.updates})
    if keeps_updates and committed:
        keep_only(spool_folder(store.folder, committed), store.stored_in(committed))
    for folder in (store.folder / "spool").glob("round-*"):
        if folder not in kept:
            disk.remove_folder(folder)
