"""A run as Prometheus text: what a page shows of it, as numbers that are collected and alerted on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from fednet.reporting.reasons import KINDS

_STANDINGS = ("running", "finished", "stopped")


def exposition(overview: Mapping[str, Any]) -> bytes:
    """Return a run's overview (reporting.run_view) in Prometheus' text format.

    Counters add up all committed rounds, gauges are of the last one. Labels are classes, phases, standings and kinds of
    reasons: as many for a thousand workers as for five.
    """
    registry = CollectorRegistry()
    registry.register(_Overview(overview))
    return generate_latest(registry)


class _Overview(Collector):
    def __init__(self, overview: Mapping[str, Any]) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        yield from _run(self._overview)
        yield from _model(self._overview["series"])
        yield from _updates(self._overview)
        yield from _workers(self._overview)


def _run(overview: Mapping[str, Any]) -> Iterator[Metric]:
    named = {name: str(overview[name]) for name in ("run", "name", "software", "recipe")}
    yield InfoMetricFamily("fednet_run", "The run that these figures are of.", value=named)
    standing = ((name, overview["standing"] == name) for name in _STANDINGS)
    yield _gauges("fednet_run_standing", "1: how the run stands.", "standing", standing)
    stalled_s = overview["stalled_s"]
    yield _gauge("fednet_coordinator_stalled", "1: the run is held, and its coordinator silent.", stalled_s is not None)
    yield _gauge("fednet_coordinator_silence_seconds", "For how long a stalled coordinator is silent.", stalled_s or 0)
    yield CounterMetricFamily("fednet_rounds", "Rounds committed.", value=overview["rounds_done"])
    yield _gauge("fednet_rounds_planned", "Rounds that the run has.", overview["rounds_total"])
    if overview["left_s"] is not None:
        yield _gauge("fednet_run_left_seconds", "How long the run goes on, by its last rounds.", overview["left_s"])
    if overview["best_round"] is not None:
        yield _gauge("fednet_best_round", "The round with the best model by validation.", overview["best_round"])
    spent = CounterMetricFamily("fednet_phase_seconds", "Seconds of all rounds by what they went to.", labels=["phase"])
    for phase, seconds in overview["series"]["seconds"].items():
        spent.add_metric([phase], sum(filter(None, seconds)))
    yield spent


def _model(series: Mapping[str, Any]) -> Iterator[Metric]:
    for name, what in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1")):
        yield from _last(f"fednet_test_{name}_ratio", f"{what} on the unseen test set, 0 to 1.", series[name])
    yield from _last("fednet_test_loss", "Cross-entropy on the unseen test set.", series["loss"])
    yield from _last(
        "fednet_validation_accuracy_ratio", "Accuracy on validation, 0 to 1.", series["validation_accuracy"]
    )
    recalls = ((name, values[-1]) for name, values in series["recall"].items() if values and values[-1] is not None)
    yield _gauges("fednet_test_recall_ratio", "Recall on the unseen test set, 0 to 1.", "class", recalls)


def _updates(overview: Mapping[str, Any]) -> Iterator[Metric]:
    series, found = overview["series"], overview["rejections"]
    yield CounterMetricFamily("fednet_updates_selected", "Updates that counted.", value=sum(series["selected"]))
    rejected = CounterMetricFamily("fednet_updates_rejected", "Updates rejected, by kind of reason.", labels=["reason"])
    for kind in KINDS:
        rejected.add_metric([kind], found.get(kind, 0))
    yield rejected
    yield CounterMetricFamily(
        "fednet_updates_absent", "Updates that were asked for and not in time.", value=sum(series["absent"])
    )


def _workers(overview: Mapping[str, Any]) -> Iterator[Metric]:
    workers, live = overview["workers"], overview["live"]
    received = sum(each["bytes"] or 0 for each in workers)
    yield CounterMetricFamily(
        "fednet_received_bytes", "Updates of committed rounds, as they travelled.", value=received
    )
    connected = 0 if live is None else live["workers_connected"]
    yield _gauge("fednet_workers_connected", "Workers connected at this moment.", connected)
    yield _gauge("fednet_workers_planned", "Workers that the run has.", overview["settings"]["workers"])


def _last(name: str, help_text: str, values: Sequence[float | None]) -> Iterator[Metric]:
    if values and values[-1] is not None:
        yield _gauge(name, help_text, values[-1])


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _gauges(name: str, help_text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family
