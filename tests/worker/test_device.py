import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch._inductor.exc import InductorError, InvalidCxxCompiler

from data.images import ScanSet
from data.loaders import ScanLoader
from fednet.config import TrainingSettings
from fednet.errors import BadInput
from fednet.worker.compute import Compute
from fednet.worker.device import device_from, prepare, require_compiler
from fednet.worker.training import train
from models.registry import build
from tests.worker.fakes import seeded

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(WORKSPACE, "")
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(False)


def trained(device: torch.device) -> torch.Tensor:
    """Return all of a model after a training from the same start on the same scans  # (numbers,)."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (14, 1, 96, 96), dtype=torch.uint8, generator=generator)
    data = ScanLoader(ScanSet(images, torch.arange(14) % 4, ()), device)
    with seeded(1):
        model = build("small-cnn", classes=4).to(device)
    train(model, data, TrainingSettings(local_epochs=2, batch_size=8), seed=3, compute=Compute(device))
    return torch.cat([each.flatten().double() for each in model.state_dict().values()]).cpu()


def test_auto_is_what_there_is() -> None:
    assert device_from("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_is_always_there() -> None:
    assert device_from("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["cuda:99", "toaster", ""])
def test_what_is_not_there_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="--device"):
        device_from(text)


def test_the_cpu_needs_no_setting_up() -> None:
    prepare(CPU)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_cudnn_tries_out_what_is_fastest_on_a_gpu() -> None:
    prepare(GPU)
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize("device", [CPU, GPU])
def test_deterministic_mode_is_torchs_own(device: torch.device) -> None:
    prepare(device, is_deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ[WORKSPACE] == ":4096:8"


def test_a_repeatable_workspace_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    prepare(GPU, is_deterministic=True)
    assert os.environ[WORKSPACE] == ":16:8"


def test_deterministic_mode_gives_the_same_model_twice() -> None:
    prepare(CPU, is_deterministic=True)
    assert torch.equal(trained(CPU), trained(CPU))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_deterministic_mode_gives_the_same_model_twice_on_cuda() -> None:
    prepare(GPU, is_deterministic=True)
    assert torch.equal(trained(GPU), trained(GPU))


@pytest.mark.parametrize(("most_gib", "fraction"), [(20.0, 0.25), (500.0, 1.0)])
def test_the_limit_of_memory_is_a_fraction_of_the_gpus(
    monkeypatch: pytest.MonkeyPatch, most_gib: float, fraction: float
) -> None:
    asked: list[tuple[float, torch.device]] = []
    gpu = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: asked.append(given))
    prepare(GPU, most_memory_gib=most_gib)
    assert asked == [(fraction, GPU)]


def test_a_limit_of_gpu_memory_on_the_cpu_is_said_to_do_nothing() -> None:
    said: list[str] = []
    prepare(CPU, most_memory_gib=4.0, notice=said.append)
    assert said == ["Warning: --max-gpu-memory does nothing on the cpu"]


def test_a_missing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(function: object) -> object:
        def fails() -> None:
            raise InductorError(InvalidCxxCompiler(), None)

        return fails

    monkeypatch.setattr(torch, "compile", without_compiler)
    with pytest.raises(
        BadInput, match=r"--compile; found nothing to compile with for the cpu .*C\+\+ compiler"
    ) as told:
        require_compiler(CPU)
    assert "\n" not in str(told.value)
