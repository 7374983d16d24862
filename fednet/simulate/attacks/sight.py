"""What colluding attackers see of a round, and what an attack is: a function from that to what they send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a worker sends in a round; its tensors may be shared with others and are never changed in place."""

    delta: torch.Tensor  # (d,) float32: local parameters - global parameters
    buffers: Mapping[str, torch.Tensor]  # BatchNorm statistics, by name as in a state_dict
    samples: int  # as it claims


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the colluding attackers of a round know; there is at least one attacker."""

    honest: Sequence[Submission]  # of all honest workers, in worker order; empty where attackers see only themselves
    own: Sequence[Submission]  # what each attacker's training gave (on poisoned data where the attack has some)
    byzantine: int  # the f that the coordinator tolerates
    memory: dict[str, torch.Tensor]  # what the attack keeps from round to round
    generator: torch.Generator

    @property
    def known(self) -> list[torch.Tensor]:
        """Return the honest deltas; where none is seen the attackers' own training stands in (partial knowledge)."""
        return [each.delta for each in self.honest or self.own]


Poison = Callable[[Sight], list[Submission]]
"""Returns one submission for each of `own`, in order; changes nothing but the memory and the generator."""

PoisonData = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From images  # (n, 1, s, s) uint8 and labels  # (n,) int64 to poisoned copies."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack, ready to use; `name` is what was asked for, parameters included."""

    name: str
    poison: Poison
    poison_data: PoisonData | None = None  # applied once to an attacker's local data set
    sees_others: bool = False  # needs the honest updates, so it exists in `simulate` alone
    extra_attackers: int = 0  # how many more than f take part
    trigger: Callable[[torch.Tensor], torch.Tensor] | None = (
        None  # backdoor: images (n, 1, s, s) uint8 -> marked copies
    )
    target: int | None = None  # backdoor: the label that marked images are to get


def as_trained(sight: Sight) -> list[Submission]:
    """Send what training gave: the poison was in the data."""
    return list(sight.own)


def with_deltas(own: Sequence[Submission], deltas: Iterable[torch.Tensor]) -> list[Submission]:
    """Return the attackers' submissions with these deltas, one each, and their own buffers and sample counts."""
    return [replace(each, delta=delta) for each, delta in zip(own, deltas, strict=True)]
