"""Plays federated runs under a virtual clock, one seed each: `python -m tests.coordinator.simulation --seeds 10000`.

In the manner of FoundationDB (Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value Store",
SIGMOD 2021, section 4) and TigerBeetle. The pure cores (`Rounds`, `WorkerSession`, `OwnChain`, the audit's records)
are the real ones; around them stands a model of the shells that does what `coordinator/service.py`, `reception.py`,
`desk.py`, `sessions.py` and `worker/service.py` do, in their order. One `random.Random(seed)` decides when messages
arrive, which connections break, and who dies at which write; so a seed that fails fails again, and `--first SEED
--replay` shows it.

After a while nothing breaks any more, so that a run that does not end is found too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import click

from tests.coordinator.simulation.federation import simulate
from tests.coordinator.simulation.weather import WEATHERS, Weather
from tests.coordinator.simulation.witness import Violation


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True)
@click.option("--weather", type=click.Choice(sorted({each.name for each in WEATHERS})), help="Only this one.")
@click.option("--replay", is_flag=True, help="Play the first seed alone and print its whole trace.")
def main(seeds: int, first: int, weather: str | None, replay: bool) -> None:
    """Play so many seeds, and say what happened; ends with an error at the first claim that does not hold."""
    weathers = [each for each in WEATHERS if weather in (None, each.name)]
    try:
        if replay:
            simulate(first, weathers=weathers, tell=click.echo)
        else:
            _play(range(first, first + seeds), weathers)
    except Violation as exc:
        raise click.ClickException(str(exc)) from exc


def _play(seeds: range, weathers: Sequence[Weather]) -> None:
    began, counts = time.perf_counter(), Counter[str]()
    for number, seed in enumerate(seeds, start=1):
        counts.update(simulate(seed, weathers=weathers))
        if number % 100 == 0:
            click.echo(f"\r{number} seeds, {time.perf_counter() - began:.0f} s", nl=False, err=True)
    seconds = time.perf_counter() - began
    listed = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
    click.echo(f"\r{len(seeds)} seeds in {seconds:.0f} s ({1000 * seconds / len(seeds):.1f} ms each): {listed}")


if __name__ == "__main__":
    main()
