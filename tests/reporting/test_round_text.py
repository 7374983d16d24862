from fednet.reporting.round_text import declines, privacy_line, rejections, round_cells, sites_line
from tests.reporting.rounds import DOCUMENT


def test_a_row_says_who_was_selected_and_who_was_not() -> None:
    assert round_cells(DOCUMENT) == ("2", "0.500", "0.250", "client1", "client2", "1.0 s", "0.2 s", "0.1 s", "2.0 s")
    assert rejections(DOCUMENT) == ["client2 rejected: it points away"]


def test_a_line_says_who_does_not_count_and_why() -> None:
    assert declines(DOCUMENT) == []
    told = declines(DOCUMENT | {"declined": {"client3": "at night only"}, "revoked": {"client4": "its key leaked"}})
    assert told == ["client3 declined: at night only", "client4 revoked: its key leaked"]


def test_a_line_says_what_sites_found_of_the_model_before_the_lowest_first() -> None:
    assert sites_line(DOCUMENT) is None
    sites = {"client1": {"accuracy": 0.914, "images": 85}, "client3": {"accuracy": 0.62, "images": 40}}
    told = sites_line(DOCUMENT | {"site_evaluation": sites})
    assert told == "sites on round 1's model: client3 0.62 of 40, client1 0.91 of 85"
    many = {f"client{number}": {"accuracy": number / 100, "images": 9} for number in range(20)}
    told = sites_line(DOCUMENT | {"site_evaluation": many})
    assert told is not None
    assert told.endswith("client7 0.07 of 9, and 12 more")


def test_a_line_says_what_client_level_privacy_has_spent() -> None:
    assert privacy_line(DOCUMENT) is None
    spent = {"epsilon": 3.14159, "delta": 1e-5, "rounds": 2, "clip": 0.5, "clipped": 1}
    told = "client-level privacy spent: epsilon 3.14 at delta 1e-05 for {}; 1 of 2 updates were clipped to 0.5"
    assert privacy_line(DOCUMENT | {"client_privacy": spent}) == told.format("2 noised steps")
    lost = told.format("5 noised steps, 3 of them of rounds that were not committed")
    assert privacy_line(DOCUMENT | {"client_privacy": spent | {"rounds": 5}}) == lost
