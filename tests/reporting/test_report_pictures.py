import re
from xml.etree import ElementTree

import pytest

from fednet.reporting.report_pictures import (
    courses,
    distance_map,
    score_bars,
    sizes_and_directions,
    stacks,
    update_map,
)

EVIL = "<b>$x$&"


def drawn() -> dict[str, str]:
    workers, selected = ["client1", "client2", EVIL], [True, True, False]
    distances = [[0.0, 1.0, 5.0], [1.0, 0.0, 5.0], [5.0, 5.0, 0.0]]
    points = [[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]
    return {
        "courses": courses("c", [1, 2], {"a": [0.5, None], EVIL: [0.25, 0.75]}, label="share"),
        "stacks": stacks("s", [1, 2], {"a": [1, 2], "b": [None, 3]}, label="n", colours=("good", "bad")),
        "scores": score_bars("k", dict(zip(workers, [1.0, 2.0, 900.0], strict=True)), selected, cut=2.0),
        "distances": distance_map("d", distances, workers),
        "map": update_map("m", points, workers, selected),
        "directions": sizes_and_directions("n", [1.0, 1.5, 7.0], [0.5, 0.75, -0.5], workers, selected),
    }


PICTURES = drawn()


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("xlink:href", "href"))  # noqa: S314 - our own


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_part_of_a_page(name: str) -> None:
    svg = PICTURES[name]
    tree = parsed(svg)
    assert tree.get("viewBox") and tree.get("width") is None
    assert "http" not in svg and "<metadata" not in svg
    identifiers = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(identifiers) == len(set(identifiers))
    colours = set(re.findall(r"#[0-9a-f]{6}", re.sub(r"base64,[^\"]*", "", svg)))
    assert colours <= {"#000000", "#ffffff"} | (_colour_bar(svg) if name == "distances" else set())


def _colour_bar(svg: str) -> set[str]:
    """The colours of the scale that tells distances apart: the same, light and dark."""
    return set(re.findall(r"fill: (#[0-9a-f]{6})", svg))


def test_names_are_text_and_no_formula() -> None:
    texts = [each.text or "" for each in parsed(PICTURES["scores"]).iter()]
    assert EVIL in texts


def test_the_same_figures_give_the_same_picture() -> None:
    assert drawn() == PICTURES


def test_two_pictures_share_no_identifier() -> None:
    found = [set(re.findall(r' id="([^"]*)"', svg)) for svg in PICTURES.values()]
    assert sum(map(len, found)) == len(set().union(*found))


def test_many_workers_and_rounds_stay_small() -> None:
    many = 2000
    scores = {f"client{number}": float(number) for number in range(many)}
    assert len(score_bars("k", scores, [number < 1900 for number in range(many)], cut=1899.0)) < 200_000
    rounds = range(1, many + 1)
    assert len(stacks("s", rounds, {"a": [1.0] * many}, label="n")) < 300_000
    assert len(courses("c", rounds, {"a": [0.5] * many}, label="n")) < 100_000


def test_points_of_one_place_have_a_picture_too() -> None:
    assert "<svg" in update_map("m", [[0.0, 0.0], [0.0, 0.0]], ["a", "b"], [True, True])
    assert "<svg" in distance_map("d", [[0.0, 0.0], [0.0, 0.0]], ["a", "b"])
    assert "<svg" in score_bars("k", {"a": 0.0, "b": 0.0}, [True, False], cut=None)


def test_letters_that_the_font_lacks_are_no_warning() -> None:
    assert "北京" in score_bars("k", {"北京": 1.0, "b\x00": 2.0}, [True, True], cut=1.0)
