import pytest

from fednet.config import ClientPrivacySettings
from fednet.ranking import Document, best_of, is_complete, stops_early
from tests.federation import settings


def documents(*scores: float) -> list[Document]:
    return [
        {"round": number, "validation": {"macro_f1": score, "loss": 1.0}}
        for number, score in enumerate(scores, start=1)
    ]


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ((), False),
        ((0.5,), False),
        ((0.5, 0.4), False),
        ((0.5, 0.4, 0.4), True),
        ((0.5, 0.5, 0.5), True),  # as good is not better
        ((0.5, 0.4, 0.6), False),
        ((0.5, 0.4, 0.6, 0.5, 0.5), True),
    ],
)
def test_it_stops_when_so_many_rounds_brought_no_better_model(scores: tuple[float, ...], stops: bool) -> None:
    assert stops_early(documents(*scores), 2) is stops
    assert not stops_early(documents(*scores), 0)


def test_a_run_is_complete_with_its_last_round_or_early() -> None:
    assert not is_complete(documents(0.5), settings(rounds=2))
    assert is_complete(documents(0.5, 0.6), settings(rounds=2))
    assert is_complete(documents(0.5, 0.4), settings(rounds=9, early_stop=1))


def test_a_run_that_has_no_privacy_left_for_another_round_is_complete() -> None:
    spent: list[Document] = [{**each, "client_privacy": {"epsilon_of_another": 4.5}} for each in documents(0.5)]
    bound, loose = (ClientPrivacySettings(clip=1, noise=1, epsilon=limit) for limit in (4.0, 5.0))
    assert is_complete(spent, settings(rounds=9, client_privacy=bound))
    assert not is_complete(spent, settings(rounds=9, client_privacy=loose))
    assert not is_complete(spent, settings(rounds=9, client_privacy=ClientPrivacySettings(clip=1, noise=1)))
    assert not is_complete([], settings(rounds=9, client_privacy=bound))


def test_of_equal_rounds_the_first_is_the_best() -> None:
    assert best_of(documents(0.4, 0.6, 0.6)) == 2
