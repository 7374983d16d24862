import json
from typing import Any

import pytest
from markdown_it import MarkdownIt

from fednet.reporting.card_text import card_text, escaped
from fednet.reporting.examination import Examined, not_calibrated
from fednet.reporting.model_card import ModelFacts, Origin, card_files, model_card
from tests.reporting.cards import CLASSES, EXAMINED, document, update

SPLIT = {
    "arguments": {"dataset": "brain-tumor-mri", "test_from": "published", "seed": 3},
    "classes": list(CLASSES),
    "sites": {"client1_data": [20, 20], "server_data/test": [36, 24]},
    "left_out": {"twin in the test set": 7},
    "exact_duplicate_pairs": 2,
    "near_duplicate_pairs": 5,
    "files": [{"file": "Jane Doe.jpg"}],
}
FAR = "rejected: its update is {} times as large as the selected ones"
ROUNDS = [
    document(1, update("client1"), update("client2", reason=FAR.format("4.1"))),
    document(2, update("client1", samples=44), update("client2", reason=FAR.format("3e+02"))),
    document(3, update("client1"), update("client2", reason="rejected before scoring: not finite")),
]


def facts(number: int = 3, **changes: Any) -> ModelFacts:
    fields: dict[str, Any] = {
        "file": "final.pth",
        "kind": "the last",
        "round": number,
        "sha256": "ab" * 32,
        "architecture": "small-cnn",
        "classes": CLASSES,
        "image_size": 32,
    }
    return ModelFacts(**(fields | changes))


def origin(**changes: Any) -> Origin:
    fields: dict[str, Any] = {
        "run": "0123",
        "software": {"fednet": "0.1.0"},
        "settings": {"aggregator": "multikrum", "training": {"learning_rate": 0.02, "augment": True}},
        "begun_s": 0.0,
        "ended_s": 3600.5,
        "record": "cd" * 32,
        "split": SPLIT,
    }
    return Origin(**(fields | changes))


def card(number: int = 3, *, found: Examined = EXAMINED, rounds: Any = ROUNDS, **changes: Any) -> dict[str, Any]:
    return model_card(facts(number, **changes), origin(), rounds, found)


def test_what_client_level_privacy_has_spent_is_that_of_the_whole_run() -> None:
    told = {"epsilon": 6.789, "delta": 1e-5, "rounds": 3, "clip": 1.0, "noise_deviation": 0.5, "sensitivity": 0.4}
    spent = {**told, "adjacency": "one hospital"}
    rounds = [*ROUNDS[:2], ROUNDS[2] | {"client_privacy": spent}]
    privacy = card(1, rounds=rounds)["privacy"]
    assert privacy["differential_privacy"] == {"level": "client", **spent}
    assert "epsilon 6.79 at delta 1e-05, spent on 3 noised steps" in privacy["spent"]


def html(text: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(text))


def test_a_card_is_json_and_the_same_again() -> None:
    assert json.dumps(card(), allow_nan=False) == json.dumps(card(), allow_nan=False)
    assert card_text(card()) == card_text(json.loads(json.dumps(card())))
    assert card_files("final.pth") == ("final.card.json", "final.card.md")


def test_a_card_says_what_each_site_claimed_and_why_it_did_not_count() -> None:
    found = card()
    assert found["data"]["sites"] == [{"site": "client1", "samples": 40}, {"site": "client2", "samples": 40}]
    first, second = found["contributions"]
    assert (first["updates"], first["counted"], first["mean_weight"], first["not_counted"]) == (3, 3, 0.5, [])
    assert second["not_counted"] == [
        {"updates": 2, "first_round": 1, "last_round": 2, "reason": FAR.format("3e+02")},
        {"updates": 1, "first_round": 3, "last_round": 3, "reason": "rejected before scoring: not finite"},
    ]
    assert "client2: 2 of 3 updates did not count (rounds 1 to 2)" in card_text(found)


def test_a_card_counts_only_the_rounds_that_made_its_model() -> None:
    found = card(2, kind="the best by validation", also="final.pth")
    assert found["training"]["rounds"] == 2
    assert found["data"]["sites"][0]["samples"] == 44
    assert [each["updates"] for each in found["contributions"]] == [2, 2]
    assert "the same model as final.pth" in card_text(found)


def test_a_card_says_which_sites_trained_under_differential_privacy_and_what_they_claim() -> None:
    def spent(name: str, epsilon: float | None) -> dict[str, Any]:
        return update(name) | {"epsilon": epsilon, "delta": 1e-5 if epsilon else None}

    rounds = [document(1, spent("client1", 1.5), spent("client2", 1.0), update("client3"))]
    rounds += [document(2, spent("client1", 2.25), spent("client2", None), spent("client3", 2.0))]
    found = card(1, rounds=rounds)["privacy"]
    assert found["sites"] == {"client1": {"epsilon": 2.25, "delta": 1e-5}}, "private in all rounds; the best is one of"
    assert "client1 epsilon 2.25 at delta 1e-05" in found["spent"]
    assert "Nothing bounds it for client2, client3." in found["spent"]
    assert card()["privacy"] == {
        "differential_privacy": None,
        "spent": "No differential privacy was applied: nothing bounds what the model tells of a single training scan.",
    }


def test_what_a_round_refused_counted_for_nobody() -> None:
    refused = {"reason": "step refused: validation accuracy would fall"}
    found = card(2, rounds=[document(1, update("client1")), document(2, update("client1"), refused=refused)])
    (site,) = found["contributions"]
    assert (site["updates"], site["counted"], site["mean_weight"]) == (2, 1, 0.25)
    assert site["not_counted"][0]["reason"] == refused["reason"]
    assert "2 rounds, of which the steps of 2 were refused, with" in card_text(found)


def test_a_card_knows_the_coordinators_scans_by_class_and_where_they_come_from() -> None:
    found = card()["data"]
    assert found["server"] == {part: {"glioma": 36, "no_tumor": 24} for part in ("validation", "test")}
    assert found["split"]["left_out"] == {"twin in the test set": 7}
    assert found["split"]["duplicates"]["contradicting_groups"] == 0
    assert "Jane Doe" not in json.dumps(found)
    assert "drawn otherwise than its training images" in card_text(card())
    resplit = origin(split=SPLIT | {"arguments": {"test_from": "resplit"}})
    assert "drawn by groups of duplicates" in card_text(model_card(facts(), resplit, ROUNDS, EXAMINED))
    assert model_card(facts(), origin(split=None), ROUNDS, EXAMINED)["data"]["split"] is None


def test_a_card_says_how_good_the_model_is_and_how_certain_that_is() -> None:
    text = card_text(card())
    for line in (
        "| accuracy | 0.800 | 0.680 to 0.880 |",
        "| macro AUC | - | - |",
        "| sensitivity for any tumour at specificity 0.95, by the test set's own ROC curve | 0.700 | 0.500 to 0.812 |",
        "| glioma | 0.750 | 0.800 | 0.770 | 0.900 | 36 | 0.580 to 0.860 |",
        "| glioma | 27 | 9 |",
        "| expected calibration error | 0.125 | 0.062 |",
        "- temperature: 1.5 (divides the logits)",
        "It abstains on 15 of them.",
        "- run 0123, begun 1970-01-01T00:00:00+00:00, last round at 1970-01-01T01:00:00+00:00",
        "| training.learning\\_rate | 0.02 |",
        "No differential privacy was applied",
        "not a medical device",
    ):
        assert line in text, line


def test_a_model_that_cannot_be_calibrated_says_why() -> None:
    found = card(found=not_calibrated("its outputs are not finite"))
    assert found["calibration"] == {"fitted": None, "why": "its outputs are not finite"}
    assert "Not calibrated: its outputs are not finite." in card_text(found)
    assert "| accuracy | 0.800 | - |" in card_text(found)


def test_a_run_that_was_not_tested_has_a_card_too() -> None:
    bare = [{"round": 1, "updates": [update("client1")]}]
    assert "It was not tested." in card_text(card(1, rounds=bare))
    few = [document(1) | {"test": {"accuracy": 0.5, "loss": 1.0}}]
    assert "| accuracy | 0.500 | 0.680 to 0.880 |" in card_text(card(1, rounds=few))


def test_what_sites_tell_of_a_model_stands_in_a_later_round() -> None:
    def told(of_round: int) -> dict[str, Any]:
        site = {"of_round": of_round, "confusion": [[6, 2], [0, 0]], "images": 8, "accuracy": 0.75, "macro_f1": 0.8}
        return {"site_evaluation": {"client1": site}}

    rounds = [document(number, update("client1"), **told(number - 1)) for number in (1, 2, 3)]
    of_second = card(2, rounds=rounds)
    assert [each["of_round"] for each in of_second["site_evaluation"]] == [2]
    assert "What sites say of this model" in card_text(of_second)
    assert "| client1 | 8 | 0.750 | 0.800 | 0.750 | - |" in card_text(of_second)
    assert "What sites say of round 2's model, the last that they judged" in card_text(card(3, rounds=rounds))
    assert card(3)["site_evaluation"] == []


@pytest.mark.parametrize(
    "text",
    [
        "*bold* _it_ `code` ~~no~~ # head",
        "[a](http://evil.example) ![b](x) <script>alert(1)</script> &lt; <http://evil.example>",
        "a | b\n| --- | --- |\n# New heading\n- item",
        "trailing \\",
    ],
)
def test_no_name_or_reason_is_markup(text: str) -> None:
    rounds = [document(1, update("client1", reason=text))]
    found = card(1, rounds=rounds, architecture=text)
    page, plain = html(card_text(found)), html(card_text(card(1, rounds=[document(1, update("client1", reason="x"))])))
    for tag in ("<a ", "<img", "<script", "<em>", "<strong>", "<h1>", "<h2>", "<li>", "<tr>", "<code>"):
        assert page.count(tag) == plain.count(tag), tag


def test_addresses_are_no_links_on_sites_that_make_them_some() -> None:
    assert escaped("see http://evil.example, www.evil.example, a@b.c") == (
        "see http\\://evil.example, www\\.evil.example, a\\@b.c"
    )
