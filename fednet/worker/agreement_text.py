"""A hospital's agreement in plain words, for who answers for it, and a template of `worker.toml` to begin with."""

from __future__ import annotations

from collections.abc import Iterable

from fednet.worker.agreement import Agreement
from fednet.worker.consent import WorkerConsent

NOT_ENFORCED = (
    "Looked at when a round begins, not while it trains: the hours, free memory, and the share of memory that this "
    "worker holds. A round that has begun is finished.",
    "Not enforced at all: how busy the processor is (only the number of threads), other programs of this machine, and "
    "what the coordinator does with the updates once it has them.",
)

TEMPLATE = """\
# What this hospital agrees to. A coordinator that asks for more is told no, with the reason.
# Take away the "#" before a line to make it hold. Without a line, what stands in brackets holds.
# `python cli.py worker consent` says in plain words what this file means.

[coordinator]
# Only a coordinator whose certificate was issued by this authority, or by one that it has signed to follow it
# (`certs rotate`): SHA-256, one or a list (any that TLS accepts).
# `python cli.py certs show certs/workers/client1/ca.pem` prints it; compare it over the telephone.
# authority = "0000000000000000000000000000000000000000000000000000000000000000"
# Only a coordinator with this very certificate; it changes whenever the coordinator renews it (any).
# certificate = ["0000000000000000000000000000000000000000000000000000000000000000"]

[training]
# Architectures (any).
# models = ["resnet18", "resnet18-gn"]
# Most rounds of a run (any number).
# max_rounds = 200
# Most passes over the scans in one round (50).
# max_local_epochs = 5
# Least and greatest learning rate of a round (0 to 1).
# learning_rate = [0.0001, 0.1]
# Most images in a step (any number).
# max_batch_size = 64
# Compression of updates: "required", "off" or "any" ("any").
# compression = "any"

[data]
# The only folder of scans that may be used; a relative one counts from this file's folder (any).
# folder = "client1_data"
# Whether the coordinator may be told how many held-out scans were taken for what (true, if --share-evaluation asks).
# share_evaluation = false

[privacy]
# Differential privacy: "required" or "any" ("any").
# dp = "required"
# Most that all updates together may spend, of all runs (any).
# max_epsilon = 8.0
# max_delta = 1e-5

[machine]
# Most threads of the processor, and GiB of the GPU's memory, in each process of the worker (all).
# max_threads = 4
# max_gpu_memory_gib = 8
# No round begins while less than this is free (0), or while the worker holds more than this share of the memory (1).
# min_free_memory_gib = 4
# min_free_gpu_memory_gib = 2
# max_memory_share = 0.5

[time]
# No round begins outside of these hours of this machine's clock; a day is that on which the hours begin (always).
# hours = ["Mon-Fri 20:00-06:00", "Sat,Sun 00:00-24:00"]
"""


def sentences_of(agreement: Agreement) -> list[str]:
    """Return what holds, a sentence each."""
    return [
        *_about_coordinator(agreement),
        *_about_training(agreement.consent),
        *_about_data(agreement),
        _about_privacy(agreement),
        *_about_machine(agreement),
        *NOT_ENFORCED,
    ]


def _about_coordinator(agreement: Agreement) -> list[str]:
    found = []
    if agreement.authorities:
        named = _either(sorted(agreement.authorities))
        found.append(
            f"Only a coordinator of the authority with SHA-256 {named}, or of one that it has signed to follow."
        )
    if agreement.coordinators:
        found.append(f"Only a coordinator whose certificate has SHA-256 {_either(sorted(agreement.coordinators))}.")
    return found or ["Any coordinator of the authority that this worker enrolled with."]


def _about_training(consent: WorkerConsent) -> list[str]:
    models = _either(consent.models) if consent.models else "any that this program has"
    least, most = consent.min_learning_rate, consent.max_learning_rate
    batch = "" if consent.max_batch_size is None else f", with at most {consent.max_batch_size} images in a step"
    forms = {
        "any": "Updates may travel compressed or not.",
        "required": "Updates travel compressed only.",
        "off": "Updates travel uncompressed only.",
    }
    hours = ", ".join(window.text for window in consent.hours)
    return [
        f"Architecture: {models}.",
        f"Rounds of a run: {'any number' if consent.max_rounds is None else f'at most {consent.max_rounds}'}.",
        f"In a round: at most {consent.max_local_epochs:g} passes over the scans, "
        f"at a learning rate from {least:g} to {most:g}{batch}.",
        forms[consent.compression],
        f"Rounds begin only within {hours}, by this machine's clock." if hours else "Rounds may begin at any hour.",
    ]


def _about_data(agreement: Agreement) -> list[str]:
    folder = "any that --data names" if agreement.data is None else str(agreement.data.resolve())
    if agreement.may_share_evaluation:
        shared = "The coordinator may be told counts of held-out scans, if --share-evaluation asks for it."
    else:
        shared = "The coordinator is told nothing of how a model does on this hospital's scans."
    return [f"Folder of scans: {folder}. No scan leaves this machine.", shared]


def _about_privacy(agreement: Agreement) -> str:
    bounds = agreement.privacy
    limits = [
        f"{name} of at most {value:g}"
        for name, value in (("epsilon", bounds.max_epsilon), ("delta", bounds.max_delta))
        if value is not None
    ]
    within = f", with {' and '.join(limits)} for all updates of all runs together" if limits else ""
    if bounds.is_required:
        return f"Differential privacy is required{within}."
    return f"Differential privacy is not required{'; where it is used,' + within.removeprefix(',') if within else ''}."


def _about_machine(agreement: Agreement) -> list[str]:
    consent, machine = agreement.consent, agreement.machine
    bounds = (
        ("At most {:g} threads of the processor, in each process.", machine.max_threads),
        (
            "At most {:g} GiB of a GPU's memory, in each process (PyTorch's; CUDA itself takes some more).",
            machine.max_gpu_memory_gib,
        ),
        ("No round begins with less than {:g} GiB of memory free.", consent.min_free_memory_gib),
        ("No round begins with less than {:g} GiB of the GPU's memory free.", consent.min_free_gpu_memory_gib),
        ("No round begins while this worker holds more than {:.0%} of the memory.", consent.max_memory_share),
    )
    found = [text.format(value) for text, value in bounds if value is not None]
    return found or ["As much of this machine as training takes."]


def _either(choices: Iterable[str]) -> str:
    return " or ".join(choices)
