"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fednet.commands.logs import LEVELS
from fednet.config import TrainingSettings

F = TypeVar("F", bound=Callable[..., Any])

certs_option = click.option(
    "--certs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("certs"),
    show_default=True,
    help="Folder of keys and certificates.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
max_bad_files_option = click.option(
    "--max-bad-files",
    type=click.FloatRange(0.0, 1.0),
    default=0.01,
    show_default=True,
    help="Largest share of unreadable image files that are skipped.",
)
pretrained_option = click.option(
    "--pretrained",
    type=click.Choice(["auto", "require", "no"]),
    default="auto",
    show_default=True,
    help="ImageNet weights: where they can be had, or else stop, or never.",
)
weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Start from this state_dict instead (for sites without internet).",
)


aggregator_option = click.option(
    "--aggregator",
    default="auto",
    show_default=True,
    help="Rule: auto, multikrum, krum, fedavg, median ... (NAME:KEY=NUMBER); an unknown one lists all.",
)
compress_option = click.option(
    "--compress",
    default="none",
    show_default=True,
    help="How updates travel: none, zstd (lossless), bf16, fp16, int8 (with error feedback), or bf16+zstd ...",
)
pre_option = click.option(
    "--pre", multiple=True, help="Before the rule: nnm, bucketing, norm-clipping or arc; repeatable, in order."
)


run_argument = click.argument("run", type=click.Path(path_type=Path))


def run_folder(run: Path) -> Path:
    """Return the folder of a run that was given by its folder, or by its name in runs/."""
    named = Path("runs") / run
    return named if not (run / "run.sqlite").exists() and named.is_dir() else run


def log_options(function: F) -> F:
    """Add --log-level, --log-format and --verbose."""
    options = (
        click.option("--log-level", type=click.Choice(LEVELS), help="Log from here on (default: warning; json: info)."),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="json: one document a line on stderr, with everything that is shown.",
        ),
        click.option("--verbose", is_flag=True, help="Log every connection: --log-level info."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def model_options(function: F) -> F:
    """Add --model and --image-size."""
    size = click.option("--image-size", type=int, default=224, show_default=True, help="Pixels, square.")
    model = click.option("--model", default="resnet18", show_default=True, help="resnet18 or small-cnn.")
    return model(size(function))


def training_options(function: F) -> F:
    """Add what local training is set by."""
    options = (
        click.option("--batch-size", type=int, default=32, show_default=True, help="Images a step."),
        click.option("--lr", type=float, default=0.02, show_default=True, help="Learning rate of SGD."),
        click.option("--momentum", type=float, default=0.9, show_default=True, help="Momentum of SGD (Nesterov)."),
        click.option("--weight-decay", type=float, default=5e-4, show_default=True, help="L2 penalty."),
        click.option("--augment/--no-augment", default=True, help="Mirror, turn, shift, zoom (default: yes)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def training_settings(
    *, epochs: int, batch_size: int, lr: float, momentum: float, weight_decay: float, augment: bool
) -> TrainingSettings:
    """Return the settings behind the options; raises `BadInput` naming the option."""
    return TrainingSettings(
        local_epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        augment=augment,
    )
