import errno
import os
from pathlib import Path

import pytest

from fednet.errors import DiskFull, StorageError, SyncFailed
from fednet.storage import disk


def test_every_operation_is_shown_before_it_is_done(tmp_path: Path) -> None:
    seen: list[tuple[disk.Kind, bool]] = []
    path = tmp_path / "new" / "file"
    with disk.watched(lambda operation: seen.append((operation.kind, path.exists()))):
        disk.make_folder(path.parent)
        file = disk.File(path, mode=0o600)
        file.write(0, b"abc")
        file.sync()
        file.close()
        disk.unlink(path)
    assert [kind for kind, _ in seen if kind is not disk.Kind.SYNC_FOLDER] == [
        disk.Kind.MAKE_FOLDER,
        disk.Kind.CREATE,
        disk.Kind.WRITE,
        disk.Kind.SYNC,
        disk.Kind.UNLINK,
    ]
    assert dict(seen)[disk.Kind.UNLINK], "it is there still"
    assert not dict(seen)[disk.Kind.MAKE_FOLDER]
    disk.unlink(path)
    assert seen[-1][0] is disk.Kind.UNLINK, "nobody watches any more"


def test_a_failed_fsync_stops_and_is_told_from_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = disk.File(tmp_path / "file", mode=0o600)
    numbers = iter([errno.EIO, errno.ENOSPC])

    def fails(descriptor: int) -> None:
        number = next(numbers)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SyncFailed, match="did not keep what was written"):
        file.sync()
    with pytest.raises(OSError, match="No space left"):
        file.sync()
    file.close()


def test_room_and_other_trouble_are_told_apart(tmp_path: Path) -> None:
    assert isinstance(disk.storage_error(tmp_path, OSError(errno.EDQUOT, "quota")), DiskFull)
    other = disk.storage_error(tmp_path, OSError(errno.EACCES, "Permission denied"))
    assert type(other) is StorageError
    assert "cannot be written (Permission denied)" in str(other)


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    disk.unlink(tmp_path / "nothing")
    disk.remove_folder(tmp_path / "nothing")
