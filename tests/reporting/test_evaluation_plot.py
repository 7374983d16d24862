from pathlib import Path

import torch
from PIL import Image

from fednet.reporting.evaluation_plot import Portrait, draw_evaluation
from fednet.reporting.metrics import metrics_of
from tests.reporting.outputs import CLASSES, honest_logits, outputs_of


def portrait(labels: torch.Tensor, logits: torch.Tensor, *, temperature: float | None) -> Portrait:
    outputs = outputs_of(logits, labels, temperature=temperature or 1.0)
    metrics = metrics_of(outputs.probabilities, labels, classes=CLASSES)
    return Portrait(title="a.pth", classes=CLASSES, metrics=metrics, outputs=outputs, temperature=temperature)


def test_every_model_gets_its_four_panels(tmp_path: Path) -> None:
    logits, labels = honest_logits(200)
    draw_evaluation(tmp_path / "two.png", [portrait(labels, logits, temperature=each) for each in (1.5, None)])
    with Image.open(tmp_path / "two.png") as picture:
        assert picture.width > 1000
        assert picture.height > 1.5 * picture.width


def test_data_of_one_class_has_a_picture_too(tmp_path: Path) -> None:
    logits, _ = honest_logits(20)
    draw_evaluation(tmp_path / "one.png", [portrait(torch.zeros(20, dtype=torch.int64), logits, temperature=None)])
    assert (tmp_path / "one.png").stat().st_size > 0
