import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch._C._distributed_c10d import HashStore, Store

from fednet import torchrun


def names_of_a_start(store: Store, size: int) -> list[str]:
    with ThreadPoolExecutor(size) as pool:
        asked = [pool.submit(torchrun._name_of_this_start, store, rank, size) for rank in range(size)]
        return [each.result(timeout=20) for each in asked]


@pytest.mark.parametrize("size", [2, 5])
def test_every_start_has_a_name_of_its_own_in_a_store_that_stays(size: int) -> None:
    """Found by killing a process: the next start found the addresses of the one before."""
    store = HashStore()
    starts = [names_of_a_start(store, size) for _ in range(3)]
    assert all(len(set(names)) == 1 for names in starts)
    assert len({names[0] for names in starts}) == 3


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert torchrun.join() == (0, 1)
    assert torchrun.own_threads() == os.cpu_count()
    assert not torchrun.is_started_again()


def test_processes_of_one_machine_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100000")
    assert torchrun.own_threads() == 1


@pytest.mark.parametrize(("done", "expected"), [("0", True), ("2", True), ("3", False)])
def test_torchrun_starts_again_as_often_as_it_was_told(
    done: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", done)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert torchrun.is_started_again() is expected
