"""Attacks, each by its paper's formula: what malicious workers send instead of their updates."""

from fednet.simulate.attacks.registry import ATTACKS, attack_named
from fednet.simulate.attacks.sight import Attack, Sight, Submission

__all__ = ["ATTACKS", "Attack", "Sight", "Submission", "attack_named"]
