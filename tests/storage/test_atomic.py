import errno
import os
from pathlib import Path

import pytest

from fednet.errors import DiskFull, StorageError
from fednet.storage import atomic, disk


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic.write_text(path, "one")
    atomic.write_text(path, "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_failure_in_the_middle_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> None:
        raise RuntimeError("stopped before the rename")

    path = tmp_path / "file"
    atomic.write_text(path, "old")
    monkeypatch.setattr(disk, "rename", fail)
    with pytest.raises(RuntimeError):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no room left"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(StorageError):
        atomic.write_text(tmp_path / "blocked" / "file", "x")


def test_publishing_gives_the_same_content_under_another_name(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    atomic.write_text(source, "content")
    target.write_text("before")
    atomic.publish(source, target)
    assert target.read_text() == "content"


def test_publishing_works_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    atomic.write_text(tmp_path / "source", "content")
    atomic.publish(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "content"


def test_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "file", "x")
    (tmp_path / ".file.0011aabb.tmp").write_text("half")
    (tmp_path / ".hidden").write_text("somebody else's")
    atomic.sweep_temporary(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".hidden", "file"]
