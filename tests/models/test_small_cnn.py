from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional

from models.small_cnn import SmallCnn


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def logits_by_adaptive_pooling(model: SmallCnn, images: torch.Tensor) -> torch.Tensor:
    pooled = functional.adaptive_avg_pool2d(model.features(images), 4).flatten(1)
    logits: torch.Tensor = model.fc(pooled)
    return logits


def test_it_is_as_small_as_it_says() -> None:
    assert sum(parameter.numel() for parameter in SmallCnn(4).parameters()) == 85_332


@pytest.mark.parametrize("size", [16, 32, 48, 64, 96, 112, 224])
@pytest.mark.usefixtures("deterministic")
def test_it_averages_the_same_cells_in_deterministic_mode(size: int) -> None:
    model, images = SmallCnn(4).eval(), torch.rand(2, 3, size, size)
    assert torch.allclose(model(images), logits_by_adaptive_pooling(model, images), atol=1e-5)
