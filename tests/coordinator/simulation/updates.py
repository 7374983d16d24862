"""What is trained and combined, in place of tensors: texts that say where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fednet.config import WorkerName
from tests.coordinator.simulation.plan import Plan

FIRST_MODEL = hashlib.sha256(b"the model that the run starts from").hexdigest()


@dataclass(frozen=True)
class Update:
    """A worker's training on a round's model; where it does not repeat bit by bit, `attempt` is another each time."""

    worker: WorkerName
    round: int
    base: str
    attempt: int = 0

    @property
    def content(self) -> str:
        """Return it as it travels and is stored."""
        return f"{self.worker} {self.round} {self.base} {self.attempt}"


def update_in(content: str) -> Update:
    """Return what `Update.content` says."""
    worker, number, base, attempt = content.split()
    return Update(WorkerName(worker), int(number), base, int(attempt))


def digest_of(content: str) -> str:
    """Return the SHA-256, hex."""
    return hashlib.sha256(content.encode()).hexdigest()


def is_selected(digest: str) -> bool:
    """Whether the aggregation takes an update: most."""
    return not digest.startswith("0")


def combined(base: str, updates: Sequence[tuple[WorkerName, str]]) -> str:
    """Return the model that follows from (worker, digest of its update), in this order."""
    return digest_of(" ".join([base, *(f"{worker}={digest}" for worker, digest in updates if is_selected(digest))]))


def undisturbed(plan: Plan) -> str:
    """Return the last model of the run in which nothing breaks."""
    model = FIRST_MODEL
    for number in range(1, plan.settings.rounds + 1):
        model = combined(model, [(each, digest_of(Update(each, number, model).content)) for each in plan.workers])
    return model
