from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fednet.dashboard.metrics import exposition
from fednet.reporting.reasons import KINDS
from fednet.reporting.run_view import overview
from fednet.storage.history import RunHistory, Standing
from tests.reporting.made_up import round_document, settings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def run_of(rounds: int, *, standing: Standing = Standing.RUNNING, silent_s: int = 0, **live: Any) -> dict[str, Any]:
    """Return the overview of a made-up run of five workers, two of them connected."""
    history = RunHistory(
        folder=Path("runs/<script>"),
        run="run",
        begun=NOW - timedelta(hours=1),
        software='fednet "1"\n',
        settings=settings(),
        standing=standing,
        rounds=tuple(round_document(number) for number in range(1, rounds + 1)),
        ending="",
    )
    workers = [{"name": f"client{n}", "connected": n < 3, "activity": "training", "fraction": 0.5} for n in range(1, 6)]
    updated = datetime.fromtimestamp(NOW.timestamp() - silent_s, UTC).isoformat()
    said = {"updated": updated, "phase": "collecting", "round": rounds + 1, "text": "", "workers": workers} | live
    return overview(history, said, now=NOW, events=[], audit=None)


def samples(shown: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Return what a Prometheus server reads: (name, label's value) -> value."""
    families = text_string_to_metric_families(exposition(shown).decode())
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if family.type != "info"
    }


def test_a_run_is_read_as_counters_and_gauges() -> None:
    found = samples(run_of(2))
    assert found["fednet_rounds_total", ""] == 2
    assert found["fednet_rounds_planned", ""] == 5
    assert found["fednet_test_accuracy_ratio", ""] == 0.75
    assert found["fednet_test_macro_f1_ratio", ""] == pytest.approx(0.74)
    assert found["fednet_test_loss", ""] == 0.75
    assert found["fednet_validation_accuracy_ratio", ""] == 0.75
    assert found["fednet_test_recall_ratio", "glioma"] == 0.75
    assert found["fednet_updates_selected_total", ""] == 8
    assert found["fednet_received_bytes_total", ""] == 10_000
    assert found["fednet_workers_connected", ""] == 2
    assert found["fednet_workers_planned", ""] == 5
    assert found["fednet_phase_seconds_total", "train"] == 6.0
    assert found["fednet_run_standing", "running"] == 1
    assert found["fednet_run_standing", "finished"] == 0
    assert found["fednet_coordinator_stalled", ""] == 0


def test_rejections_are_counted_by_kinds_that_no_reason_can_add_to() -> None:
    found = samples(run_of(2))
    by_kind = {label: value for (name, label), value in found.items() if name == "fednet_updates_rejected_total"}
    assert set(by_kind) == set(KINDS)
    assert {kind: value for kind, value in by_kind.items() if value} == {"points-away": 2}


def test_a_stalled_coordinator_is_something_to_be_alerted_on() -> None:
    found = samples(run_of(1, silent_s=60))
    assert found["fednet_coordinator_stalled", ""] == 1
    assert found["fednet_coordinator_silence_seconds", ""] == 60


def test_a_run_without_rounds_has_no_accuracy_yet() -> None:
    found = samples(run_of(0))
    assert found["fednet_rounds_total", ""] == 0
    assert not any(name.startswith(("fednet_test", "fednet_best")) for name, _ in found)


def test_nobody_is_connected_to_a_run_that_has_ended() -> None:
    found = samples(run_of(2, standing=Standing.FINISHED))
    assert found["fednet_workers_connected", ""] == 0
    assert found["fednet_run_standing", "finished"] == 1


def test_names_are_escaped_as_the_format_asks_for() -> None:
    info = next(
        sample
        for family in text_string_to_metric_families(exposition(run_of(1)).decode())
        for sample in family.samples
        if sample.name == "fednet_run_info"
    )
    assert info.labels["name"] == "<script>"
    assert info.labels["software"] == 'fednet "1"\n'


def test_every_metric_has_help_and_a_name_of_ours() -> None:
    families = list(text_string_to_metric_families(exposition(run_of(2)).decode()))
    assert all(family.name.startswith("fednet_") and family.documentation.endswith(".") for family in families)
