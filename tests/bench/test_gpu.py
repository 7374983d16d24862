from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fednet.bench.gpu import utilisation

GPU = torch.device("cuda:0")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A GPU that computes nothing, and the folder that programs are looked for in."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def watching(folder: Path, lines: str) -> Path:
    """Leave a program that says these lines and goes on; return the file that it makes when it has said them."""
    said = folder / "said"
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$1" > {folder / "asked"}\nprintf "{lines}"\ntouch {said}\nexec sleep 60\n')
    program.chmod(0o755)
    return said


def wait_for(path: Path) -> None:
    while not path.exists():
        pass


def test_it_is_the_mean_of_what_was_told_meanwhile(gpu: Path) -> None:
    said = watching(gpu, r"90\n100\n 80\n4")  # the last line is not whole
    assert utilisation(lambda: wait_for(said), GPU) == pytest.approx(0.9)
    assert (gpu / "asked").read_text() == "--id=GPU-12-34\n"


def test_a_part_of_a_gpu_tells_nothing(gpu: Path) -> None:
    said = watching(gpu, r"[N/A]\n[N/A]\n")
    assert utilisation(lambda: wait_for(said), GPU) is None


def test_without_the_program_the_work_is_done_all_the_same(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(gpu))
    done: list[bool] = []
    assert utilisation(lambda: done.append(True), GPU) is None
    assert done == [True]
