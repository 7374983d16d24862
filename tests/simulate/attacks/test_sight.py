from tests.simulate.attacks.sights import deltas, sight_of


def test_the_honest_are_known_where_they_are_seen() -> None:
    seen = sight_of(deltas(4), deltas(2, seed=1))
    assert [each is other.delta for each, other in zip(seen.known, seen.honest, strict=True)] == [True] * 4


def test_attackers_who_see_nobody_take_themselves_for_the_crowd() -> None:
    seen = sight_of([], deltas(2))
    assert [each is other.delta for each, other in zip(seen.known, seen.own, strict=True)] == [True] * 2
