"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from fednet.commands.logs import LEVELS
from fednet.config import (
    BALANCES,
    BATCH_NORMS,
    PROPOSED_ROUNDS,
    PROPOSED_SCHEDULE,
    PROPOSED_TRAINING,
    SCHEDULES,
    SERVER_OPTIMIZERS,
    ClientPrivacySettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
    automatic_server_optimizer,
    require,
)
from fednet.errors import BadInput

if TYPE_CHECKING:
    from data.cache import CachePlace

F = TypeVar("F", bound=Callable[..., Any])

AUTO = "auto"

certs_option = click.option(
    "--certs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("certs"),
    show_default=True,
    help="Folder of keys and certificates.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
quiet_option = click.option("--quiet", is_flag=True, help="Show warnings and errors alone.")
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
    default=AUTO,
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
    "--pre",
    multiple=True,
    help="Before the rule: similarity, nnm, bucketing, norm-clipping or arc; repeatable, in order.",
)

_SERVER = ServerSettings()
_WITH_A_MOMENTUM = ("momentum", "adam")  # of the server's own, beside the training's
_ADAMS_LR = 0.01  # its steps do not shrink with the updates: at 1 each weight would move by about 1 in the first round


def _choice(name: str, choices: Sequence[str], default: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=click.Choice(choices), default=default, show_default=True, help=text)


def _number(name: str, default: float, text: str) -> Callable[[F], F]:
    return click.option(name, type=type(default), default=default, show_default=True, help=text)


def rounds_option(text: str) -> Callable[[F], F]:
    """Return the option for how many rounds; `text` says of what."""
    return _number("--rounds", PROPOSED_ROUNDS, text)


local_epochs_option = click.option(
    "--local-epochs",
    type=float,
    default=PROPOSED_TRAINING.local_epochs,
    show_default=True,
    callback=lambda context, option, value: int(value) if value.is_integer() else value,
    help="Epochs at a worker, each round; 0.25: a quarter of its batches.",
)
_TRAINING = (
    local_epochs_option,
    _number("--batch-size", PROPOSED_TRAINING.batch_size, "Images a step."),
    _number("--lr", PROPOSED_TRAINING.learning_rate, "Learning rate of SGD."),
    _number(
        "--momentum",
        PROPOSED_TRAINING.momentum,
        "Momentum of SGD (Nesterov); the server's, where --server-optimizer says so.",
    ),
    _number("--weight-decay", PROPOSED_TRAINING.weight_decay, "L2 penalty."),
    click.option(
        "--augment/--no-augment", default=PROPOSED_TRAINING.augment, help="Mirror, turn, shift, zoom (default: yes)."
    ),
    _number("--prox-mu", PROPOSED_TRAINING.proximal_mu, "FedProx: pull back to the round's global model."),
    _number("--label-smoothing", PROPOSED_TRAINING.label_smoothing, "Share of a label that the other classes get."),
    _choice(
        "--balance",
        BALANCES,
        PROPOSED_TRAINING.balance,
        "Make up for a site's class mix: by weights in the loss, by drawing, or by shifted logits.",
    ),
    click.option(
        "--freeze-until", default=PROPOSED_TRAINING.freeze_until, help="Leave the layers up to this one as they are."
    ),
    _number("--layer-lr-decay", PROPOSED_TRAINING.layer_lr_decay, "A block's learning rate, of the next block's."),
)
_RUN: dict[str, Any] = {each.name: each.default for each in fields(RunSettings)}
_SCHEDULE = (
    _choice("--lr-schedule", SCHEDULES, PROPOSED_SCHEDULE, "Learning rate over the rounds."),
    _number("--warmup-rounds", _RUN["warmup_rounds"], "Rounds in which the learning rate rises."),
)
_LEARNING = (
    *_SCHEDULE,
    _choice(
        "--server-optimizer",
        (AUTO, *SERVER_OPTIMIZERS),
        AUTO,
        "Applied to the aggregated step; auto: nesterov, which keeps --momentum for the sites, in runs of many rounds.",
    ),
    click.option("--server-lr", type=float, help="Its learning rate (default: 1; adam: 0.01)."),
    click.option(
        "--server-momentum",
        type=float,
        help="Momentum of `momentum`, Adam's beta 1 (default: 0.9; that of nesterov is --momentum).",
    ),
    _number("--server-beta2", _SERVER.beta_2, "Adam's beta 2."),
    _number("--server-tau", _SERVER.tau, "Adam's adaptivity: added to the root of the second moment."),
    _choice("--batch-norm", BATCH_NORMS, _RUN["batch_norm"], "What becomes of BatchNorm."),
)
_PRIVACY = ClientPrivacySettings()
_CLIENT_PRIVACY = (
    _number("--client-dp-clip", _PRIVACY.clip, "Client-level privacy: the largest norm of an update; 0: none."),
    _number("--client-dp-noise", _PRIVACY.noise, "Its noise, in clips over --workers (Krum: in twice the clip)."),
    _number("--client-dp-delta", _PRIVACY.delta, "The delta at which its epsilon is told."),
    _number("--client-dp-epsilon", _PRIVACY.epsilon, "End the run before it spends more than this; 0: any."),
)
_WATCH = (
    _number("--guard", _RUN["guard"], "Largest fall of validation accuracy that is taken as a step; 0: any."),
    _number("--early-stop", _RUN["early_stop"], "End after so many rounds without a better validation; 0: never."),
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
    return _with(function, options)


def cache_options(function: F) -> F:
    """Add --cache and --no-cache."""
    options = (
        click.option(
            "--cache",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the decoded scans (default: .fednet-cache in each folder of scans).",
        ),
        click.option("--no-cache", is_flag=True, help="Decode all scans, and keep no pixels for the next start."),
    )
    return _with(function, options)


def cache_place(cache: Path | None, *, no_cache: bool) -> CachePlace:
    """Return where caches are by these two options; raises `BadInput` where both are given."""
    from data.cache import in_the_folder, nowhere

    if no_cache and cache is not None:
        raise BadInput("--no-cache", found=f"--cache {cache} as well", todo="give one of them")
    if no_cache:
        return nowhere
    return in_the_folder if cache is None else lambda folder: cache


def model_options(function: F) -> F:
    """Add --model and --image-size."""
    size = click.option("--image-size", type=int, default=224, show_default=True, help="Pixels, square.")
    model = click.option("--model", default="resnet18", show_default=True, help="resnet18, resnet18-gn or small-cnn.")
    return model(size(function))


def training_options(function: F) -> F:
    """Add what local training is set by, one option for each field of `TrainingSettings`, and --local-epochs."""
    return _with(function, _TRAINING)


def schedule_options(function: F) -> F:
    """Add how the learning rate changes over the rounds."""
    return _with(function, _SCHEDULE)


def learning_options(function: F) -> F:
    """Add what a coordinator decides about learning over the rounds, beside the aggregation."""
    return _with(function, _LEARNING)


def watch_options(function: F) -> F:
    """Add what validation decides of the rounds' course."""
    return _with(function, _WATCH)


def client_privacy_options(function: F) -> F:
    """Add what the coordinator does for the privacy of each hospital's whole update."""
    return _with(function, _CLIENT_PRIVACY)


def client_privacy_settings(given: dict[str, Any]) -> ClientPrivacySettings:
    """Take `client_privacy_options` out of `given` and return the settings; raises `BadInput` naming one."""
    names = ("clip", "noise", "delta", "epsilon")
    return ClientPrivacySettings(**{name: given.pop(f"client_dp_{name}") for name in names})


def training_settings(given: dict[str, Any]) -> TrainingSettings:
    """Take the options of `training_options` out of `given` and return the settings; raises `BadInput` naming one."""
    return TrainingSettings(
        local_epochs=given.pop("local_epochs"),
        batch_size=given.pop("batch_size"),
        learning_rate=given.pop("lr"),
        momentum=given.pop("momentum"),
        weight_decay=given.pop("weight_decay"),
        augment=given.pop("augment"),
        proximal_mu=given.pop("prox_mu"),
        label_smoothing=given.pop("label_smoothing"),
        balance=given.pop("balance"),
        freeze_until=given.pop("freeze_until"),
        layer_lr_decay=given.pop("layer_lr_decay"),
    )


def learning_settings(given: dict[str, Any], *, rounds: int, is_private: bool = False) -> dict[str, Any]:
    """Take `training_options` and `learning_options` out of `given` and return fields of `RunSettings`.

    `is_private`: of a run with client-level privacy, whose budget may leave few of the rounds. Raises `BadInput`
    naming an option.
    """
    training = training_settings(given)
    optimizer, rate, momentum = (given.pop(f"server_{name}") for name in ("optimizer", "lr", "momentum"))
    require(
        momentum is None or optimizer in _WITH_A_MOMENTUM,
        "--server-momentum",
        found=f"{momentum}, with --server-optimizer {optimizer}",
        expected="--server-optimizer momentum or adam with it; nesterov keeps --momentum",
    )
    if optimizer == AUTO:
        optimizer = "none" if is_private else automatic_server_optimizer(rounds, training.momentum)
    if optimizer == "nesterov":
        training, momentum = replace(training, momentum=0.0), training.momentum
    server = ServerSettings(
        optimizer=optimizer,
        learning_rate=rate if rate is not None else _ADAMS_LR if optimizer == "adam" else _SERVER.learning_rate,
        momentum=_SERVER.momentum if momentum is None else momentum,
        beta_2=given.pop("server_beta2"),
        tau=given.pop("server_tau"),
    )
    others = {name: given.pop(name) for name in ("lr_schedule", "warmup_rounds", "batch_norm")}
    return {"training": training, "server": server} | others


def begun_options(begun: RunSettings) -> dict[str, Any]:
    """Return what the options of how a run learns would have to say for this one: --rounds, and the groups above."""
    training, server, privacy = begun.training, begun.server, begun.client_privacy
    return {
        "rounds": begun.rounds,
        "local_epochs": training.local_epochs,
        "batch_size": training.batch_size,
        "lr": training.learning_rate,
        "momentum": begun.momentum,
        "weight_decay": training.weight_decay,
        "augment": training.augment,
        "prox_mu": training.proximal_mu,
        "label_smoothing": training.label_smoothing,
        "balance": training.balance,
        "freeze_until": training.freeze_until,
        "layer_lr_decay": training.layer_lr_decay,
        "lr_schedule": begun.lr_schedule,
        "warmup_rounds": begun.warmup_rounds,
        "server_optimizer": server.optimizer,
        "server_lr": server.learning_rate,
        "server_momentum": server.momentum if server.optimizer in _WITH_A_MOMENTUM else None,
        "server_beta2": server.beta_2,
        "server_tau": server.tau,
        "batch_norm": begun.batch_norm,
        "guard": begun.guard,
        "early_stop": begun.early_stop,
        **{f"client_dp_{name}": value for name, value in asdict(privacy).items()},
    }


def kept_options(begun: RunSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of its options a run that goes on keeps, by name: all that the command's person has not settled.

    `given` to the command that runs, with its defaults; what is default, or `auto`, is not settled.
    """
    source = click.get_current_context().get_parameter_source
    return {
        name: value
        for name, value in begun_options(begun).items()
        if source(name) is ParameterSource.DEFAULT or given.get(name) == AUTO
    }


def _with(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function
