"""`cli.py bench inversion`: scans rebuilt from a hospital's update, without differential privacy and with it."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.bench_wire import on_stderr, print_meaning
from fednet.commands.options import json_option
from fednet.errors import BadInput
from fednet.storage import disk
from fednet.storage.disk import storage_error

if TYPE_CHECKING:
    import torch

    from fednet.config import PrivacySettings, RunSettings
    from fednet.simulate.inversion import Effort
    from fednet.simulate.likeness import Likeness
    from fednet.simulate.one_step import Sent

_OTHERS = 64  # phantoms that are nobody's scans: the coordinator's own, whose mean it begins with
_MEANING = {
    "ours": "mean squared error (grey from 0 to 1) of scans rebuilt from an update without differential privacy, mean",
    "reference": "the same of the guess that every attack begins with: the mean of other phantoms, which asks nobody",
    "ratio": "ours over reference",
    "private": "as ours, of an update under differential privacy, its whole epsilon spent in this one step; null: none",
    "psnr, ssim": "dB, and mean structural similarity (1: the same), of each scan with what was rebuilt, or guessed",
    "is_found": "whether of all phantoms here the scan is the one nearest to what was rebuilt",
    "mismatch": "what the attacker sees of it: share of the gradient's span that the rebuilt scans do not explain",
}


@click.command("inversion")
@click.option("--model", default="resnet18-gn", show_default=True, help="resnet18, resnet18-gn or small-cnn.")
@click.option("--image-size", type=click.IntRange(16, 512), default=48, show_default=True, help="Pixels, square.")
@click.option("--batch-size", type=click.IntRange(1, 4), default=1, show_default=True, help="Scans in the step.")
@click.option("--examples", type=click.IntRange(1, 100), default=3, show_default=True, help="Hospitals attacked.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Of a try, at most.")
@click.option("--tries", type=click.IntRange(1), default=2, show_default=True, help="From other noise, at most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of phantoms and models.")
@click.option("--dp-epsilon", type=float, default=8.0, show_default=True, help="Of the hospital that is private.")
@click.option("--dp-delta", type=float, default=1e-5, show_default=True, help="The chance that epsilon does not hold.")
@click.option("--dp-clip", type=float, default=1.0, show_default=True, help="Largest norm of one scan's gradient.")
@click.option("--out", type=click.Path(path_type=Path), help="A PNG file for scans and what was rebuilt of them.")
@json_option
def bench_inversion(
    model: str,
    image_size: int,
    batch_size: int,
    examples: int,
    steps: int,
    tries: int,
    seed: int,
    dp_epsilon: float,
    dp_delta: float,
    dp_clip: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Attack updates of one local step as a curious coordinator would: no label, no data but its own, one update."""
    from data.classes import CLASSES
    from fednet.config import PrivacySettings, RunSettings, TrainingSettings
    from fednet.simulate.inversion import Effort

    planned = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=1,
        workers=1,
        seed=seed,
        training=TrainingSettings(batch_size=batch_size, momentum=0.0, weight_decay=0.0, augment=False),
    )
    privacy = PrivacySettings(epsilon=dp_epsilon, delta=dp_delta, clip=dp_clip)
    bench = _Bench(planned, privacy, Effort(steps=steps, tries=tries))
    if out is not None:
        try:
            disk.make_folder(out.parent)
        except OSError as exc:
            raise storage_error(out.parent, exc) from exc
    began, computed = time.monotonic(), time.process_time()
    found = [bench.example(number) for number in range(examples)]
    document = _document(found, bench) | {
        "seconds": time.monotonic() - began,
        "processor_seconds": time.process_time() - computed,
    }
    if as_json:
        click.echo(json.dumps(document))
    else:
        _print(document)
        print_meaning(document)
    if out is not None:
        _draw(out, found)


@dataclass(frozen=True, kw_only=True)
class _Attacked:
    """One scan, and what became of it."""

    scan: torch.Tensor  # (1, s, s), grey of 0 to 1
    plain: _Found
    private: _Found | None
    guess: Likeness


@dataclass(frozen=True, kw_only=True)
class _Found:
    image: torch.Tensor  # (1, s, s), grey of 0 to 1
    likeness: Likeness
    is_found: bool
    mismatch: float

    def figures(self) -> dict[str, Any]:
        return asdict(self.likeness) | {"is_found": self.is_found, "mismatch": self.mismatch}


class _Bench:
    """Attacks one hospital after another, each with a model, scans and a seed of its own."""

    def __init__(self, planned: RunSettings, privacy: PrivacySettings, effort: Effort) -> None:
        from data.phantoms import phantom_set
        from fednet.commands import wiring
        from fednet.worker.private_training import objection_to

        self.planned, self.privacy, self.effort = planned, privacy, effort
        self._others = _grey(phantom_set(_OTHERS, seed=planned.seed + 1_000_003, size=planned.image_size))
        model = wiring.new_model(planned.model, seed=0, pretrained="no", weights=None, notice=on_stderr)
        self.objection = objection_to(planned.training, model, name=planned.model)
        if not self.objection and self.noise_multiplier is None:
            raise BadInput(f"--dp-epsilon {privacy.epsilon:g}", found="too little for one step", expected="more")

    @property
    def noise_multiplier(self) -> float | None:
        """Noise of a hospital whose scans are one batch, in clips; None: it cannot train this model privately."""
        from fednet.worker.privacy_accounting import noise_multiplier_for
        from fednet.worker.privacy_ledger import rate_and_steps

        rate, steps = rate_and_steps(self.planned.training.batch_size, self.planned.training)
        if self.objection:
            return None
        return noise_multiplier_for(rate, steps, epsilon=self.privacy.epsilon, delta=self.privacy.delta)

    def example(self, number: int) -> list[_Attacked]:
        """Return the scans of one hospital, each with what was rebuilt from its update."""
        import torch

        from data.images import ScanSet
        from data.loaders import ScanLoader
        from data.phantoms import phantom_set
        from fednet.commands import wiring
        from fednet.config import derived_seed
        from fednet.simulate.likeness import likeness
        from fednet.simulate.one_step import one_step

        seed, count = derived_seed(self.planned.seed, "inversion", number), self.planned.training.batch_size
        drawn = phantom_set(number + count, seed=seed, size=self.planned.image_size)[number:]  # of another class each
        pixels = torch.stack([torch.from_numpy(each) for each, _ in drawn]).unsqueeze(1)
        scans = ScanSet(images=pixels, labels=torch.tensor([label for _, label in drawn]), skipped=())
        data, truth = ScanLoader(scans, torch.device("cpu")), _grey(drawn)
        network = wiring.new_model(self.planned.model, seed=seed, pretrained="no", weights=None, notice=on_stderr)
        sides: list[list[_Found] | list[None]] = []
        for privacy in (None, self.privacy):
            if privacy is not None and self.objection:
                sides.append([None] * count)
                continue
            sent = one_step(network, data, self.planned, privacy=privacy)
            sides.append(self._attack(network, sent, truth, seed=number))
            errors = ", ".join(f"{each.likeness.mse:.5f}" for each in sides[-1] if each)
            on_stderr(f"hospital {number + 1}, epsilon {sent.epsilon or 'unlimited'}: mean squared error {errors}")
        mean = self._others.mean(dim=0)
        return [
            _Attacked(scan=scan, plain=plain, private=private, guess=likeness(mean, scan))
            for scan, plain, private in zip(truth, *sides, strict=True)
        ]

    def _attack(self, network: torch.nn.Module, sent: Sent, truth: torch.Tensor, *, seed: int) -> list[_Found]:
        import torch

        from data.transforms import normalised
        from fednet.simulate.inversion import gradient_in, rebuild
        from fednet.simulate.likeness import in_order_of, likeness, nearest

        gradient = gradient_in(sent.update, sent.manifest, learning_rate=self.planned.training.learning_rate)
        start = self._others.mean(dim=0, keepdim=True).repeat(len(truth), 1, 1, 1)
        rebuilt = rebuild(
            network, gradient, start, as_input=lambda grey: normalised(grey * 255), effort=self.effort, seed=seed
        )
        everyone = torch.cat([truth, self._others])
        return [
            _Found(
                image=image,
                likeness=likeness(image, scan),
                is_found=nearest(image, everyone) == place,
                mismatch=rebuilt.mismatch,
            )
            for place, (image, scan) in enumerate(zip(in_order_of(rebuilt.images, truth), truth, strict=True))
        ]


def _grey(drawn: list[tuple[Any, int]]) -> torch.Tensor:
    """Return phantoms as grey images of 0 to 1  # (n, 1, s, s)."""
    import torch

    return torch.stack([torch.from_numpy(pixels) for pixels, _ in drawn]).unsqueeze(1).float() / 255


def _document(found: list[list[_Attacked]], bench: _Bench) -> dict[str, Any]:
    import torch

    from fednet.bench.machine import machine

    scans = [each for hospital in found for each in hospital]
    ours = statistics.fmean(each.plain.likeness.mse for each in scans)
    reference = statistics.fmean(each.guess.mse for each in scans)
    private = [each.private for each in scans if each.private is not None]
    planned, privacy = bench.planned, bench.privacy
    return {
        "bench": "inversion",
        "machine": machine() | {"torch": torch.__version__},
        "settings": {
            "model": planned.model,
            "image_size": planned.image_size,
            "batch_size": planned.training.batch_size,
            "learning_rate": planned.training.learning_rate,
            "seed": planned.seed,
            "effort": asdict(bench.effort),
            "privacy": asdict(privacy) | {"noise_multiplier": bench.noise_multiplier},
            "threads": torch.get_num_threads(),
        },
        "samples": [
            {
                "hospital": number,
                "plain": each.plain.figures(),
                "private": each.private and each.private.figures(),
                "guess": asdict(each.guess),
            }
            for number, hospital in enumerate(found, start=1)
            for each in hospital
        ],
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "private": statistics.fmean(each.likeness.mse for each in private) if private else None,
        "objection": bench.objection,
        "meaning": _MEANING,
    }


def _draw(path: Path, found: list[list[_Attacked]]) -> None:
    from fednet.reporting.pictures import draw_rebuilt

    rows = []
    for each in (scan for hospital in found for scan in hospital):
        sides = {"rebuilt from its update": each.plain, "with differential privacy": each.private}
        shown = {
            name: (side.image, f"{side.likeness.psnr:.1f} dB, SSIM {side.likeness.ssim:.2f}")
            for name, side in sides.items()
            if side is not None
        }
        rows.append({"the hospital's scan": (each.scan, ""), **shown})
    draw_rebuilt(path, rows)


def _print(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    settings = document["settings"]
    table = Table(
        title=f"{settings['model']} at {settings['image_size']} px, one step on {settings['batch_size']}: what an "
        "update gives away"
    )
    for name in ("hospital", "", "MSE", "PSNR dB", "SSIM", "found", "mismatch"):
        table.add_column(name, justify="right" if name else "left")
    for each in document["samples"]:
        for key, name in (("plain", "without privacy"), ("private", "with"), ("guess", "guess")):
            if figures := each[key]:
                table.add_row(
                    str(each["hospital"]),
                    name,
                    f"{figures['mse']:.5f}",
                    f"{figures['psnr']:.1f}",
                    f"{figures['ssim']:.3f}",
                    *(("yes" if figures["is_found"] else "no", f"{figures['mismatch']:.4f}") if key != "guess" else ()),
                )
    Console().print(table)
    privacy = settings["privacy"]
    click.echo(
        f"no private hospital: {document['objection']}"
        if document["objection"]
        else f"privacy: epsilon {privacy['epsilon']:g}, delta {privacy['delta']:g}, clip {privacy['clip']:g}: noise of "
        f"{privacy['noise_multiplier']:.3g} times the clip on every weight"
    )
    click.echo(f"{document['seconds']:.0f} s, of processor time {document['processor_seconds']:.0f} s")
