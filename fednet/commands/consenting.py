"""`worker join --consent`: what the hospital agrees to; `worker consent` says it in plain words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fednet.commands.options import json_option

if TYPE_CHECKING:
    from fednet.config import PrivacySettings
    from fednet.security.pinning import Pins
    from fednet.worker.agreement import Agreement
    from fednet.worker.consent import WorkerConsent

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = Path("worker.toml")
_file_option = click.option(
    "--consent",
    "consent_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"What this hospital agrees to (default: {_DEFAULT}, if it is there); none: read no file.",
)


def consent_options(function: F) -> F:
    """Add --consent, and the options that narrow it."""
    model = click.option("--model", help="Agree to this architecture only (default: any that FedNet has).")
    epochs = click.option("--max-epochs", type=click.FloatRange(0), help="Most local epochs agreed to (default: 50).")
    rate = click.option("--max-lr", type=click.FloatRange(0), help="Largest learning rate agreed to (default: 1).")
    return _file_option(model(epochs(rate(function))))


def agreed_upon(
    given: dict[str, Any], *, data: Path, shares: bool, privacy: PrivacySettings | None
) -> tuple[Agreement, WorkerConsent]:
    """Take `consent_options` out of `given`; return (the file's agreement, the consent that options have narrowed).

    `given` holds `max_gpu_memory` too, which stays there, within what was agreed. Raises `BadInput` for a file that
    cannot be used, and for an option that goes beyond it.
    """
    agreement = _agreement_in(given.pop("consent_file"))
    consent = agreement.narrowed(
        model=given.pop("model"), max_local_epochs=given.pop("max_epochs"), max_learning_rate=given.pop("max_lr")
    )
    agreement.require_data(data)
    agreement.require_sharing(is_asked=shares)
    agreement.require_privacy(privacy)
    given["max_gpu_memory"] = agreement.gpu_memory_gib(given["max_gpu_memory"])
    return agreement, consent


def pins_here() -> Pins:
    """Return what the worker.toml in this folder, if there is one, demands of coordinators; raises `BadInput`."""
    return pins_of(_agreement_in(None))


def pins_of(agreement: Agreement) -> Pins:
    """Return which coordinators are agreed to, by their certificates."""
    from fednet.security.pinning import Pins

    return Pins(agreement.authorities, agreement.coordinators)


def _agreement_in(file: Path | None) -> Agreement:
    from fednet.worker.agreement import Agreement
    from fednet.worker.agreement_file import read_agreement

    if file == Path("none") or (file is None and not _DEFAULT.exists()):
        return Agreement()
    return read_agreement(file or _DEFAULT)


@click.command("consent")
@_file_option
@click.option("--template", is_flag=True, help="Print a worker.toml to begin with, every line explained.")
@json_option
def consent(consent_file: Path | None, template: bool, as_json: bool) -> None:
    """Say in plain words what this hospital agrees to; changes nothing and asks nobody."""
    from fednet.worker.agreement_text import TEMPLATE, sentences_of

    if template:
        click.echo(TEMPLATE, nl=False)
        return
    agreement = _agreement_in(consent_file)
    sentences = sentences_of(agreement)
    if as_json:
        click.echo(json.dumps(asdict(agreement) | {"sentences": sentences}, default=_plain))
        return
    file = agreement.path.resolve() if agreement.path else f"no {_DEFAULT} here: what holds anyway"
    click.echo(f"What this hospital agrees to ({file}):")
    for sentence in sentences:
        click.echo(f"- {sentence}")


def _plain(value: object) -> Any:
    return sorted(value) if isinstance(value, frozenset) else str(value)
