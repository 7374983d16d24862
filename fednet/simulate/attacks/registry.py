"""All attacks by name and parameters: the names of `simulate --attack` and `worker join --attack`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fednet.config import name_and_parameters
from fednet.errors import BadInput
from fednet.simulate.attacks.backdoor import backdoor
from fednet.simulate.attacks.batch_norm import bn_stats
from fednet.simulate.attacks.colluders import colluders
from fednet.simulate.attacks.fang import fang
from fednet.simulate.attacks.inner_product import ipm
from fednet.simulate.attacks.label_flip import label_flip, sample_lies
from fednet.simulate.attacks.little import alie
from fednet.simulate.attacks.mimic import mimic
from fednet.simulate.attacks.min_max import min_max, min_sum
from fednet.simulate.attacks.own_update import free_rider, inf, nan, noise, scaling, sign_flip, zero
from fednet.simulate.attacks.sight import Attack


class Limits(NamedTuple):
    """What a parameter may be, both ends included: far beyond any use, and short of float32 overflowing."""

    low: float
    high: float
    is_whole: bool = False

    def allow(self, value: float) -> bool:
        """Whether `value` is one of them; NaN is none."""
        return self.low <= value <= self.high and (not self.is_whole or value == int(value))

    def __str__(self) -> str:
        return f"{'a whole number from ' if self.is_whole else ''}{self.low:g} to {self.high:g}"


class Offer(NamedTuple):
    """How an attack is made, and what may be asked of it."""

    make: Callable[..., Attack]
    parameters: Mapping[str, Limits]
    needs_classes: bool = False


FACTOR = Limits(1e-6, 1e6)

_OFFERS: dict[str, Offer] = {
    "sign-flip": Offer(sign_flip, {"scale": FACTOR}),
    "scaling": Offer(scaling, {"factor": FACTOR}),
    "noise": Offer(noise, {"scale": FACTOR}),
    "zero": Offer(zero, {}),
    "nan": Offer(nan, {}),
    "inf": Offer(inf, {}),
    "label-flip": Offer(label_flip, {}, needs_classes=True),
    "ipm": Offer(ipm, {"scale": FACTOR}),
    "alie": Offer(alie, {"z": Limits(-100.0, 100.0)}),
    "mimic": Offer(mimic, {}),
    "min-max": Offer(min_max, {}),
    "min-sum": Offer(min_sum, {}),
    "fang": Offer(fang, {}),
    "backdoor": Offer(
        backdoor,
        {"factor": FACTOR, "share": Limits(0.01, 1.0), "target": Limits(0, 1000, is_whole=True)},
        needs_classes=True,
    ),
    "free-rider": Offer(free_rider, {"noise": Limits(0.0, 100.0)}),
    "colluders": Offer(colluders, {}),
    "bn-stats": Offer(bn_stats, {"shift": Limits(-1e6, 1e6), "factor": FACTOR}),
    "sample-lies": Offer(sample_lies, {"factor": Limits(1.0, 1e9)}, needs_classes=True),
}

ATTACKS: tuple[str, ...] = tuple(_OFFERS)


def attack_named(text: str, *, option: str = "--attack", classes: int = 4) -> Attack:
    """Return the attack that `NAME` or `NAME:KEY=NUMBER,...` asks for, on data of so many classes.

    Raises `BadInput` for a name or parameter there is not, with those there are, and for a value that makes no sense.
    """
    name, parameters = name_and_parameters(text, option=option)
    offer = _OFFERS.get(name)
    if offer is None:
        raise BadInput(f"{option} {name}", found="no such attack", expected=", ".join(ATTACKS))
    for key, value in parameters.items():
        _check(f"{option} {text}", key, value, offer.parameters, alone=name)
    if offer.needs_classes:
        return offer.make(text.strip(), classes=classes, **parameters)
    return offer.make(text.strip(), **parameters)


def _check(what: str, key: str, value: float, known: Mapping[str, Limits], *, alone: str) -> None:
    if key not in known:
        raise BadInput(what, found=f"no parameter {key}", expected=", ".join(known) or f"{alone} alone")
    if not known[key].allow(value):
        raise BadInput(what, found=f"{key}={value:g}", expected=f"{key} {known[key]}")
