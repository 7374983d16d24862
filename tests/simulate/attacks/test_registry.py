import copy
from collections.abc import Callable

import pytest
import torch

from fednet.errors import BadInput
from fednet.simulate.attacks import ATTACKS, attack_named
from fednet.simulate.attacks.sight import Sight, Submission
from tests.simulate.attacks.sights import deltas, sent, sight, sight_of

FINITE = [name for name in ATTACKS if name not in ("nan", "inf")]
ROW = deltas(1)[0]

EDGES: dict[str, Callable[[], Sight]] = {
    "one honest": lambda: sight(honest=1, attackers=1),
    "one attacker": lambda: sight(honest=6, attackers=1),
    "nobody seen": lambda: sight_of([], deltas(3)),
    "nobody seen by one": lambda: sight_of([], deltas(1)),
    "zero deltas": lambda: sight_of([torch.zeros(9)] * 5, [torch.zeros(9)] * 2),
    "all alike": lambda: sight_of([ROW] * 5, [ROW] * 2),
    "one coordinate": lambda: sight_of(deltas(5, width=1), deltas(2, width=1)),
    "huge": lambda: sight_of([1e15 * each for each in deltas(5)], [1e15 * each for each in deltas(2)]),
    "denormal": lambda: sight_of([1e-40 * each for each in deltas(5)], [1e-40 * each for each in deltas(2)]),
    "mostly attackers": lambda: sight(honest=2, attackers=5),
}


def parts(updates: list[Submission]) -> list[torch.Tensor]:
    return [tensor for each in updates for tensor in (each.delta, *each.buffers.values())]


def test_the_issues_attacks_are_all_there() -> None:
    asked = (
        "sign-flip scaling noise zero nan inf label-flip ipm alie mimic min-max min-sum fang backdoor free-rider "
        "colluders bn-stats sample-lies"
    )
    assert list(ATTACKS) == asked.split()


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attacker_sends_one_update_of_the_same_shape(name: str) -> None:
    seen = sight()
    made = attack_named(name).poison(seen)
    assert [(each.delta.shape, each.delta.dtype) for each in made] == [
        (each.delta.shape, torch.float32) for each in seen.own
    ]
    for each in made:
        kinds = {key: (value.shape, value.dtype) for key, value in each.buffers.items()}
        assert kinds == {key: (value.shape, value.dtype) for key, value in seen.own[0].buffers.items()}
        assert each.samples > 0


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_that_attackers_see_is_changed(name: str) -> None:
    seen = sight()
    before = copy.deepcopy([*seen.honest, *seen.own])
    attack_named(name).poison(seen)
    assert all(torch.equal(was, now) for was, now in zip(parts(before), parts([*seen.honest, *seen.own]), strict=True))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", FINITE)
def test_what_is_sent_is_finite(name: str, edge: str) -> None:
    seen = EDGES[edge]()
    for _ in range(2):
        assert bool(sent(attack_named(name), seen).isfinite().all())


@pytest.mark.parametrize("name", ATTACKS)
def test_only_attacks_of_the_own_update_ignore_the_others(name: str) -> None:
    seen, lone = sight(), sight_of([], [each.delta for each in sight().own])
    same = torch.equal(sent(attack_named(name), seen).nan_to_num(), sent(attack_named(name), lone).nan_to_num())
    assert same is not attack_named(name).sees_others


def test_parameters_reach_the_attack_and_stay_in_its_name() -> None:
    seen = sight()
    attack = attack_named(" ipm:scale=2 ")
    assert attack.name == "ipm:scale=2"
    torch.testing.assert_close(sent(attack, seen), 20 * sent(attack_named("ipm"), seen))


def test_an_unknown_attack_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"--attacks magic.*sign-flip, scaling, noise"):
        attack_named("magic", option="--attacks")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ipm:strength=2", "no parameter strength; expected scale"),
        ("zero:scale=2", "zero alone"),
        ("ipm:scale=nan", "scale=nan"),
        ("ipm:scale=inf", "scale=inf"),
        ("ipm:scale=1e30", "1e-06 to 1e"),
        ("sign-flip:scale=-4", "scale=-4"),
        ("scaling:factor=0", "factor=0"),
        ("alie:z=1e9", "z=1e"),
        ("backdoor:target=0.5", "whole number"),
        ("backdoor:target=nan", "target=nan"),
        ("backdoor:target=4", "0 to 3"),
        ("backdoor:share=0", "share=0"),
        ("sample-lies:factor=inf", "factor=inf"),
        ("ipm:scale", "NAME=NUMBER"),
        ("", "no such attack"),
        ("none", "no such attack"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        attack_named(text)


def test_labels_are_flipped_among_as_many_classes_as_there_are() -> None:
    attack = attack_named("label-flip", classes=2)
    assert attack.poison_data is not None
    assert attack.poison_data(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]))[1].tolist() == [1, 0]
