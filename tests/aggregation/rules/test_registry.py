import pytest

from fednet.aggregation.rules.registry import MIXINGS, RULES, recipe_named
from fednet.errors import BadInput


def test_every_rule_and_mixing_is_found_by_its_name() -> None:
    assert all(recipe_named(name).rule.name == name for name in RULES)
    assert all(recipe_named("krum", [name]).mixings[0].name == name for name in MIXINGS)


def test_a_recipe_is_named_in_the_order_of_its_parts() -> None:
    assert recipe_named("trimmed-mean", ["arc", "nnm"]).name == "arc+nnm+trimmed-mean"


def test_pre_aggregation_may_stand_before_the_rule() -> None:
    assert recipe_named("arc+nnm+trimmed-mean").name == "arc+nnm+trimmed-mean"
    assert recipe_named("nnm+krum", ["arc"]).name == "arc+nnm+krum"
    assert recipe_named("norm-clipping:tau=1e+06+krum").name == "norm-clipping+krum"


@pytest.mark.parametrize(
    ("aggregator", "pre", "message"),
    [
        ("magic", [], "multikrum, krum, fedavg"),
        ("krum", ["magic"], "nnm, bucketing"),
        ("krum:m=2", [], "no parameter m"),
        ("multikrum:m=1.5", [], "m of multikrum"),
        ("centered-clipping:tau=-1", [], "centered-clipping"),
        ("centered-clipping:radius=1", [], "tau, iterations"),
        ("krum", ["bucketing:s=0"], "s of bucketing"),
        ("krum", ["norm-clipping:tau=-1"], "tau of norm-clipping"),
        ("tournament", ["nnm"], "tries models"),
    ],
)
def test_a_wrong_name_or_parameter_is_one_line(aggregator: str, pre: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        recipe_named(aggregator, pre)


@pytest.mark.parametrize(
    ("aggregator", "pre", "fewest"),
    [
        ("krum", [], 7),
        ("multikrum", ["nnm"], 7),
        ("median", [], 5),
        ("trimmed-mean", ["arc", "nnm"], 5),
        ("bulyan", [], 11),
        ("krum", ["bucketing"], 13),
        ("fedavg", [], 1),
        ("fltrust", [], 1),
        ("tournament", [], 7),
    ],
)
def test_the_condition_on_n_for_two_malicious(aggregator: str, pre: list[str], fewest: int) -> None:
    recipe = recipe_named(aggregator, pre)
    assert recipe.fewest(2) == fewest
    assert recipe.shortfall(fewest, 2) is None
    if fewest > 1:
        assert "for f = 2" in (recipe.shortfall(fewest - 1, 2) or "")


def test_without_malicious_workers_one_update_is_enough() -> None:
    assert [name for name in RULES if recipe_named(name).fewest(0) > 3] == []
