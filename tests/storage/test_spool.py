import hashlib
from pathlib import Path

import pytest
import torch

from fednet.errors import StorageError
from fednet.storage.spool import ChunkMemory, SpoolFile, SpoolRows, digest_of_file, read_spooled


def spooled(path: Path, data: bytes) -> Path:
    file = SpoolFile(path, len(data))
    file.write(0, memoryview(data))
    file.sync()
    file.close()
    return path


def test_chunks_land_at_their_place(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "round" / "u", 10)
    file.write(4, memoryview(b"456789"))
    file.write(0, memoryview(b"0123"))
    file.sync()
    file.close()
    assert (tmp_path / "round" / "u").read_bytes() == b"0123456789"


def test_room_is_taken_before_the_first_byte(tmp_path: Path) -> None:
    SpoolFile(tmp_path / "u", 5000).close()
    assert (tmp_path / "u").stat().st_size == 5000


def test_rows_are_read_by_columns(tmp_path: Path) -> None:
    matrix = torch.arange(20, dtype=torch.float32).view(2, 10)
    paths = [spooled(tmp_path / str(i), row.numpy().tobytes() + b"tail") for i, row in enumerate(matrix)]
    rows = SpoolRows(paths, width=10)
    assert torch.equal(rows.block(3, 7, torch.empty(2, 4)), matrix[:, 3:7])
    rows.close()


def test_more_updates_than_descriptors_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fednet.storage.spool._MOST_OPEN", 1)
    matrix = torch.arange(20, dtype=torch.float32).view(2, 10)
    paths = [spooled(tmp_path / str(i), row.numpy().tobytes()) for i, row in enumerate(matrix)]
    assert torch.equal(SpoolRows(paths, width=10).block(3, 7, torch.empty(2, 4)), matrix[:, 3:7])


def test_the_rest_of_an_update_is_read_from_an_offset(tmp_path: Path) -> None:
    into = torch.empty(4, dtype=torch.uint8)
    read_spooled(spooled(tmp_path / "u", bytes(range(10))), into, offset=6)
    assert into.tolist() == [6, 7, 8, 9]


def test_a_spooled_update_that_ends_early_is_named(tmp_path: Path) -> None:
    path = spooled(tmp_path / "u", b"short")
    with pytest.raises(StorageError, match="ends 3 bytes early"):
        read_spooled(path, torch.empty(8, dtype=torch.uint8), offset=0)


def test_a_missing_update_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        SpoolRows([tmp_path / "nothing"], width=1)


def test_a_files_digest_is_of_its_content(tmp_path: Path) -> None:
    assert digest_of_file(spooled(tmp_path / "u", b"abc")) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(StorageError, match="cannot be read"):
        digest_of_file(tmp_path / "nothing")


def test_a_chunks_memory_is_used_again_and_never_by_two() -> None:
    memory = ChunkMemory(keeps=1)
    first, second = memory.take(100), memory.take(100)
    assert first.obj is not second.obj
    memory.give_back(first)
    memory.give_back(second)
    again, another = memory.take(60), memory.take(60)
    assert again.obj is first.obj
    assert (len(again), len(another)) == (60, 60)
    assert another.obj is not second.obj, "only as many are kept as was said"
    memory.give_back(again)
    assert len(memory.take(1000)) == 1000
