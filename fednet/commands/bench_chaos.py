"""`cli.py bench chaos`: kills a run's processes again and again, and compares its models with an undisturbed run's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.bench_wire import on_stderr, print_machine
from fednet.commands.options import json_option

if TYPE_CHECKING:
    from fednet.bench.chaos import ChaosSite

_OPTIONS = ("--model", "small-cnn", "--image-size", "32", "--pretrained", "no", "--device", "cpu")
_TRAINING = ("--local-epochs", "1", "--batch-size", "16")
_PATIENT = ("--grace", "600", "--deadline", "3600", "--byzantine", "0", "--aggregator", "multikrum")
_NO_CACHE = "--no-cache"  # whose files are none of the run's: failpoints strike where it could lose something
_WORKERS = 3
_FAILPOINT_ROUNDS = 8  # some places are passed once a round


@click.command("chaos")
@click.option("--kills", type=click.IntRange(0, 100_000), default=200, show_default=True, help="kill -9 in all.")
@click.option("--rounds", type=click.IntRange(1, 100_000), help="Of the run (default: two for each kill).")
@click.option(
    "--at-failpoints", type=click.IntRange(0, 5), default=0, show_default=True, help="Then so many at every failpoint."
)
@click.option(
    "--action",
    type=click.Choice(["die", "fail", "stall"]),
    default="die",
    show_default=True,
    help="What happens at a failpoint: kill -9, an I/O error, or 40 s of nothing.",
)
@click.option("--only", default="", help="Only failpoints with this in their name.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides whom it hits, and when.")
@json_option
def bench_chaos(
    kills: int, rounds: int | None, at_failpoints: int, action: str, only: str, seed: int, as_json: bool
) -> None:
    """Kill the processes of a run of small models over TLS; its models must be those of the undisturbed run."""
    from fednet.bench.machine import machine

    with tempfile.TemporaryDirectory(prefix="fednet-chaos-") as name:
        folder = Path(name)
        _make_data(folder)
        document: dict[str, Any] = {
            "bench": "chaos",
            "machine": machine(),
            "settings": {"kills": kills, "workers": _WORKERS, "seed": seed, "at_failpoints": at_failpoints},
            "meaning": {
                "ours": "s: the disturbed run",
                "reference": "s: the same run undisturbed",
                "ratio": "ours / reference",
                "identical": "whether every round's model is bit for bit the undisturbed run's; taken as given where a "
                "worker fails: it says so, and nobody waits for it",
                "complaints": "updates lost, counted twice, or not the one that was acknowledged",
            },
        }
        if kills:
            document |= _random_kills(folder, kills=kills, rounds=rounds or 2 * kills, seed=seed)
        if at_failpoints:
            document["failpoints"] = _at_failpoints(folder, times=at_failpoints, action=action, only=only)
    if as_json:
        click.echo(json.dumps(document))
    else:
        _print(document)
    runs = [document] if kills else []
    if not all(run["identical"] and not run["complaints"] for run in [*runs, *document.get("failpoints", [])]):
        raise click.exceptions.Exit(1)


def _random_kills(folder: Path, *, kills: int, rounds: int, seed: int) -> dict[str, Any]:
    from fednet.bench.chaos import complaints, disturbed, models_of, undisturbed
    from fednet.commands.main import main

    calm, wild = _site(folder, "calm", rounds=rounds), _site(folder, "wild", rounds=rounds)
    reference = undisturbed(calm, main)
    on_stderr(f"{rounds} rounds undisturbed: {reference:.0f} s")
    ours, done = disturbed(wild, main, kills=kills, rounds=rounds, seed=seed)
    return {
        "samples": {"kills": done.by_name},
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "rounds": rounds,
        "identical": models_of(calm.run) == models_of(wild.run),
        "complaints": complaints(wild),
    }


def _at_failpoints(folder: Path, *, times: int, action: str, only: str) -> list[dict[str, Any]]:
    from fednet.bench.chaos import COORDINATOR, at_failpoint, complaints, models_of, undisturbed
    from fednet.commands.main import main
    from fednet.failpoints import NOT_OF_COORDINATOR, NOT_OF_WORKER, OF_COORDINATOR, OF_FILES, OF_WORKER

    calm = _site(folder, "calm-short", rounds=_FAILPOINT_ROUNDS)
    undisturbed(calm, main)
    expected = models_of(calm.run)
    places = [(COORDINATOR, name) for name in (*OF_COORDINATOR, *OF_FILES) if name not in NOT_OF_COORDINATOR]
    places += [("client1", name) for name in (*OF_WORKER, *OF_FILES) if name not in NOT_OF_WORKER]
    found = []
    for number, (victim, name) in enumerate(places):
        if only not in name:
            continue
        site = _site(folder, f"failpoint-{number}", rounds=_FAILPOINT_ROUNDS)
        leaves = action == "fail" and victim != COORDINATOR
        struck = at_failpoint(site, main, name=name, victim=victim, action=action, times=times)
        found.append(
            {
                "failpoint": name,
                "victim": victim,
                "action": action,
                "struck": struck,
                "identical": leaves or models_of(site.run) == expected,
                "complaints": complaints(site, may_miss=victim if leaves else ""),
            }
        )
        on_stderr(_failpoint_line(found[-1]))
    return found


def _failpoint_line(found: dict[str, Any]) -> str:
    same = "same models" if found["identical"] else "OTHER MODELS"
    return f"{found['victim']} {found['action']}s at {found['failpoint']}: {found['struck']} times; " + "; ".join(
        [same, *found["complaints"]]
    )


def _site(folder: Path, name: str, *, rounds: int) -> ChaosSite:
    from fednet.bench.chaos import ChaosSite
    from fednet.commands.processes import coordinator_arguments, free_port, worker_arguments

    own, data, port = folder / name, folder / "data", free_port()
    certs = own / "certs"
    options = (*_OPTIONS, *_TRAINING, *_PATIENT, "--rounds", str(rounds), "--resume-if-any", _NO_CACHE)
    saves = [own / f"client_{number}.pth" for number in range(1, _WORKERS + 1)]
    lean = ("--num-threads", "1", _NO_CACHE)
    return ChaosSite(
        folder=own,
        coordinator=coordinator_arguments(
            own / "run", data=data, certs=certs, port=port, workers=_WORKERS, options=options
        ),
        workers=[
            worker_arguments(number, data=data, certs=certs, port=port, save=save, options=lean)
            for number, save in enumerate(saves, start=1)
        ],
        saves=saves,
    )


def _make_data(folder: Path) -> None:
    from data.phantoms import write_phantoms
    from data.splitting import SplitSettings
    from fednet.commands.demo import split_into

    write_phantoms(folder / "phantoms", training=40 * _WORKERS, testing=16, seed=0, size=32)
    split_into(folder / "data", folder / "phantoms", SplitSettings(clients=_WORKERS))


def _print(document: dict[str, Any]) -> None:
    if "ours" in document:
        kills = document["samples"]["kills"]
        said = ", ".join(f"{name} {count}" for name, count in sorted(kills.items()))
        same = "bit for bit the same" if document["identical"] else "NOT the same"
        click.echo(f"{sum(kills.values())} kill -9 ({said}) over {document['rounds']} rounds of {_WORKERS} workers:")
        click.echo(f"  every round's model is {same} as undisturbed")
        click.echo(f"  {len(document['complaints'])} updates lost or counted twice")
        for line in document["complaints"]:
            click.echo(f"    {line}")
        click.echo(f"  {document['ours']:.0f} s over {document['reference']:.0f} s: {document['ratio']:.1f}")
    places = document.get("failpoints", [])
    if places:
        struck = sum(each["struck"] for each in places)
        wrong = [each for each in places if not each["identical"] or each["complaints"]]
        click.echo(f"{struck} times at {len(places)} failpoints; {len(wrong)} of them changed the run")
    print_machine(document)
