"""All aggregation rules by name: the names of `--aggregator`."""

from __future__ import annotations

from fednet.aggregation.rules.fedavg import FEDAVG
from fednet.aggregation.rules.krum import KRUM
from fednet.aggregation.rules.multikrum import MULTIKRUM
from fednet.aggregation.rules.rule import Rule
from fednet.errors import BadInput

RULES: dict[str, Rule] = {rule.name: rule for rule in (MULTIKRUM, KRUM, FEDAVG)}


def rule_named(name: str) -> Rule:
    """Return the rule of that name; raises `BadInput` with those there are."""
    if name not in RULES:
        raise BadInput(f"--aggregator {name}", found="no such rule", expected=", ".join(RULES))
    return RULES[name]
