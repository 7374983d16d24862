"""How good a model is on data it has not seen: scikit-learn's metrics on one pass over the data."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torch import nn
from torch.nn import functional

from fednet.tensors import Manifest, applied, pack_parameters, views


class EvaluationData(Protocol):
    """Samples that a model is judged on."""

    def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64), every sample once, as it is."""


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """One class against the rest."""

    recall: float
    precision: float
    f1: float
    auc: float | None  # None where the data has only this class, or none of it
    support: int


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """A model's performance on one data set; all but the loss lie between 0 and 1."""

    images: int
    loss: float  # mean cross-entropy, in nats
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    macro_auc: float | None
    per_class: dict[str, ClassMetrics]
    confusion: list[list[int]]  # rows: true class, columns: predicted class

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def evaluate(model: nn.Module, data: EvaluationData, *, classes: Sequence[str], batch_size: int = 64) -> Metrics:
    """Judge `model` (on the device of `data`) on every sample; the model is left in the mode it was in."""
    probabilities, labels = predictions(model, data, batch_size=batch_size)
    return metrics_of(probabilities, labels, classes=classes)


def predictions(model: nn.Module, data: EvaluationData, *, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (probabilities  # (n, classes) float64, labels  # (n,) int64) on the CPU."""
    logits, labels = logits_of(model, data, batch_size=batch_size)
    return logits.softmax(dim=1), labels


def logits_of(model: nn.Module, data: EvaluationData, *, batch_size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits  # (n, classes) float64, labels  # (n,) int64) on the CPU, finite or not; the mode is left."""
    with _evaluating(model), torch.inference_mode():
        found = [(model(images).float().cpu(), labels.cpu()) for images, labels in data.in_order(batch_size=batch_size)]
    logits = torch.cat([each for each, _ in found]).double()
    return logits, torch.cat([labels for _, labels in found])


def loss_of(model: nn.Module, data: EvaluationData, *, batch_size: int = 64) -> float:
    """Return the mean cross-entropy of `model` on every sample; not finite where its outputs are not."""
    probabilities, labels = predictions(model, data, batch_size=batch_size)
    return float(-probabilities.gather(1, labels[:, None]).clamp(min=1e-12).log().mean())


def loss_gradient(model: nn.Module, data: EvaluationData, *, batch_size: int = 64) -> dict[str, torch.Tensor]:
    """Return the gradient of `loss_of` in every parameter, by name; the model's own gradients are not touched."""
    parameters = dict(model.named_parameters())
    totals = {name: torch.zeros_like(value) for name, value in parameters.items()}
    samples = 0
    with _evaluating(model):
        for images, labels in data.in_order(batch_size=batch_size):
            loss = functional.cross_entropy(model(images).float(), labels, reduction="sum")
            found = torch.autograd.grad(loss, list(parameters.values()))
            for name, slope in zip(parameters, found, strict=True):
                totals[name] += slope
            samples += len(labels)
    return {name: total / samples for name, total in totals.items()}


class StepJudge:
    """Judges models that are one step away from a base model, on some data: what a root of trust is asked."""

    def __init__(self, model: nn.Module, data: EvaluationData, *, base: torch.Tensor, manifest: Manifest) -> None:
        """`model` is where the judged models are put; `base`  # (total_bytes,) uint8."""
        self._model, self._data = model, data
        self._base, self._manifest = base, manifest

    def loss(self, step: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> float:
        """Return `loss_of` the base moved by `step`  # (d,) float32, with these BatchNorm statistics."""
        return loss_of(self._moved(step, buffers), self._data)

    def gradient(self, step: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the gradient of that loss  # (d,) float32."""
        return pack_parameters(loss_gradient(self._moved(step, buffers), self._data), self._manifest)

    def _moved(self, step: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> nn.Module:
        self._model.load_state_dict(views(applied(self._base, step, buffers, self._manifest), self._manifest))
        return self._model


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, and back into the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def metrics_of(probabilities: torch.Tensor, labels: torch.Tensor, *, classes: Sequence[str]) -> Metrics:
    """Return the metrics of predictions  # (n, classes) against labels  # (n,).

    A model whose outputs are not finite is judged as if it always answered the first class with certainty.
    """
    chances = torch.nan_to_num(probabilities, nan=0.0, posinf=1.0, neginf=0.0).numpy()
    truth, indices = labels.numpy(), list(range(len(classes)))
    answers = chances.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, answers, labels=indices, zero_division=0.0)
    aucs = [_auc(truth == index, chances[:, index]) for index in indices]
    known = [auc for auc in aucs if auc is not None]
    present = support > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes that the data has none of: said by their support
        balanced = float(balanced_accuracy_score(truth, answers))
        loss = float(log_loss(truth, _certain(chances), labels=indices))
    return Metrics(
        images=len(truth),
        loss=loss,
        accuracy=float((answers == truth).mean()),
        balanced_accuracy=balanced,
        macro_f1=float(f1[present].mean()),
        macro_auc=float(np.mean(known)) if known else None,
        per_class={
            name: ClassMetrics(
                recall=float(recall[i]),
                precision=float(precision[i]),
                f1=float(f1[i]),
                auc=aucs[i],
                support=int(support[i]),
            )
            for i, name in enumerate(classes)
        },
        confusion=confusion_matrix(truth, answers, labels=indices).tolist(),
    )


def _auc(is_class: np.ndarray[Any, Any], chance: np.ndarray[Any, Any]) -> float | None:
    if is_class.all() or not is_class.any():
        return None
    return float(roc_auc_score(is_class, chance))


def _certain(chances: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    sums = chances.sum(axis=1, keepdims=True)
    uniform = np.full_like(chances, 1 / chances.shape[1])
    return np.where(sums > 0, chances / np.where(sums > 0, sums, 1), uniform)
