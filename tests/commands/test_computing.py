from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._inductor.exc import InductorError, InvalidCxxCompiler

from fednet.commands.computing import prepared_device
from tests.commands.running import run


@pytest.fixture(autouse=True)
def process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    yield
    torch.use_deterministic_algorithms(False)


def given(**options: Any) -> dict[str, Any]:
    return {"max_gpu_memory": None, "deterministic": False, "other": 1} | options


def test_the_options_are_taken_and_the_device_is_set_up() -> None:
    options, said = given(deterministic=True, max_gpu_memory=2.0), list[str]()
    assert prepared_device("cpu", options, notice=said.append) == torch.device("cpu")
    assert options == {"other": 1}
    assert torch.are_deterministic_algorithms_enabled()
    assert said == ["Warning: --max-gpu-memory does nothing on the cpu"]


def test_without_a_compiler_a_baseline_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise InductorError(InvalidCxxCompiler(), None)

    monkeypatch.setattr(torch, "compile", lambda function: fails)
    ran = run(capsys, "train-local", "nowhere", "--compile", "--device", "cpu", "--pretrained", "no")
    assert ran.code == 2
    assert "--compile; found nothing to compile with" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_without_a_compiler_a_worker_is_refused_before_it_joins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise InductorError(InvalidCxxCompiler(), None)

    monkeypatch.setattr(torch, "compile", lambda function: fails)
    ran = run(capsys, "worker", "join", "--data", "nowhere", "--id", "1", "--compile", "--device", "cpu")
    assert ran.code == 2
    assert "leave --compile out" in ran.err
