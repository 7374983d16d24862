from dataclasses import replace
from typing import Any

import pytest

from fednet.config import (
    ClientPrivacySettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
    automatic_byzantine,
    automatic_quorum,
    derived_seed,
    fewest_updates,
    name_and_parameters,
    run_settings_from,
    worker_name,
)
from fednet.errors import BadInput


def settings(**changes: Any) -> RunSettings:
    fields: dict[str, Any] = {"model": "small-cnn", "image_size": 64, "classes": ("a", "b"), "workers": 5, "quorum": 4}
    return RunSettings(**(fields | changes))


@pytest.mark.parametrize(("workers", "expected"), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (7, 1), (10, 2), (20, 4)])
def test_automatic_f_is_a_fifth_within_krums_condition(workers: int, expected: int) -> None:
    assert automatic_byzantine(workers) == expected
    assert expected == 0 or workers >= 2 * expected + 3


@pytest.mark.parametrize(("workers", "byzantine"), [(5, 1), (10, 2), (4, 0), (1, 0), (100, 20)])
def test_automatic_quorum_never_falls_below_krums_condition(workers: int, byzantine: int) -> None:
    assert fewest_updates(byzantine) <= automatic_quorum(workers, byzantine) <= workers


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 8},
        {"rounds": 0},
        {"byzantine": 2},
        {"byzantine": -1},
        {"quorum": 6},
        {"quorum": 0},
        {"byzantine": 1, "quorum": 4},
        {"deadline_s": 0.0},
        {"deadline_s": float("nan")},
        {"seed": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        settings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"local_epochs": -1}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}]
)
def test_training_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        TrainingSettings(**wrong)


def test_settings_survive_being_stored() -> None:
    before = settings(training=TrainingSettings(learning_rate=0.5))
    assert run_settings_from(before.to_dict()) == before


def test_stored_settings_with_an_unknown_key_are_refused() -> None:
    with pytest.raises(BadInput):
        run_settings_from(settings().to_dict() | {"surprise": 1})


def test_client_level_privacy_is_kept_and_older_runs_have_none() -> None:
    private = settings(client_privacy=ClientPrivacySettings(clip=1.0, noise=2.0, epsilon=8.0))
    stored = private.to_dict()
    assert run_settings_from(stored) == private
    del stored["client_privacy"]
    assert not run_settings_from(stored).client_privacy.is_on


@pytest.mark.parametrize(
    "fields", [{"clip": 1.0}, {"noise": 1.0}, {"epsilon": 8.0}, {"clip": -1.0, "noise": 1.0}, {"delta": 0.0}]
)
def test_half_a_client_level_privacy_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="--client-dp"):
        ClientPrivacySettings(**fields)


def test_a_delta_that_would_give_one_hospital_away_is_refused() -> None:
    with pytest.raises(BadInput, match="--client-dp-delta"):
        settings(workers=20, client_privacy=ClientPrivacySettings(clip=1.0, noise=1.0, delta=0.05))


@pytest.mark.parametrize(
    ("rounds", "local_epochs", "warmup", "expected"),
    [
        (96, 0.125, 8, (12, 1.0, 1)),
        (12, 4, 0, (48, 1.0, 0)),
        (10, 0.25, 9, (2, 1.25, 1)),
        (3, 0.1, 1, (1, 0.3, 0)),
        (3, 0, 0, (1, 0, 0)),
        (1000, 200, 0, (100_000, 2.0, 0)),
    ],
)
def test_a_training_alone_takes_the_same_epochs_one_by_one_and_has_no_server(
    rounds: int, local_epochs: float, warmup: int, expected: tuple[int, float, int]
) -> None:
    run = settings(
        rounds=rounds,
        warmup_rounds=warmup,
        server=ServerSettings(optimizer="nesterov", momentum=0.7),
        training=TrainingSettings(local_epochs=local_epochs, momentum=0.0),
    )
    found = run.alone()
    assert (found.rounds, found.warmup_rounds, found.server) == (expected[0], expected[2], ServerSettings())
    assert found.training.momentum == 0.7, "which the server would keep"
    assert replace(run, server=ServerSettings(optimizer="momentum")).alone().training.momentum == 0.0
    assert found.training.local_epochs == pytest.approx(expected[1])
    assert found.rounds * found.training.local_epochs == pytest.approx(rounds * local_epochs)


def test_differences_name_the_setting_and_both_values() -> None:
    assert settings().differences(settings(seed=3)) == ["seed: 0, not 3"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 64, "a b", "<script>", "ü"])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        worker_name(name)


def test_derived_seeds_share_nothing() -> None:
    assert len({derived_seed(seed, "train", worker, 1) for seed in (0, 1) for worker in ("a", "b")}) == 4
    assert derived_seed(7, "x") == derived_seed(7, "x") < 2**63


def test_a_name_may_bring_parameters() -> None:
    assert name_and_parameters("krum", option="--aggregator") == ("krum", {})
    assert name_and_parameters("clip:tau=10,iterations=3", option="--aggregator") == (
        "clip",
        {"tau": 10.0, "iterations": 3.0},
    )


@pytest.mark.parametrize("text", ["clip:", "clip:tau", "clip:tau=much", "clip:=3"])
def test_a_mistyped_parameter_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="--aggregator clip"):
        name_and_parameters(text, option="--aggregator")
