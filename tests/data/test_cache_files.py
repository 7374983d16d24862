"""What a loss of power can leave of a cache: no state of it serves a wrong pixel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from data.cache import ScanCache
from data.images import BadFile, decode, files_of, load_folder
from tests.data.scans import write_scan
from tests.storage import power_loss
from tests.storage.power_loss import CrashState, Recording, explore, recorded

SIZE = 4


@pytest.fixture(autouse=True)
def fewer_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try some of each point's states: nothing is synced here, so that all of it may end in any way at every point."""
    monkeypatch.setattr(power_loss, "MOST_STATES", 64)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder in memory, where there is one."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


def load(folder: Path, place: Path) -> None:
    load_folder(folder, image_size=SIZE, cache=ScanCache(place, folder, SIZE, notice=refuse))


def refuse(text: str) -> None:
    raise AssertionError(text)


def serves_no_wrong_pixel(scans: Path, folder: Path, state: CrashState) -> Iterator[str]:
    """Look at every scan in what a power loss left, and again after what was missing has been kept anew."""
    for _ in range(2):
        cache = ScanCache(folder / "cache", scans, SIZE, notice=refuse)
        kept = []
        for path, _label in files_of(scans):
            known, pixels = cache.find(path), decode(path, SIZE)
            assert not isinstance(pixels, BadFile)
            if known.row is not None and cache.rows[known.row].numpy().tobytes() != pixels.tobytes():
                yield f"{path.name} has other pixels"
            kept.append((known, pixels))
        cache.keep(kept)
    if not all(known.row is not None for known, _ in kept):
        yield "what was kept is not there"


def two_scans(folder: Path) -> Path:
    for seed in (1, 2):
        write_scan(folder / "glioma_tumor" / f"scan{seed}.png", seed)
    return folder


def explored(scans: Path, scratch: Path, recording: Recording) -> int:
    found = explore(recording, scratch, partial(serves_no_wrong_pixel, scans))
    assert not found.violations
    return found.states


def test_after_a_power_loss_in_the_first_start(tmp_path: Path, scratch: Path) -> None:
    scans, folder = two_scans(tmp_path / "scans"), tmp_path / "folder"
    folder.mkdir()
    with recorded(folder) as recording:
        load(scans, folder / "cache")
    assert explored(scans, scratch, recording) > 100


def test_after_a_power_loss_while_scans_are_added_and_others_go(tmp_path: Path, scratch: Path) -> None:
    scans, folder = two_scans(tmp_path / "scans"), tmp_path / "folder"
    folder.mkdir()
    load(scans, folder / "cache")
    write_scan(scans / "glioma_tumor" / "later.png", 7)
    (scans / "glioma_tumor" / "scan1.png").unlink()
    with recorded(folder) as recording:
        load(scans, folder / "cache")
    assert explored(scans, scratch, recording) > 100
