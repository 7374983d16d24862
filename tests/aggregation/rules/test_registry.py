import pytest

from fednet.aggregation.rules.registry import RULES, rule_named
from fednet.errors import BadInput


def test_every_rule_is_found_by_its_name() -> None:
    assert all(rule_named(name).name == name for name in RULES)


def test_an_unknown_rule_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="multikrum, krum, fedavg"):
        rule_named("median")
