"""Validated, frozen settings of a run and of a worker; every number carries its unit in its name."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NewType

from fednet.errors import BadInput

WorkerName = NewType("WorkerName", str)
"""A hospital's name as its certificate states it, for example ``client1``."""

RunId = NewType("RunId", str)
"""Names one run for ever: chosen at random when the run is created."""

DEFAULT_PORT = 7733
DEFAULT_HOST = "127.0.0.1"
DASHBOARD_PORT = 8733
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound by default
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def worker_name(text: str) -> WorkerName:
    """Return `text` as a worker's name, or raise `BadInput`: names become file names and certificate subjects."""
    if not NAME_PATTERN.fullmatch(text):
        raise BadInput(
            "worker name",
            found=repr(text[:80]),
            expected="1 to 63 letters, digits, dots, dashes or underscores, starting with a letter or digit",
            todo="choose another name",
        )
    return WorkerName(text)


def require(condition: bool, what: str, *, found: object, expected: str) -> None:
    """Raise `BadInput` unless `condition` holds."""
    if not condition:
        raise BadInput(what, found=str(found), expected=expected)


BALANCES = ("none", "loss", "sampling", "logits")
SCHEDULES = ("constant", "cosine", "step")
SERVER_OPTIMIZERS = ("none", "momentum", "nesterov", "adam")
BATCH_NORMS = ("averaged", "local", "reestimated")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a coordinator asks of a worker's local training in one round."""

    local_epochs: float = 1  # a part of one takes the nearest number of its batches, others in each round
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    proximal_mu: float = 0.0  # FedProx: how strongly training is pulled back to the global model
    label_smoothing: float = 0.0
    balance: str = "none"  # how a site makes up for its class mix, one of BALANCES
    freeze_until: str = ""  # the model's layers up to this one stay as they are
    layer_lr_decay: float = 1.0  # each block's learning rate is its successor's times this

    def steps(self, batches: int) -> int:
        """Return how many steps a site takes in a round whose epoch has so many batches: one at least."""
        return max(1, round(self.local_epochs * batches)) if self.local_epochs > 0 and batches > 0 else 0

    def __post_init__(self) -> None:
        _require_number("--local-epochs", self.local_epochs, low=0.0, high=1000.0)
        require(1 <= self.batch_size <= 4096, "--batch-size", found=self.batch_size, expected="1 to 4096")
        _require_number("--lr", self.learning_rate, low=0.0, high=10.0, low_open=True)
        _require_number("--momentum", self.momentum, low=0.0, high=0.9999)
        _require_number("--weight-decay", self.weight_decay, low=0.0, high=1.0)
        _require_number("--prox-mu", self.proximal_mu, low=0.0, high=100.0)
        _require_number("--label-smoothing", self.label_smoothing, low=0.0, high=0.5)
        _require_choice("--balance", self.balance, BALANCES)
        require(
            re.fullmatch(r"[A-Za-z0-9_.]{0,100}", self.freeze_until) is not None,
            "--freeze-until",
            found=repr(self.freeze_until[:80]),
            expected="the name of a layer, such as layer2",
        )
        _require_number("--layer-lr-decay", self.layer_lr_decay, low=0.0, high=1.0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How the coordinator turns a round's aggregated step into the model's step."""

    optimizer: str = "none"  # one of SERVER_OPTIMIZERS
    learning_rate: float = 1.0
    momentum: float = 0.9  # beta of FedAvgM and Nesterov's, beta_1 of FedAdam
    beta_2: float = 0.99
    tau: float = 1e-3  # FedAdam's degree of adaptivity

    def __post_init__(self) -> None:
        _require_choice("--server-optimizer", self.optimizer, SERVER_OPTIMIZERS)
        _require_number("--server-lr", self.learning_rate, low=0.0, high=10.0, low_open=True)
        _require_number("--server-momentum", self.momentum, low=0.0, high=0.9999)
        _require_number("--server-beta2", self.beta_2, low=0.0, high=0.999999)
        _require_number("--server-tau", self.tau, low=0.0, high=1.0, low_open=True)


@dataclass(frozen=True, kw_only=True)
class ClientPrivacySettings:
    """Differential privacy of each hospital's whole update, by the coordinator: noise over clipped updates."""

    clip: float = 0.0  # the largest norm of an update that counts; 0: no such privacy
    noise: float = 0.0  # in clips over the number of workers (of Krum: in twice the clip), standard deviation
    delta: float = 1e-5
    epsilon: float = 0.0  # what all rounds together may spend; 0: any

    def __post_init__(self) -> None:
        _require_number("--client-dp-clip", self.clip, low=0.0, high=1e6)
        _require_number("--client-dp-noise", self.noise, low=0.0, high=1e4)
        _require_number("--client-dp-delta", self.delta, low=0.0, high=0.1, low_open=True)
        _require_number("--client-dp-epsilon", self.epsilon, low=0.0, high=1e6)
        if (self.clip > 0) != (self.noise > 0) or (self.epsilon > 0 and not self.is_on):
            raise BadInput(
                "--client-dp-clip, --client-dp-noise",
                found=f"{self.clip:g} and {self.noise:g}",
                expected="both above 0 (a clip without noise promises nothing, nor noise without a clip), or neither",
            )

    @property
    def is_on(self) -> bool:
        """Whether there is any."""
        return self.clip > 0


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that decides what a run computes; two runs with equal settings and workers are the same run."""

    model: str
    image_size: int  # pixels, square
    classes: tuple[str, ...]
    rounds: int = 10
    workers: int = 5
    byzantine: int = 0  # f: how many workers may be malicious; fixed for the run
    aggregator: str = "multikrum"  # a rule's name, with its parameters
    pre: tuple[str, ...] = ()  # pre-aggregation before the rule, in order
    quorum: int = 1  # fewest updates a round may be aggregated from
    reputation_window: int = 5  # rounds that a worker is judged by: of five rejections in a row chance is no cause
    quarantine: int = 0  # rejections among these from which a worker is left out, f workers at most; 0: never
    deadline_s: float = 3600.0  # from the start of a round
    patience_s: float = 3600.0  # how long a round may stay below its quorum, past the deadline, before it parks
    seed: int = 0
    compress: str = "none"  # the form in which updates travel
    compress_model: str = "none"  # the form in which global models travel
    lr_schedule: str = "constant"  # of the learning rate over the rounds, one of SCHEDULES
    warmup_rounds: int = 0  # in which the learning rate rises to its full value
    server: ServerSettings = field(default_factory=ServerSettings)
    batch_norm: str = "averaged"  # what becomes of BatchNorm, one of BATCH_NORMS
    guard: float = 0.0  # the largest fall of validation accuracy that is taken as a step; 0: any
    early_stop: int = 0  # rounds without a better validation after which the run ends; 0: never
    client_privacy: ClientPrivacySettings = field(default_factory=ClientPrivacySettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        require(16 <= self.image_size <= 1024, "--image-size", found=self.image_size, expected="16 to 1024 pixels")
        require(1 <= self.rounds <= _MOST_ROUNDS, "--rounds", found=self.rounds, expected=f"1 to {_MOST_ROUNDS}")
        require(1 <= self.workers <= 10_000, "--workers", found=self.workers, expected="1 to 10000")
        require(self.byzantine >= 0, "--byzantine", found=self.byzantine, expected="auto, 0 or more")
        require(
            self.byzantine == 0 or self.workers >= 2 * self.byzantine + 3,
            "--byzantine",
            found=f"f = {self.byzantine} with {self.workers} workers",
            expected=f"at least 2f + 3 = {2 * self.byzantine + 3} workers (Blanchard et al. 2017)",
        )
        fewest = fewest_updates(self.byzantine)
        require(
            fewest <= self.quorum <= self.workers,
            "--quorum",
            found=self.quorum,
            expected=f"{fewest} to {self.workers} (2f + 3 up to the number of workers)",
        )
        require(
            1 <= self.reputation_window <= 1000, "--window", found=self.reputation_window, expected="1 to 1000 rounds"
        )
        require(
            0 <= self.quarantine <= self.reputation_window,
            "--quarantine",
            found=self.quarantine,
            expected=f"0 (nobody) to {self.reputation_window} (--window)",
        )
        require(
            self.quarantine == 0 or self.byzantine > 0,
            "--quarantine",
            found=f"{self.quarantine}, and f = 0 (--byzantine)",
            expected="f of at least 1: no more workers than f are ever left out",
        )
        _require_number("--deadline", self.deadline_s, low=0.0, high=30 * 86400.0, low_open=True)
        _require_number("--patience", self.patience_s, low=0.0, high=365 * 86400.0)
        require(0 <= self.seed < 2**63, "--seed", found=self.seed, expected="0 to 2^63 - 1")
        _require_choice("--lr-schedule", self.lr_schedule, SCHEDULES)
        require(
            0 <= self.warmup_rounds < self.rounds or self.warmup_rounds == 0,
            "--warmup-rounds",
            found=self.warmup_rounds,
            expected=f"0 to {self.rounds - 1} (fewer than --rounds)",
        )
        require(
            self.server.optimizer != "nesterov" or self.training.momentum == 0,
            "--server-optimizer nesterov",
            found=f"a momentum of {self.training.momentum:g} in local training",
            expected="0: the server keeps it",
        )
        _require_choice("--batch-norm", self.batch_norm, BATCH_NORMS)
        _require_number("--guard", self.guard, low=0.0, high=1.0)
        require(0 <= self.early_stop <= 100_000, "--early-stop", found=self.early_stop, expected="0 (never) or more")
        if self.client_privacy.is_on:
            self._check_client_privacy()

    def _check_client_privacy(self) -> None:
        require(
            self.client_privacy.delta < 1 / self.workers,
            "--client-dp-delta",
            found=f"{self.client_privacy.delta:g}",
            expected=f"less than 1 / {self.workers} (--workers): else giving one away whole would be allowed",
        )
        require(
            not self.training.freeze_until,
            "--freeze-until",
            found=f"{self.training.freeze_until}, and --client-dp-clip, whose noise moves every layer",
            expected="one of the two",
        )

    @property
    def recipe_name(self) -> str:
        """Return what aggregates, for people: `nnm+multikrum`."""
        return "+".join([*self.pre, self.aggregator])

    def training_in(self, round_number: int) -> TrainingSettings:
        """Return what workers are asked in a round (from 1): the learning rate follows the schedule."""
        rate = self.training.learning_rate * self._lr_factor(round_number)
        return replace(self.training, learning_rate=rate)

    @property
    def momentum(self) -> float:
        """Return the momentum of training, whether sites keep it or the server keeps it for them."""
        return self.server.momentum if self.server.optimizer == "nesterov" else self.training.momentum

    def lasting(self, rounds: int) -> RunSettings:
        """Return the same in so many rounds; those of the warmup are as large a part of them."""
        warmup = min(rounds - 1, round(self.warmup_rounds * rounds / self.rounds))
        return replace(self, rounds=rounds, warmup_rounds=warmup)

    def alone(self) -> RunSettings:
        """Return the settings of the same training without a federation: as many epochs, in rounds of about one.

        So nothing holds such a baseline back that only a federation needs: no server's optimiser comes after it, and a
        momentum that the server would keep is the training's own.
        """
        epochs = self.rounds * self.training.local_epochs
        rounds = min(_MOST_ROUNDS, max(1, round(epochs)))
        return replace(
            self.lasting(rounds),
            training=replace(self.training, local_epochs=epochs / rounds, momentum=self.momentum),
            server=ServerSettings(),
        )

    def _lr_factor(self, round_number: int) -> float:
        if round_number <= self.warmup_rounds:
            return round_number / (self.warmup_rounds + 1)
        done = (round_number - 1 - self.warmup_rounds) / max(1, self.rounds - self.warmup_rounds)
        if self.lr_schedule == "cosine":
            return _LEAST_LR + (1 - _LEAST_LR) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        if self.lr_schedule == "step":
            return 0.1 ** sum(done >= moment for moment in _STEPS)
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `run_settings_from` reads them back."""
        return asdict(self) | {"classes": list(self.classes), "pre": list(self.pre)}

    def differences(self, other: RunSettings) -> list[str]:
        """Return one `name: ours, not theirs` for every setting in which the two differ."""
        return [
            f"{item.name}: {getattr(self, item.name)}, not {getattr(other, item.name)}"
            for item in fields(self)
            if getattr(self, item.name) != getattr(other, item.name)
        ]


RESUMABLE = frozenset({"rounds", "reputation_window", "quarantine", "early_stop"})
"""Settings that may change when a run goes on: more rounds; whom the operator shuts out, or lets in again."""

_MOST_ROUNDS = 100_000
_MEMORIES = 5 - 1e-9  # of a server's momentum that a run lasts at least; 50 rounds of 1 - 0.9 are not quite 5
_LEAST_LR = 0.01  # of the full learning rate, at the end of a cosine
_STEPS = (0.5, 0.75)  # of the run: where `step` divides the learning rate by ten


def run_settings_from(stored: dict[str, Any]) -> RunSettings:
    """Rebuild settings from `RunSettings.to_dict()`; raises `BadInput` when a key is missing, unknown or invalid."""
    try:
        training = TrainingSettings(**stored["training"])
        server = ServerSettings(**stored.get("server", {}))
        privacy = ClientPrivacySettings(**stored.get("client_privacy", {}))
        lists = {"classes": tuple(stored["classes"]), "pre": tuple(stored.get("pre", ()))}
        parts = {"training": training, "server": server, "client_privacy": privacy}
        return RunSettings(**(stored | parts | lists))
    except (KeyError, TypeError) as exc:
        raise BadInput("stored run settings", found=str(exc), expected="the settings of this version") from exc


def fewest_updates(byzantine: int) -> int:
    """Return how many updates Krum needs at least for its theorem: 2f + 3, or 1 where nothing is tolerated (f = 0)."""
    return 2 * byzantine + 3 if byzantine else 1


def automatic_byzantine(workers: int) -> int:
    """Return the f that `--byzantine auto` means: min((n-3)//2, max(1, n//5)) of the expected cohort, at least 0."""
    return max(0, min((workers - 3) // 2, max(1, workers // 5)))


def automatic_server_optimizer(rounds: int, momentum: float) -> str:
    """Return what `--server-optimizer auto` means: the server keeps the momentum where it is short beside the run.

    A momentum m that the server keeps remembers the last 1 / (1 - m) rounds, a fifth of the run at most. Otherwise
    sites keep it, within each round.
    """
    return "nesterov" if momentum > 0 and rounds * (1 - momentum) >= _MEMORIES else "none"


def automatic_quorum(workers: int, byzantine: int) -> int:
    """Return the default quorum: two thirds of the cohort, and never below what Krum's condition needs."""
    return min(workers, max(fewest_updates(byzantine), math.ceil(workers * 2 / 3)))


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """A hospital's own differential privacy: what all its updates together may spend, of all runs."""

    epsilon: float
    delta: float
    clip: float = 1.0  # the largest norm of one scan's gradient

    def __post_init__(self) -> None:
        _require_number("--dp-epsilon", self.epsilon, low=0.0, high=1000.0, low_open=True)
        _require_number("--dp-delta", self.delta, low=0.0, high=0.1, low_open=True)
        _require_number("--dp-clip", self.clip, low=0.0, high=1e6, low_open=True)


def derived_seed(seed: int, *purpose: object) -> int:
    """Return the seed for one purpose of a run (round 3 of client1, say): 63 bits that share nothing with others."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _require_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, what, found=repr(value), expected=", ".join(choices))


def _require_number(what: str, value: float, *, low: float, high: float, low_open: bool = False) -> None:
    fits = math.isfinite(value) and low <= value <= high and not (low_open and value == low)
    bound = "more than" if low_open else "at least"
    require(fits, what, found=value, expected=f"{bound} {low:g} and at most {high:g}")


def name_and_parameters(text: str, *, option: str) -> tuple[str, dict[str, float]]:
    """Return what `NAME:KEY=NUMBER,KEY=NUMBER` says, the parameters being optional; raises `BadInput`."""
    name, colon, rest = text.partition(":")
    parameters: dict[str, float] = {}
    for item in rest.split(",") if colon else []:
        key, equals, value = item.partition("=")
        try:
            parameters[key.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not key.strip():
            raise BadInput(f"{option} {text}", found=repr(item), expected=f"{name}:NAME=NUMBER, or {name} alone")
    return name.strip(), parameters


# What commands propose for learning, chosen by experiments on the real scans of unlike sites (README, *Measured*); the
# classes' own defaults are the plain forms that these depart from.
PROPOSED_TRAINING = TrainingSettings(local_epochs=0.125, batch_size=8, learning_rate=0.01, balance="logits")
PROPOSED_ROUNDS, PROPOSED_SCHEDULE = 192, "cosine"
