import pytest
import torch

from fednet.errors import BadInput
from fednet.worker.device import device_from


def test_auto_is_what_there_is() -> None:
    assert device_from("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_cpu_is_always_there() -> None:
    assert device_from("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["cuda:99", "toaster", ""])
def test_what_is_not_there_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="--device"):
        device_from(text)
