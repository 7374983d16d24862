"""What a hospital agrees to train, and why a request goes beyond it: the moment and the machine are passed in. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fednet.config import RunSettings, TrainingSettings
from fednet.worker.hours import Window, are_within

COMPRESSIONS = ("any", "required", "off")
MOST_LOCAL_EPOCHS = 50.0  # agreed to where nothing else is said
MOST_LEARNING_RATE = 1.0
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a worker's machine is like at one moment; None: it cannot be told here."""

    local_time: datetime  # of the hospital's own clock
    free_memory_bytes: int | None = None
    own_memory_share: float | None = None  # of the machine's memory, held by this process
    free_gpu_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerConsent:
    """What a coordinator may ask of this hospital. What goes beyond it is declined, with every reason there is.

    None, an empty tuple and `any` set no bound.
    """

    models: tuple[str, ...] = ()
    max_rounds: int | None = None
    max_local_epochs: float = MOST_LOCAL_EPOCHS
    min_learning_rate: float = 0.0
    max_learning_rate: float = MOST_LEARNING_RATE
    max_batch_size: int | None = None
    compression: str = "any"  # of updates, one of COMPRESSIONS
    hours: tuple[Window, ...] = ()
    min_free_memory_gib: float | None = None
    max_memory_share: float | None = None
    min_free_gpu_memory_gib: float | None = None

    def objection_to_run(self, settings: RunSettings) -> str | None:
        """Return why this hospital takes no part in such a run, or None."""
        return _joined(
            [
                self._objection_to_model(settings.model),
                self.objection_to_length(settings.rounds),
                self._objection_to_form(settings.compress),
                self.objection_to_training(settings.training),
            ]
        )

    def objection_to_length(self, rounds: int) -> str | None:
        """Return why a run of so many rounds is too long, or None: a run that goes on may get more."""
        if self.max_rounds is None or rounds <= self.max_rounds:
            return None
        return f"the run has {rounds} rounds, at most {self.max_rounds} agreed"

    def objection_to_training(self, training: TrainingSettings) -> str | None:
        """Return why such training is not done, or None."""
        rate = training.learning_rate
        return _joined(
            [
                _above("local epochs", training.local_epochs, self.max_local_epochs, option=" (--max-epochs)"),
                _above("learning rate", rate, self.max_learning_rate, option=" (--max-lr)"),
                _below("learning rate", rate, self.min_learning_rate),
                _above("batch size", training.batch_size, self.max_batch_size),
            ]
        )

    def objection_now(self, found: Circumstances) -> str | None:
        """Return why no training is begun at this moment, or None; it may be begun later."""
        free, gpu, share = found.free_memory_bytes, found.free_gpu_memory_bytes, found.own_memory_share
        return _joined(
            [
                self._objection_to_hour(found.local_time),
                _too_little("memory", free, self.min_free_memory_gib),
                _too_little("GPU memory", gpu, self.min_free_gpu_memory_gib),
                self._objection_to_share(share),
            ]
        )

    def _objection_to_model(self, model: str) -> str | None:
        if not self.models or model in self.models:
            return None
        return f"the run trains {model}, this worker agreed to {' or '.join(self.models)} only (--model)"

    def _objection_to_form(self, form: str) -> str | None:
        if self.compression == "required" and form == "none":
            return "updates would travel as they are, compression is required"
        if self.compression == "off" and form != "none":
            return f"updates would travel as {form}, agreed is no compression"
        return None

    def _objection_to_hour(self, moment: datetime) -> str | None:
        if are_within(self.hours, moment):
            return None
        agreed = ", ".join(window.text for window in self.hours)
        return f"it is {moment:%a %H:%M} here, training begins only within {agreed}"

    def _objection_to_share(self, share: float | None) -> str | None:
        if self.max_memory_share is None:
            return None
        if share is None:
            return "how much memory this worker holds cannot be told on its machine"
        if share <= self.max_memory_share:
            return None
        return f"this worker holds {share:.0%} of its machine's memory, at most {self.max_memory_share:.0%} agreed"


def _joined(objections: Iterable[str | None]) -> str | None:
    return "; ".join(each for each in objections if each is not None) or None


def _above(what: str, asked: float, most: float | None, *, option: str = "") -> str | None:
    return None if most is None or asked <= most else f"{what} {asked:g} asked, at most {most:g} agreed{option}"


def _below(what: str, asked: float, least: float) -> str | None:
    return None if asked >= least else f"{what} {asked:g} asked, at least {least:g} agreed"


def _too_little(what: str, free: int | None, least_gib: float | None) -> str | None:
    if least_gib is None:
        return None
    if free is None:
        return f"how much {what} is free cannot be told on this worker's machine"
    if free >= least_gib * _GIB:
        return None
    return f"{free / _GIB:.1f} GiB of {what} are free at this worker, at least {least_gib:g} GiB agreed"
