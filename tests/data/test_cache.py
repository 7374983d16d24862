import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import cache as caching
from data import cache_files, images
from data.cache import ScanCache, in_the_folder
from data.images import ScanSet, decode, files_of, load_folder
from fednet.commands.examining import scan_files
from fednet.storage import disk
from tests.data.medical import write_dicom, write_nifti
from tests.data.scans import write_folder, write_scan

SIZE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve scans: PNG, JPEG, DICOM and NIfTI."""
    made = write_folder(tmp_path / "client1_data")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 70), dtype=np.uint8)).save(made / "glioma_tumor" / "a.jpg")
    write_dicom(made / "no_tumor" / "b.dcm", rng.integers(0, 4000, (30, 20), dtype=np.uint16))
    write_nifti(made / "pituitary_tumor" / "c.nii.gz", rng.integers(0, 255, (3, 20, 20), dtype=np.uint8))
    return made


@pytest.fixture
def files_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be trusted that were written just now."""
    monkeypatch.setattr(caching, "_YOUNG_NS", 0)


class Loading:
    """Loads a folder with a cache, and remembers what it was told."""

    def __init__(self, folder: Path, place: Path | None = None, size: int = SIZE) -> None:
        self.notices: list[str] = []
        self.cache = ScanCache(place or in_the_folder(folder), folder, size, notice=self.notices.append)
        self.scans = load_folder(folder, image_size=size, cache=self.cache, max_bad_fraction=0.5)


def assert_same(found: ScanSet, folder: Path, size: int = SIZE) -> None:
    """Compare with what decoding gives, bit for bit."""
    expected = load_folder(folder, image_size=size, max_bad_fraction=0.5)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert found.skipped == expected.skipped


def pixel_bytes(folder: Path) -> bytes:
    (path,) = in_the_folder(folder).glob("*.pixels")
    return path.read_bytes()


def pixel_bytes_of(folder: Path) -> dict[int, int]:
    return {int(path.name.split("-")[0]): path.stat().st_size for path in in_the_folder(folder).glob("*.pixels")}


def refuse(path: Path, *rest: object) -> None:
    raise AssertionError(f"{path} is not to be touched")


@contextmanager
def failing(at: Callable[[disk.Operation], bool], exc: BaseException) -> Iterator[None]:
    """Let operations on files fail."""

    def watch(operation: disk.Operation) -> None:
        if at(operation):
            raise exc

    with disk.watched(watch):
        yield


def test_the_second_start_decodes_nothing_and_has_the_same_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Loading(folder)
    assert (first.scans.from_cache, first.cache.added, first.cache.nbytes) == (0, 15, 15 * SIZE**2)
    assert_same(first.scans, folder)
    expected = load_folder(folder, image_size=SIZE)
    monkeypatch.setattr(images, "decode", refuse)
    second = Loading(folder)
    assert (second.scans.from_cache, second.cache.added) == (15, 0)
    assert torch.equal(second.scans.images, expected.images)
    assert torch.equal(second.scans.labels, expected.labels)
    assert first.notices == second.notices == []


def test_what_one_start_has_kept_is_mapped_and_not_copied(folder: Path) -> None:
    Loading(folder)
    found = Loading(folder)
    assert found.scans.images.data_ptr() == found.cache.rows.data_ptr()
    assert found.scans.images.is_contiguous()
    before = pixel_bytes(folder)
    found.scans.images.zero_()
    assert pixel_bytes(folder) == before, "the mapping is copied where it is written to"


def test_scans_that_come_later_stand_in_the_order_of_their_names(folder: Path) -> None:
    Loading(folder)
    write_scan(folder / "glioma_tumor" / "scan001b.png", 99)
    added = Loading(folder)
    assert (added.scans.from_cache, added.cache.added) == (15, 1)
    for found in (added, Loading(folder)):
        assert_same(found.scans, folder)


def test_equal_files_have_one_row(folder: Path) -> None:
    shutil.copy(folder / "glioma_tumor" / "scan000.png", folder / "glioma_tumor" / "scan009.png")
    assert Loading(folder).cache.added == 15
    again = Loading(folder)
    assert again.scans.from_cache == 16
    assert_same(again.scans, folder)


def test_each_size_has_rows_of_its_own(folder: Path) -> None:
    for size in (16, 24, 16, 24):
        assert_same(Loading(folder, size=size).scans, folder, size)
    assert sorted(path.suffix for path in in_the_folder(folder).iterdir()) == ["", ".index", ".index"] + 2 * [".pixels"]


@pytest.mark.usefixtures("files_are_old")
def test_unchanged_files_are_not_even_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Loading(folder)
    monkeypatch.setattr(caching, "key_of", refuse)
    assert Loading(folder).scans.from_cache == 15
    moved = folder.rename(folder.with_name("moved"))
    assert Loading(moved).scans.from_cache == 15, "the cache has moved with its folder"


def test_files_that_may_still_change_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Loading(folder)
    monkeypatch.setattr(caching, "key_of", refuse)
    with pytest.raises(AssertionError, match="not to be touched"):
        Loading(folder)


@pytest.mark.usefixtures("files_are_old")
def test_a_file_that_was_changed_in_place_is_decoded_again(folder: Path) -> None:
    Loading(folder)
    path = folder / "no_tumor" / "scan000.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    write_scan(path, 77)
    path.write_bytes(path.read_bytes()[: len(content)].ljust(len(content), b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = Loading(folder)
    assert found.scans.from_cache == 14
    assert_same(found.scans, folder)
    assert len(pixel_bytes(folder)) == len(found.scans.labels) * SIZE**2, "its old pixels are gone"


def test_a_file_under_another_ending_is_read_as_that(folder: Path) -> None:
    Loading(folder)
    shutil.copy(folder / "no_tumor" / "scan000.png", folder / "no_tumor" / "scan000.dcm")
    found = Loading(folder)
    assert [bad.path.name for bad in found.scans.skipped] == ["scan000.dcm"]


def test_a_broken_file_is_not_kept_and_can_be_mended(folder: Path) -> None:
    path = folder / "no_tumor" / "scan000.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    for _ in range(2):
        assert [bad.path for bad in Loading(folder).scans.skipped] == [path]
    path.write_bytes(whole)
    mended = Loading(folder)
    assert (mended.scans.from_cache, mended.scans.skipped) == (14, ())
    assert_same(mended.scans, folder)


def test_a_file_that_is_written_to_while_it_is_decoded_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "no_tumor" / "scan000.png"

    def decode_late(each: Path, size: int) -> object:
        if each == path:
            write_scan(path, 88)
        return decode(each, size)

    monkeypatch.setattr(images, "decode", decode_late)
    found = Loading(folder)
    assert found.cache.added == 14
    monkeypatch.undo()
    assert_same(found.scans, folder)
    assert_same(Loading(folder).scans, folder)


def test_the_pixels_of_a_scan_that_was_deleted_are_gone_after_the_next_start(folder: Path) -> None:
    Loading(folder)
    path = folder / "meningioma_tumor" / "scan001.png"
    pixels = decode(path, SIZE)
    assert isinstance(pixels, np.ndarray) and pixels.tobytes() in pixel_bytes(folder)
    path.unlink()
    found = Loading(folder)
    assert found.scans.from_cache == 14
    assert pixels.tobytes() not in pixel_bytes(folder)
    assert Loading(folder).scans.from_cache == 14
    assert_same(Loading(folder).scans, folder)


def test_what_is_deleted_goes_at_every_size_and_so_does_what_nobody_can_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (16, 24):
        Loading(folder, size=size)
    (folder / "meningioma_tumor" / "scan001.png").unlink()
    Loading(folder)
    assert pixel_bytes_of(folder) == {16: 14 * 16**2, 24: 14 * 24**2}
    assert Loading(folder, size=24).scans.from_cache == 14
    monkeypatch.setattr(caching, "decoded_by", lambda: "pillow of tomorrow")
    Loading(folder)
    assert pixel_bytes_of(folder) == {16: 14 * 16**2}


def test_folders_can_share_a_cache(folder: Path, tmp_path: Path) -> None:
    other, place = write_folder(tmp_path / "other", seed=5), tmp_path / "shared" / "cache"
    for _ in range(2):
        for each in (folder, other):
            assert_same(Loading(each, place).scans, each)
    shutil.rmtree(other / "no_tumor")
    (other / "no_tumor").mkdir()
    assert Loading(other, place).scans.from_cache == 9
    assert Loading(folder, place).scans.from_cache == 15, "what another folder forgets is none of this one's"


def test_processes_may_fill_it_at_once(folder: Path) -> None:
    found: list[Loading] = []
    start = threading.Barrier(4)

    def load() -> None:
        start.wait()
        found.append(Loading(folder))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        assert_same(each.scans, folder)
        assert each.notices == []
    assert sum(each.cache.added for each in found) == 15
    assert len(pixel_bytes(folder)) == 15 * SIZE**2


def test_what_was_decoded_before_a_process_was_killed_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_KEPT_EVERY_S", 0.0)
    last = [path for path, _ in files_of(folder)][-1]

    def decode_until(path: Path, size: int) -> object:
        if path == last:
            raise KeyboardInterrupt
        return decode(path, size)

    monkeypatch.setattr(images, "decode", decode_until)
    with pytest.raises(KeyboardInterrupt):
        Loading(folder)
    monkeypatch.setattr(images, "decode", decode)
    found = Loading(folder)
    assert found.scans.from_cache == 14
    assert_same(found.scans, folder)


@pytest.mark.parametrize("harm", ["shorter", "longer", "flipped", "removed", "index", "no index"])
def test_damage_is_found_and_mended(folder: Path, harm: str) -> None:
    Loading(folder)
    place = in_the_folder(folder)
    (pixels,), (index,) = place.glob("*.pixels"), place.glob("*.index")
    content = bytearray(pixels.read_bytes())
    content[5 * SIZE**2 + 3] ^= 1
    match harm:
        case "shorter":
            pixels.write_bytes(content[: 3 * SIZE**2 + 7])
        case "longer":
            pixels.write_bytes(pixels.read_bytes() + bytes(7))
        case "flipped":
            pixels.write_bytes(content)
        case "removed":
            pixels.unlink()
        case "index":
            index.write_bytes(index.read_bytes().replace(b'"keys"', b'"kezs"'))
        case "no index":
            index.unlink()
    expected = {"shorter": 3, "longer": 15, "flipped": 14}.get(harm, 0)
    mended = Loading(folder)
    assert mended.scans.from_cache == expected
    assert_same(mended.scans, folder)
    found = Loading(folder)
    assert found.scans.from_cache == 15
    assert_same(found.scans, folder)
    assert mended.notices == found.notices == []


def test_a_mapping_lasts_when_another_process_begins_a_new_file(folder: Path) -> None:
    Loading(folder)
    held = Loading(folder)
    expected = held.scans.images.clone()
    (folder / "glioma_tumor" / "scan000.png").unlink()
    Loading(folder)
    shutil.rmtree(in_the_folder(folder))
    assert torch.equal(held.scans.images, expected)


def test_what_other_decoders_made_is_decoded_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Loading(folder)
    assert "pillow" in caching.decoded_by()
    monkeypatch.setattr(caching, "decoded_by", lambda: "pillow of tomorrow")
    found = Loading(folder)
    assert found.scans.from_cache == 0
    assert Loading(folder).scans.from_cache == 15
    assert len(list(in_the_folder(folder).glob("*.pixels"))) == 1


def test_it_is_private(folder: Path) -> None:
    Loading(folder)
    place = in_the_folder(folder)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}


def test_nothing_takes_it_for_scans(folder: Path) -> None:
    before = list(files_of(folder)), list(scan_files([folder]))
    Loading(folder)
    assert (list(files_of(folder)), list(scan_files([folder]))) == before


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_where_others_may_write_nothing_is_taken_or_kept(folder: Path, mode: int) -> None:
    Loading(folder)
    in_the_folder(folder).chmod(mode)
    found = Loading(folder)
    assert found.scans.from_cache == 0
    assert ["others may write to it" in text for text in found.notices] == [True]


def test_where_there_is_no_room_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_files, "_LEAVES_FREE_BYTES", 2**60)
    monkeypatch.setattr(images, "_KEPT_EVERY_S", 0.0)
    found = Loading(folder)
    assert_same(found.scans, folder)
    (notice,) = found.notices
    assert notice.startswith("Warning: decoded scans are not kept") and "no room for" in notice
    assert not list(in_the_folder(folder).glob("*.pixels"))


def test_a_disk_that_fills_up_gets_its_room_back(folder: Path) -> None:
    Loading(folder)
    before = pixel_bytes(folder)
    write_scan(folder / "glioma_tumor" / "new1.png", 91)
    write_scan(folder / "glioma_tumor" / "new2.png", 92)
    written = 0

    def is_second(operation: disk.Operation) -> bool:
        nonlocal written
        written += operation.kind is disk.Kind.WRITE
        return operation.kind is disk.Kind.WRITE and written == 2

    with failing(is_second, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        found = Loading(folder)
    assert_same(found.scans, folder)
    assert ["No space left" in text for text in found.notices] == [True]
    assert pixel_bytes(folder) == before
    assert Loading(folder).scans.from_cache == 15


@pytest.mark.parametrize("kind", [disk.Kind.MAKE_FOLDER, disk.Kind.CREATE, disk.Kind.RENAME])
def test_a_folder_that_may_not_be_written_to_costs_one_notice(
    folder: Path, kind: disk.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_KEPT_EVERY_S", 0.0)
    with failing(lambda operation: operation.kind is kind, OSError(errno.EROFS, os.strerror(errno.EROFS))):
        found = Loading(folder)
    assert_same(found.scans, folder)
    assert ["Read-only file system" in text for text in found.notices] == [True]
    assert Loading(folder).scans.from_cache == 0


@pytest.mark.usefixtures("files_are_old")
def test_a_full_cache_serves_where_nothing_can_be_written(folder: Path) -> None:
    Loading(folder)
    with failing(lambda operation: True, OSError(errno.EROFS, os.strerror(errno.EROFS))):
        found = Loading(folder)
    assert (found.scans.from_cache, found.notices) == (15, [])


def test_a_place_that_is_no_folder_costs_one_notice(folder: Path) -> None:
    in_the_folder(folder).write_text("not a folder")
    found = Loading(folder)
    assert_same(found.scans, folder)
    assert len(found.notices) == 1


def test_a_lock_that_another_process_keeps_costs_one_notice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_files, "_LOCK_WITHIN_S", 0.05)
    with cache_files.CacheFiles(in_the_folder(folder), SIZE, decoded_by="").locked():
        began = time.monotonic()
        found = Loading(folder)
        assert time.monotonic() - began < 5
    assert_same(found.scans, folder)
    assert ["another process" in text for text in found.notices] == [True]
