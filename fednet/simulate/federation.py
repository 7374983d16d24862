"""One virtual federation: the real training, round and aggregation code in one process, without sockets."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fednet.aggregation.batch_norm import Refitter, require_batch_norm
from fednet.aggregation.private import claim_of, mechanism_of, private_recipe, require_no_buffers
from fednet.aggregation.recipe import Recipe
from fednet.aggregation.rows import SeparateRows
from fednet.aggregation.server_optimizer import FRESH, server_step
from fednet.aggregation.strategy import Outcome, Trust, UpdateFacts, aggregate
from fednet.compression.forms import form_named, with_feedback
from fednet.config import PrivacySettings, RunSettings, WorkerName, derived_seed, require
from fednet.coordinator.round import (
    Aggregate,
    AggregationFailed,
    Command,
    CommitRound,
    EvaluateModel,
    ModelDelivered,
    ModelEvaluated,
    ParkRun,
    RoundCommitted,
    Rounds,
    SendModel,
    UpdatesAggregated,
    UpdateStored,
    WorkerJoined,
)
from fednet.errors import AggregationError
from fednet.privacy.accounting import affordable, epsilon_after
from fednet.privacy.noise import noised
from fednet.reporting.metrics import EvaluationData, Metrics, StepJudge, evaluate
from fednet.simulate.attacks import Attack, Sight, Submission
from fednet.simulate.attacks.sight import PoisonData
from fednet.simulate.private_sites import PrivateSites
from fednet.storage.spool import spooled
from fednet.tensors import applied, empty_flat, manifest_of, pack, parameters_of, update_from, views
from fednet.worker.compute import Compute
from fednet.worker.objective import require_trainable
from fednet.worker.own_norm import OwnNorm
from fednet.worker.training import PickedData, TrainingData, train

MOST_IN_MEMORY = 2**31  # bytes of a round's updates: beside them a grid has datasets and other processes

Data = Callable[[PoisonData | None], PickedData]
"""A hospital's data, as they are or after an attacker has poisoned them."""


class Samples(PickedData, EvaluationData, Protocol):
    """Data that are trained on and judged by: a root of trust."""


@dataclass(frozen=True, kw_only=True)
class World:
    """All that virtual federations have in common: who there is, and on what they are judged."""

    hospitals: Mapping[WorkerName, Data]
    test: EvaluationData
    validation: TrainingData  # the coordinator's: what BatchNorm statistics are taken from
    root: Samples | None
    triggered: Callable[[Attack], EvaluationData | None]  # test images of other classes than its target, with trigger
    new_model: Callable[[], nn.Module]
    device: torch.device
    mixes: bool | None = None  # precisions in training, as `Compute` has it
    compiles: bool = False  # likewise
    privacy: PrivacySettings | None = None  # of each hospital's own training; None: it keeps none


@dataclass(kw_only=True)
class Simulated:
    """What became of one virtual federation; each list has one entry a round."""

    accuracy: list[float] = field(default_factory=list)
    worst_recall: list[float] = field(default_factory=list)
    attackers_selected: list[int] = field(default_factory=list)
    attackers_share: list[float] = field(default_factory=list)  # of the step, 0 to 1
    honest_rejected: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    attackers: list[str] = field(default_factory=list)
    attack_success: float | None = None  # share of triggered images that the last model takes for the target
    parked: str | None = None
    epsilon: float | None = None  # that client-level privacy has spent, where there is any


class VirtualFederation:
    """Runs one attack against one recipe, from the first round to the last."""

    def __init__(
        self,
        world: World,
        settings: RunSettings,
        recipe: Recipe,
        attack: Attack | None,
        *,
        spool: Path | None = None,
        most_in_memory: int = MOST_IN_MEMORY,
    ) -> None:
        """The last f workers by name (and as many more as the attack brings) are the attackers.

        Where a round's updates would take more than `most_in_memory` bytes, those that are trained are kept on disk, in
        the folder `spool`; what attackers make of theirs is in memory.
        """
        settings = within_budget(settings, recipe)
        self._world, self._settings, self._attack = world, settings, attack
        privacy = settings.client_privacy
        self._recipe = private_recipe(recipe, privacy, workers=settings.workers)
        self._mechanism = mechanism_of(recipe.rule.name, privacy, workers=settings.workers) if privacy.is_on else None
        names = list(world.hospitals)
        count = 0 if attack is None else max(1, settings.byzantine + attack.extra_attackers)
        self._attackers = names[len(names) - count :]
        self._honest = names[: len(names) - count]
        poison = attack.poison_data if attack else None
        self._data = {name: data(poison if name in self._attackers else None) for name, data in world.hospitals.items()}
        self._network = world.new_model().to(world.device)
        require_trainable(self._network, settings.training)
        require_batch_norm(self._network, name=settings.model, asked=settings.batch_norm)
        self._manifest = manifest_of(self._network.state_dict(), [name for name, _ in self._network.named_parameters()])
        if privacy.is_on:
            require_no_buffers(self._manifest, model=settings.model)
        self._model = pack(self._network.state_dict(), self._manifest)
        needed = len(world.hospitals) * self._manifest.total_bytes
        self._spool = spool if needed > most_in_memory else None
        self._form = form_named(settings.compress, option="--compress")
        self._lost: dict[WorkerName, torch.Tensor] = {}  # by rounding, at each hospital
        self._memory: dict[str, torch.Tensor] = {}
        self._outcome: Outcome | None = None
        self._server = FRESH
        stays = settings.batch_norm == "local"
        self._norms = {name: OwnNorm(self._network) for name in names if stays}
        self._private = PrivateSites(world.privacy, settings) if world.privacy else None
        self._found = Simulated(attackers=list(self._attackers))

    def network(self) -> nn.Module:
        """Return the network with the last round's model, on the world's device."""
        self._network.load_state_dict(views(self._model, self._manifest))
        return self._network

    def spent(self) -> dict[str, float]:
        """Return the epsilon that each hospital has spent of its own privacy; {} where none keeps any."""
        return self._private.spent() if self._private else {}

    def run(self, *, on_round: Callable[[int, float], None] = lambda number, accuracy: None) -> Simulated:
        """Run all rounds; an aggregation that cannot be done safely parks the run, as it does over sockets.

        `on_round` hears of each round and its accuracy.
        """
        rounds = Rounds(self._settings, first_round=1, known_workers=(), grace_s=0.0, now=0.0)
        todo: collections.deque[Command] = collections.deque()
        for name in self._world.hospitals:
            todo.extend(rounds.handle(WorkerJoined(name), now=0.0))
        while todo:
            command = todo.popleft()
            for event in self._carry_out(command):
                todo.extend(rounds.handle(event, now=0.0))
            if isinstance(command, CommitRound):
                on_round(command.round, self._found.accuracy[-1])
        if self._attack is not None:
            self._found.attack_success = self._success(self._attack)
        return self._found

    def _carry_out(self, command: Command) -> list[Any]:
        match command:
            case SendModel(worker, number):
                return [ModelDelivered(worker, number), UpdateStored(worker, number)]
            case Aggregate(number, workers):
                try:
                    self._aggregate(number, workers)
                except AggregationError as exc:
                    return [AggregationFailed(str(exc))]
                return [UpdatesAggregated()]
            case EvaluateModel():
                self._evaluate()
                return [ModelEvaluated()]
            case CommitRound():
                return [RoundCommitted()]
            case ParkRun(reason):
                self._found.parked = reason
        return []

    def _aggregate(self, number: int, workers: Sequence[WorkerName]) -> None:
        submissions = self._submissions(number)
        is_private = self._mechanism is not None
        self._outcome = aggregate(
            [UpdateFacts(name, claim_of(submissions[name].samples, is_private=is_private)) for name in workers],
            SeparateRows([submissions[name].delta for name in workers]),
            [submissions[name].buffers for name in workers],
            recipe=self._recipe,
            byzantine=self._settings.byzantine,
            device=self._world.device,
            seed=derived_seed(self._settings.seed, "aggregation", number),
            trust=self._trust(number) if self._recipe.rule.needs_root else None,
        )
        step = self._released(self._outcome.step, number)
        step, self._server = server_step(step, self._server, self._settings.server)
        self._model = applied(self._model, step, self._outcome.buffers, self._manifest)
        if self._settings.batch_norm == "reestimated":
            self._model = Refitter(self._network, self._world.validation, self._manifest)(self._model)
        self._note(self._outcome)

    def _released(self, step: torch.Tensor, number: int) -> torch.Tensor:
        """Return the step with its noise, if the run keeps client-level privacy; it differs in each run of a seed."""
        if self._mechanism is None:
            return step
        delta = self._settings.client_privacy.delta
        self._found.epsilon = epsilon_after(number, multiplier=self._mechanism.multiplier, delta=delta)
        return noised(step, self._mechanism.deviation)

    def _submissions(self, number: int) -> dict[WorkerName, Submission]:
        trained = {name: self._trained(name, self._data[name], number) for name in self._world.hospitals}
        if self._attack is None:
            return self._travelled(trained)
        sight = Sight(
            honest=[trained[name] for name in self._honest],
            own=[trained[name] for name in self._attackers],
            byzantine=self._settings.byzantine,
            memory=self._memory,
            generator=torch.Generator().manual_seed(derived_seed(self._settings.seed, "attack", number)),
        )
        return self._travelled(trained | dict(zip(self._attackers, self._attack.poison(sight), strict=True)))

    def _travelled(self, submissions: dict[WorkerName, Submission]) -> dict[WorkerName, Submission]:
        """Return what arrives of them: rounded, where the run rounds (what is lossless changes nothing here)."""
        if self._form.rounding is None:
            return submissions
        arrived = {}
        for name, submission in submissions.items():
            update = empty_flat(self._manifest)
            parameters_of(update, self._manifest).copy_(submission.delta)
            travels, lost = with_feedback(self._form, update, self._lost.get(name), self._manifest)
            self._lost[name] = self._kept(lost.view(torch.uint8)).view(torch.float32)
            flat = self._kept(self._form.decoded(travels, self._manifest))
            arrived[name] = replace(submission, delta=parameters_of(flat, self._manifest))
        return arrived

    def _kept(self, update: torch.Tensor) -> torch.Tensor:
        return update if self._spool is None else spooled(update, self._spool)

    def _trained(self, name: str, data: PickedData, number: int) -> Submission:
        self._network.load_state_dict(views(self._model, self._manifest))
        own_norm = self._norms.get(WorkerName(name))
        if own_norm is not None:
            own_norm.restore(self._network)
        compute = Compute(self._world.device, compiles=self._world.compiles, mixes=self._world.mixes)
        if self._private is not None and name in self._world.hospitals:
            self._private.train(name, self._network, data, round_number=number, compute=compute)
        else:
            train(
                self._network,
                data,
                self._settings.training_in(number),
                seed=derived_seed(self._settings.seed, "train", name, number),
                compute=compute,
            )
        if own_norm is not None:
            own_norm.keep(self._network.state_dict())
        update = self._kept(update_from(pack(self._network.state_dict(), self._manifest), self._model, self._manifest))
        tensors = views(update, self._manifest)
        return Submission(
            delta=parameters_of(update, self._manifest),
            buffers={spec.name: tensors[spec.name] for spec in self._manifest.specs if not spec.is_parameter},
            samples=data.samples,
        )

    def _trust(self, number: int) -> Trust:
        root = self._world.root
        assert root is not None, "checked before the grid: a rule that needs a root of trust has one"
        judge = StepJudge(self._network, root, base=self._model, manifest=self._manifest)
        return Trust(update=self._trained("root", root, number).delta, loss=judge.loss, gradient=judge.gradient)

    def _evaluate(self) -> None:
        self._network.load_state_dict(views(self._model, self._manifest))
        found = evaluate(self._network, self._world.test, classes=self._settings.classes)
        self._found.accuracy.append(found.accuracy)
        self._found.worst_recall.append(worst_recall(found))

    def _note(self, outcome: Outcome) -> None:
        attackers = [each for each in outcome.verdicts if each.worker in self._attackers]
        honest = [each for each in outcome.verdicts if each.worker not in self._attackers]
        self._found.attackers_selected.append(sum(each.selected for each in attackers))
        self._found.attackers_share.append(sum(each.weight for each in attackers))
        self._found.honest_rejected.append([each.worker for each in honest if not each.selected])
        self._found.notes.append(outcome.note)

    def _success(self, attack: Attack) -> float | None:
        images = self._world.triggered(attack)
        if images is None:
            return None
        self._network.load_state_dict(views(self._model, self._manifest))
        return evaluate(self._network, images, classes=self._settings.classes).accuracy


def within_budget(settings: RunSettings, recipe: Recipe) -> RunSettings:
    """Return the settings with as many rounds as client-level privacy allows; raises `BadInput` where there is none."""
    privacy = settings.client_privacy
    if not privacy.epsilon:
        return settings
    multiplier = mechanism_of(recipe.rule.name, privacy, workers=settings.workers).multiplier
    rounds = affordable(privacy.epsilon, multiplier=multiplier, delta=privacy.delta, most=settings.rounds)
    require(
        rounds > 0,
        "--client-dp-epsilon",
        found=f"{privacy.epsilon:g}",
        expected="more, or more --client-dp-noise: one round would exceed it",
    )
    return settings.lasting(rounds)


def worst_recall(metrics: Metrics) -> float:
    """Return the recall of the class that the model recognises worst, of those the test set has."""
    return min(each.recall for each in metrics.per_class.values() if each.support > 0)
