import pytest
import torch

from fednet.errors import BadInput
from fednet.worker.device import device_from


def test_auto_is_what_there_is() -> None:
    assert device_from("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_is_always_there() -> None:
    assert device_from("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["auto", "cuda"])
def test_each_process_of_torchrun_has_a_gpu_of_its_own(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "97")
    with pytest.raises(BadInput, match="--device cuda:97; found not on this machine"):
        device_from(text)


@pytest.mark.parametrize("text", ["cuda:99", "toaster", ""])
def test_what_is_not_there_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="--device"):
        device_from(text)
