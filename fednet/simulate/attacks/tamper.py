"""Attacks as a real worker can play them: on its own flat update, knowing nothing of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from fednet.errors import BadInput
from fednet.simulate.attacks.registry import ATTACKS, attack_named
from fednet.simulate.attacks.sight import Attack, Sight, Submission
from fednet.tensors import Manifest, parameters_of, views

Tamper = Callable[[torch.Tensor, Manifest], torch.Tensor]
"""From an honest flat update (uint8) to the one that is sent."""


def tamper_named(text: str, *, seed: int, option: str = "--attack") -> Tamper:
    """Return what a malicious worker does to its updates; it remembers from round to round.

    Raises `BadInput` as `attack_named`, and for attacks that need others' updates, other data or accomplices.
    """
    attack = attack_named(text, option=option)
    if not is_for_one_worker(attack):
        possible = [name for name in ATTACKS if is_for_one_worker(attack_named(name))]
        raise BadInput(
            f"{option} {text}",
            found="an attack that exists in `simulate` only: it needs others' updates, poisoned data or accomplices",
            expected=", ".join(possible),
        )
    return tamper_of(attack, seed=seed)


def is_for_one_worker(attack: Attack) -> bool:
    """Whether a worker can play it with nothing but its own update."""
    return not attack.sees_others and attack.poison_data is None and attack.extra_attackers == 0


def tamper_of(attack: Attack, *, seed: int) -> Tamper:
    """Return the attack as a function on flat updates, which leaves the one it is given as it is."""
    alone = Sight(honest=(), own=(), byzantine=1, memory={}, generator=torch.Generator().manual_seed(seed))

    def tamper(update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        # sample counts travel beside the update, so none is known here, and none of these attacks changes it
        own = Submission(delta=parameters_of(update, manifest), buffers=_buffers(update, manifest), samples=1)
        (poisoned,) = attack.poison(replace(alone, own=(own,)))
        return _flat(poisoned, update, manifest)

    return tamper


def _buffers(flat: torch.Tensor, manifest: Manifest) -> dict[str, torch.Tensor]:
    every = views(flat, manifest)
    return {spec.name: every[spec.name] for spec in manifest.specs if not spec.is_parameter}


def _flat(poisoned: Submission, update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    flat = update.clone()
    parameters_of(flat, manifest).copy_(poisoned.delta)
    for name, view in _buffers(flat, manifest).items():
        view.copy_(poisoned.buffers[name])
    return flat
