"""`worker.toml`: all that a hospital agrees to, beside what it may be asked (consent.py), and what an option narrows.

An option of `worker join` may only narrow what the file says: one that goes further is refused before anything is said
to anybody, because the file is what a privacy officer has signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fednet.config import PrivacySettings
from fednet.errors import BadInput
from fednet.worker.consent import WorkerConsent


@dataclass(frozen=True, kw_only=True)
class PrivacyBounds:
    """What differential privacy this hospital trains with, if it is bound to any."""

    is_required: bool = False
    max_epsilon: float | None = None
    max_delta: float | None = None


@dataclass(frozen=True, kw_only=True)
class MachineBounds:
    """What this worker may take of its machine."""

    max_threads: int | None = None
    max_gpu_memory_gib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Everything a consent file says; without a file, what holds anyway."""

    path: Path | None = None  # of the file
    authorities: frozenset[str] = frozenset()  # SHA-256 of their certificates, hex; empty: any
    coordinators: frozenset[str] = frozenset()
    data: Path | None = None  # the only folder of scans
    may_share_evaluation: bool = True
    consent: WorkerConsent = field(default_factory=WorkerConsent)
    privacy: PrivacyBounds = field(default_factory=PrivacyBounds)
    machine: MachineBounds = field(default_factory=MachineBounds)

    def narrowed(
        self, *, model: str | None = None, max_local_epochs: float | None = None, max_learning_rate: float | None = None
    ) -> WorkerConsent:
        """Return the consent with these options' bounds; raises `BadInput` for one that the file does not allow."""
        agreed = self.consent
        if model is not None:
            if agreed.models and model not in agreed.models:
                raise self._goes_beyond("--model", model, " or ".join(agreed.models))
            agreed = replace(agreed, models=(model,))
        if max_local_epochs is not None:
            self._require_within("--max-epochs", max_local_epochs, agreed.max_local_epochs)
            agreed = replace(agreed, max_local_epochs=max_local_epochs)
        if max_learning_rate is not None:
            self._require_within("--max-lr", max_learning_rate, agreed.max_learning_rate)
            agreed = replace(agreed, max_learning_rate=max_learning_rate)
        return agreed

    def require_data(self, folder: Path) -> None:
        """Raise `BadInput` unless the scans of this folder are the ones that were agreed to."""
        if self.data is not None and folder.resolve() != self.data.resolve():
            raise self._goes_beyond("--data", str(folder), str(self.data))

    def require_sharing(self, *, is_asked: bool) -> None:
        """Raise `BadInput` where counts of held-out scans would be told and may not be."""
        if is_asked and not self.may_share_evaluation:
            raise self._goes_beyond("--share-evaluation", "it", "share_evaluation = false")

    def require_privacy(self, settings: PrivacySettings | None) -> None:
        """Raise `BadInput` unless this worker's own differential privacy is as strong as was agreed."""
        if settings is None:
            if self.privacy.is_required:
                raise self._goes_beyond("--dp-epsilon", "none", 'dp = "required"')
            return
        self._require_within("--dp-epsilon", settings.epsilon, self.privacy.max_epsilon)
        self._require_within("--dp-delta", settings.delta, self.privacy.max_delta)

    def threads(self, asked: int | None) -> int | None:
        """Return how many threads train: as asked for, or as many as were agreed to; None: no bound."""
        self._require_within("--num-threads", asked, self.machine.max_threads)
        return asked or self.machine.max_threads

    def gpu_memory_gib(self, asked: float | None) -> float | None:
        """Return how much GPU memory may be taken: as asked for, or as agreed; None: no bound."""
        self._require_within("--max-gpu-memory", asked, self.machine.max_gpu_memory_gib)
        return asked or self.machine.max_gpu_memory_gib

    def _require_within(self, option: str, asked: float | None, most: float | None) -> None:
        if self.path is not None and asked is not None and most is not None and asked > most:
            raise self._goes_beyond(option, f"{asked:g}", f"at most {most:g}")

    def _goes_beyond(self, option: str, found: str, agreed: str) -> BadInput:
        todo = "an option may only narrow it: change the option, or have the file changed by who answers for it"
        return BadInput(option, found=found, expected=f"{agreed}, as {self.path} agrees to", todo=todo)
