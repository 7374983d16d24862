"""The account of a run's client-level differential privacy: every noised step is charged, durably, before it is drawn.

Counting the committed rounds would be too few: a process may die when a round's model is on disk (its checkpoint is
written before its row), and the process that takes over draws other noise for the same updates. Nothing of the first
model has left the coordinator's machine then, but a copy of that disk may have; so it counts. A crash between the
charge and the draw is charged for nothing: the account errs to that side only.
"""

from __future__ import annotations

from typing import Any

import torch

from fednet.aggregation.private import CentreMechanism, mechanism_of
from fednet.aggregation.rules.registry import recipe_named
from fednet.config import RunSettings
from fednet.errors import BadInput, RunParked
from fednet.privacy.accounting import affordable, epsilon_after
from fednet.privacy.noise import noised
from fednet.storage.store import RunStore


def promise(settings: RunSettings) -> str:
    """Return what a run with these settings promises, for people."""
    privacy, most = settings.client_privacy, settings.rounds
    text = f"client-level differential privacy: {most} rounds would spend epsilon {_spent(settings, most):.3g}"
    if privacy.epsilon:
        text += f" of {privacy.epsilon:g}"
    return f"{text} (delta {privacy.delta:g}; one hospital's updates of all rounds against any others)"


def planned(settings: RunSettings) -> RunSettings:
    """Return the settings with as many rounds as the run's epsilon allows, so that its schedule ends with the last.

    As they are where it allows none: see `require_affordable`.
    """
    privacy = settings.client_privacy
    if not privacy.epsilon:
        return settings
    multiplier = _mechanism(settings).multiplier
    rounds = affordable(privacy.epsilon, multiplier=multiplier, delta=privacy.delta, most=settings.rounds)
    return settings.lasting(rounds) if rounds else settings


def require_affordable(settings: RunSettings) -> None:
    """Raise `BadInput` where the first round alone would spend more than the run may."""
    _require_within(settings, draws=0)


class CentreLedger:
    """One run's account. Satisfies `fednet.coordinator.aggregator.Release` by `release`. Works on disk."""

    def __init__(self, settings: RunSettings, store: RunStore) -> None:
        """`settings` of a run that keeps client-level privacy."""
        self._settings, self._store = settings, store

    @property
    def affords_another(self) -> bool:
        """Whether one more noised step stays within the run's epsilon."""
        limit = self._settings.client_privacy.epsilon
        return not limit or _spent(self._settings, self._store.noise_draws() + 1) <= limit

    def require_room(self) -> None:
        """Raise `BadInput` where not even one more step could be drawn."""
        _require_within(self._settings, draws=self._store.noise_draws())

    def release(self, step: torch.Tensor, clipped: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """Charge one step, then draw its noise; raises `StorageError`, and then there is none.

        Raises `RunParked` where it would be too much: a round that was spoilt when its noise was drawn (by a worker's
        revocation, say) comes here again. Resumed, the run ends with the rounds that it has.

        Returns (step with noise  # (d,) float32, what the round's document says of it).
        """
        if not self.affords_another:
            raise RunParked(
                "run parked: another noised step would spend more than the run may (--client-dp-epsilon). "
                "Everything is saved; --resume ends it with the rounds that it has"
            )
        self._store.noise_charged()
        draws, privacy, mechanism = self._store.noise_draws(), self._settings.client_privacy, _mechanism(self._settings)
        return noised(step, mechanism.deviation), {
            "epsilon": _spent(self._settings, draws),
            "epsilon_of_another": _spent(self._settings, draws + 1),
            "delta": privacy.delta,
            "rounds": draws,
            "noise": privacy.noise,
            "noise_deviation": mechanism.deviation,
            "clip": privacy.clip,
            "clipped": clipped,
            "sensitivity": mechanism.sensitivity,
            "adjacency": "one hospital sends other updates, or none, in every round",
        }


def _mechanism(settings: RunSettings) -> CentreMechanism:
    rule = recipe_named(settings.aggregator).rule.name
    return mechanism_of(rule, settings.client_privacy, workers=settings.workers)


def _spent(settings: RunSettings, draws: int) -> float:
    return epsilon_after(draws, multiplier=_mechanism(settings).multiplier, delta=settings.client_privacy.delta)


def _require_within(settings: RunSettings, *, draws: int) -> None:
    limit = settings.client_privacy.epsilon
    if limit and (spent := _spent(settings, draws + 1)) > limit:
        raise BadInput(
            f"--client-dp-epsilon {limit:g}",
            found=f"{spent:.3g} would be spent by {'another' if draws else 'the first'} round",
            todo="more --client-dp-noise, or a larger epsilon, for a new run",
        )
