"""How far a model's probabilities can be believed, and the temperature, threshold and energy that validation gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional

from fednet.errors import BadInput, ModelError

BINS = 15  # as in Guo et al., 2017
TARGET = 0.95  # of what is answered, this share is to be right
FEWEST_ANSWERED = 20  # a share of fewer is within 0.05 of itself by one image: it shows nothing
ENERGY_QUANTILE = 0.99
_ENERGY_MARGIN = 0.25  # of the way from the median to the quantile: of some hundred images two lie above the quantile
_LOG_TEMPERATURES = (math.log(0.05), math.log(20.0))  # networks as they are trained lie between 0.3 and 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a checkpoint's `facts.extra` says of its outputs; names as `models.prediction.Rules` reads them."""

    temperature: float  # logits are divided by it before the softmax
    threshold: float  # below this confidence, at that temperature, there is no answer
    max_energy: float  # above it a scan is unlike those of validation; of the undivided logits
    images: int  # how many it was fitted on

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence against accuracy in bins of equal width; bins without an image are left out."""

    lower: tuple[float, ...]  # edges, exclusive
    upper: tuple[float, ...]  # edges, inclusive
    confidence: tuple[float, ...]  # mean of the bin's images
    accuracy: tuple[float, ...]
    images: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What is left when a model does not answer below a confidence."""

    threshold: float
    images: int  # that are answered
    coverage: float  # their share of all
    accuracy: float | None  # among them; None where nothing is answered


def calibrate(logits: torch.Tensor, labels: torch.Tensor) -> Calibration:
    """Fit all three on validation: logits  # (n, classes), labels  # (n,) int64, on any device.

    The images must be neither those that the model was trained on nor those that it will be reported on. Raises
    `BadInput` for no image, `ModelError` where a logit is not finite.
    """
    own, truth = _checked(logits, labels)
    temperature = fit_temperature(own, truth)
    return Calibration(
        temperature=temperature,
        threshold=fit_threshold(calibrated(own, temperature), truth),
        max_energy=fit_max_energy(own),
        images=len(truth),
    )


def calibrated(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the probabilities  # (n, classes) float64 of logits divided by the temperature."""
    return (logits.double() / temperature).softmax(dim=1)


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature, 0.05 to 20, of least cross-entropy (Guo et al., ICML 2017); it changes no answer.

    The cross-entropy is convex in 1/T, so it has one minimum. Where every image is answered rightly that lies at T = 0,
    which would be certain of everything: so the label counts for (n + 1)/(n + 2), by the rule of succession, as in
    Platt (1999). At 200 images that moves T by a tenth of its standard error. Raises `BadInput`, `ModelError`.
    """
    own, truth = _checked(logits, labels)
    classes = own.shape[1]
    smoothing = classes / (classes - 1) / (len(truth) + 2)

    def loss(log_temperature: float) -> float:
        divided = own / math.exp(log_temperature)
        return float(functional.cross_entropy(divided, truth, label_smoothing=smoothing))

    return math.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x)


def fit_threshold(probabilities: torch.Tensor, labels: torch.Tensor, *, target: float = TARGET) -> float:
    """Return the smallest confidence at which the share of right answers, among those at or above it, is `target`.

    Selective classification (Geifman and El-Yaniv, NeurIPS 2017) by the observed share: their bound on it costs more
    answers than validation sets of some hundred images can spare, so expect a little less on new ones. 0 (answer
    everything) where all answers together reach the target; 1 (answer only what is certain) where those at no
    confidence do, of at least `FEWEST_ANSWERED` or all images. probabilities  # (n, classes), labels  # (n,).
    """
    confidence, is_right = _answers(probabilities, labels)
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence, right = confidence[order], np.cumsum(is_right[order])
    answered = np.arange(1, len(order) + 1)
    is_last_of_ties = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    reaches = (right >= target * answered) & is_last_of_ties & (answered >= min(FEWEST_ANSWERED, len(order)))
    if reaches[-1]:
        return 0.0
    return float(sorted_confidence[np.flatnonzero(reaches)[-1]]) if reaches.any() else 1.0


def fit_max_energy(logits: torch.Tensor, quantile: float = ENERGY_QUANTILE) -> float:
    """Return the energy above which a scan is unlike those behind `logits`  # (n, classes), undivided.

    Energy is -logsumexp (Liu et al., NeurIPS 2020). The limit lies beyond the quantile by a quarter of its distance
    from the median: what is just above the quantile belongs here too.
    """
    energies = (-logits.double().logsumexp(dim=1)).cpu().numpy()
    median, high = np.quantile(energies, (0.5, quantile))
    return float(high + _ENERGY_MARGIN * (high - median))


def answered_at(probabilities: torch.Tensor, labels: torch.Tensor, *, threshold: float) -> Answered:
    """Return how many images are answered at this confidence or more, and how many of them rightly."""
    confidence, is_right = _answers(probabilities, labels)
    kept = confidence >= threshold
    count = int(kept.sum())
    return Answered(
        threshold=threshold,
        images=count,
        coverage=count / len(kept),
        accuracy=float(is_right[kept].mean()) if count else None,
    )


def reliability(probabilities: torch.Tensor, labels: torch.Tensor, *, bins: int = BINS) -> Reliability:
    """Return confidence and accuracy by confidence, bins (k/bins, (k+1)/bins], of probabilities  # (n, classes)."""
    confidence, is_right = _answers(probabilities, labels)
    place = bin_of(confidence, bins)
    images = np.bincount(place, minlength=bins)
    filled = np.flatnonzero(images)
    return Reliability(
        lower=tuple((filled / bins).tolist()),
        upper=tuple(((filled + 1) / bins).tolist()),
        confidence=tuple((np.bincount(place, confidence, bins)[filled] / images[filled]).tolist()),
        accuracy=tuple((np.bincount(place, is_right, bins)[filled] / images[filled]).tolist()),
        images=tuple(images[filled].tolist()),
    )


def bin_of(confidence: Floats, bins: int = BINS) -> npt.NDArray[np.int64]:
    """Return each confidence's bin, from 0: the bins are (k/bins, (k+1)/bins]."""
    return np.asarray(np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1), dtype=np.int64)


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor, *, bins: int = BINS) -> float:
    """Return the mean distance of confidence and accuracy over the bins, by their images (Guo et al., 2017): 0 to 1."""
    found = reliability(probabilities, labels, bins=bins)
    gaps = np.abs(np.subtract(found.confidence, found.accuracy))
    return float(np.average(gaps, weights=found.images))


def error_by_chance(probabilities: torch.Tensor, *, draws: int = 1000) -> float:
    """Return the calibration error that one in twenty such sets would show of a perfectly calibrated model.

    So many images scatter about their confidence: answers are drawn as right or wrong by it, and measured (consistency
    resampling, Bröcker and Smith, 2007). An error below it shows no bad calibration. The draws are always the same.
    """
    confidence = probabilities.double().cpu().numpy().max(axis=1)
    place = np.eye(BINS)[bin_of(confidence)]  # (n, bins)
    rng = np.random.default_rng(0)
    errors = [np.abs((confidence - (rng.random(len(confidence)) < confidence)) @ place).sum() for _ in range(draws)]
    return float(np.quantile(errors, 0.95) / len(confidence))


def brier_score(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean over images of the squared distance of the probabilities and the label's indicator: 0 to 2.

    Summed over the classes, as Brier (1950) defines it, not halved.
    """
    return float(brier_terms(probabilities, labels).mean())


def brier_terms(probabilities: torch.Tensor, labels: torch.Tensor) -> Floats:
    """Return each image's part of it  # (n,)."""
    given = probabilities.double().cpu()
    indicator = functional.one_hot(labels.cpu(), given.shape[1])
    return np.asarray((given - indicator).square().sum(dim=1).numpy(), dtype=np.float64)


def _answers(probabilities: torch.Tensor, labels: torch.Tensor) -> tuple[Floats, Floats]:
    """Return (confidence  # (n,), 1.0 where the answer is right  # (n,)); of equals the first class is the answer."""
    given = probabilities.double().cpu().numpy()
    answers = given.argmax(axis=1)
    return given.max(axis=1), (answers == labels.cpu().numpy()).astype(np.float64)


def _checked(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    own, truth = logits.detach().double().cpu(), labels.cpu()
    if not len(truth):
        raise BadInput("validation", found="no image", expected="some hundred, to calibrate by")
    if not bool(own.isfinite().all()):
        raise ModelError("model's outputs", found="numbers that are not finite", expected="finite ones, to calibrate")
    return own, truth
