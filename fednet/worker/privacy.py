"""One hospital's differential privacy in one run: how much noise, what each round spends, and when there is no more.

The budget is the hospital's own, over all runs of one ledger. A run's noise is chosen once, so that its planned rounds
use up what is left of it; a run that turns out longer ends for this hospital when the next round would exceed it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fednet.config import PrivacySettings, RunSettings, TrainingSettings
from fednet.errors import DECLINED, BadInput, Refused
from fednet.worker.compute import Compute
from fednet.worker.privacy_accounting import epsilon_of, noise_multiplier_for
from fednet.worker.privacy_ledger import SiteLedger, SiteMechanism, rate_and_steps
from fednet.worker.private_training import objection_to, require_finite, train_privately
from fednet.worker.progress import TrainingProgress
from fednet.worker.training import PickedData, TrainingResult

_NOT_FINITE = "the round's model has weights that are not finite: nothing was trained, and no privacy spent"


class SitePrivacy:
    """Trains in one run by DP-SGD, within the budget; what was spent is charged before a training begins."""

    def __init__(
        self,
        settings: PrivacySettings,
        ledger: SiteLedger,
        *,
        run: str,
        planned: RunSettings,
        data: PickedData,
        model: nn.Module,
        notice: Callable[[str], None],
    ) -> None:
        """Decide the run's noise, unless the ledger has it. `model`: one of the run's architecture.

        Raises `Refused` where nothing is left, or this architecture or training cannot be private; `BadInput` for a
        delta that protects nobody; `StorageError`.
        """
        self._settings, self._ledger, self._run = settings, ledger, run
        self._data, self._name, self._notice = data, planned.model, notice
        if settings.delta * data.samples >= 1:
            raise BadInput(
                "--dp-delta",
                found=f"{settings.delta:g}",
                expected=f"less than 1 / {data.samples}, the scans here: else giving one away whole would be allowed",
            )
        self._require_private(planned.training, model)
        if ledger.is_new:
            notice(f"privacy: {ledger.name} is new: nothing has been spent of these scans so far")
        self._noise = ledger.noise_multiplier(run) or self._plan(planned)

    @property
    def epsilon(self) -> float:
        """What is spent, of all runs."""
        return epsilon_of(self._ledger.charged, delta=self._settings.delta)

    @property
    def delta(self) -> float:
        """The chance that epsilon does not hold."""
        return self._settings.delta

    @property
    def head(self) -> str:
        """What the ledger has come to: the digest of its last line."""
        return self._ledger.head

    def train(
        self,
        model: nn.Module,
        training: TrainingSettings,
        *,
        round_number: int,
        compute: Compute,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> TrainingResult:
        """Train `model` in place as `train_privately` does; one that is stopped costs nothing.

        Raises `Refused` where the budget has no room for it, `TrainingError` or `StorageError`. A model that is not
        finite costs nothing either: nothing could be learnt from it, and whoever sends such must not use up the budget.
        """
        self._require_private(training, model)
        require_finite(model, otherwise=_NOT_FINITE)
        mechanism = self._mechanism(training)
        if mechanism.steps:
            self._charge(round_number, mechanism)
        result = train_privately(
            model,
            self._data,
            training,
            mechanism=mechanism,
            clip=self._settings.clip,
            compute=compute,
            on_progress=on_progress,
            should_stop=should_stop,
        )
        if result.stopped:
            before = epsilon_of(self._ledger.charged[:-1], delta=self.delta)
            self._ledger.give_back(self._run, round_number, epsilon=before, delta=self.delta)
        return result

    def _charge(self, round_number: int, mechanism: SiteMechanism) -> None:
        epsilon = epsilon_of([*self._ledger.charged, mechanism], delta=self.delta)
        if epsilon > self._settings.epsilon:
            raise self._used_up(f"round {round_number} would make it {epsilon:.4g}")
        self._ledger.charge(self._run, round_number, mechanism, epsilon=epsilon, delta=self.delta)
        self._notice(f"privacy: epsilon {epsilon:.4g} of {self._settings.epsilon:g} spent (delta {self.delta:g})")

    def _plan(self, planned: RunSettings) -> float:
        rate, steps = rate_and_steps(self._data.samples, planned.training)
        wanted, spent = max(1, planned.rounds * steps), self._ledger.charged
        noise = noise_multiplier_for(rate, wanted, epsilon=self._settings.epsilon, delta=self.delta, before=spent)
        if noise is None:
            raise self._used_up(f"too little is left for a run of {wanted} steps")
        self._ledger.plan(
            self._run, SiteMechanism(noise_multiplier=noise, sample_rate=rate, steps=wanted), self._settings
        )
        self._notice(
            f"privacy: {planned.rounds} rounds of {steps} steps, each with {rate:.1%} of the scans by chance and noise "
            f"of {noise:.3g} times the clip {self._settings.clip:g}, use up epsilon {self._settings.epsilon:g}"
        )
        return noise

    def _mechanism(self, training: TrainingSettings) -> SiteMechanism:
        rate, steps = rate_and_steps(self._data.samples, training)
        return SiteMechanism(noise_multiplier=self._noise, sample_rate=rate, steps=steps)

    def _require_private(self, training: TrainingSettings, model: nn.Module) -> None:
        objection = objection_to(training, model, name=self._name)
        if objection is not None:
            raise Refused(DECLINED, objection)

    def _used_up(self, why: str) -> Refused:
        return Refused(
            DECLINED,
            f"privacy budget used up: epsilon {self.epsilon:.4g} of {self._settings.epsilon:g} spent (delta "
            f"{self.delta:g}), and {why}",
        )
