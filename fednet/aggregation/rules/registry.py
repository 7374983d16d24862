"""All rules and all pre-aggregation by name: the names of `--aggregator` and `--pre`, and of `simulate`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from fednet.aggregation.mixings.arc import arc
from fednet.aggregation.mixings.bucketing import bucketing
from fednet.aggregation.mixings.nnm import nnm
from fednet.aggregation.mixings.norm_clipping import norm_clipping
from fednet.aggregation.recipe import Recipe
from fednet.aggregation.rules.bulyan import bulyan
from fednet.aggregation.rules.centered_clipping import centered_clipping
from fednet.aggregation.rules.coordinate_median import coordinate_median
from fednet.aggregation.rules.cosine_filter import cosine_filter
from fednet.aggregation.rules.fedavg import fedavg
from fednet.aggregation.rules.fltrust import fltrust
from fednet.aggregation.rules.geometric_median import geometric_median
from fednet.aggregation.rules.guarded import guarded_multikrum
from fednet.aggregation.rules.krum import krum
from fednet.aggregation.rules.learned_weights import learned_weights
from fednet.aggregation.rules.multikrum import multikrum
from fednet.aggregation.rules.rule import Mixing, Rule, Screen
from fednet.aggregation.rules.tournament import tournament
from fednet.aggregation.rules.trimmed_mean import trimmed_mean
from fednet.aggregation.similarity import similarity
from fednet.config import name_and_parameters
from fednet.errors import BadInput

Made = TypeVar("Made")

RULES: dict[str, Callable[..., Rule]] = {
    "multikrum": multikrum,
    "krum": krum,
    "fedavg": fedavg,
    "geometric-median": geometric_median,
    "centered-clipping": centered_clipping,
    "fltrust": fltrust,
    "median": coordinate_median,
    "trimmed-mean": trimmed_mean,
    "bulyan": bulyan,
    "guarded-multikrum": guarded_multikrum,
    "cosine-filter": cosine_filter,
    "learned-weights": learned_weights,
    "tournament": tournament,
}
MIXINGS: dict[str, Callable[..., Mixing]] = {
    "nnm": nnm,
    "bucketing": bucketing,
    "norm-clipping": norm_clipping,
    "arc": arc,
}
SCREENS: dict[str, Callable[..., Screen]] = {"similarity": similarity}


def recipe_named(aggregator: str, pre: Sequence[str] = ()) -> Recipe:
    """Return the recipe of these names, each `NAME` or `NAME:KEY=NUMBER,...`; raises `BadInput` with those there are.

    `pre` may also stand before the rule, as in `arc+nnm+trimmed-mean`. Rules that try models take screens alone. A
    screen looks at the updates as they came, so it comes first wherever it is named.
    """
    *before, last = re.split(r"\+(?=[a-z])", aggregator)  # not that of 1e+06
    rule = _made(RULES, last, option="--aggregator")
    known: Mapping[str, Callable[..., Mixing | Screen]] = {**MIXINGS, **SCREENS}
    steps = [_made(known, text, option="--pre") for text in (*pre, *before)]
    mixings = tuple(each for each in steps if isinstance(each, Mixing))
    screens = tuple(each for each in steps if isinstance(each, Screen))
    if mixings and rule.tries_models:
        raise BadInput(
            f"--pre {mixings[0].name}",
            found=f"{rule.name}, which tries models made of the updates themselves",
            todo="leave it out",
        )
    return Recipe(rule=rule, mixings=mixings, screens=screens)


def _made(known: Mapping[str, Callable[..., Made]], text: str, *, option: str) -> Made:
    name, parameters = name_and_parameters(text, option=option)
    if name not in known:
        raise BadInput(f"{option} {name}", found="no such name", expected=", ".join(known))
    accepted = list(inspect.signature(known[name]).parameters)
    unknown = [key for key in parameters if key not in accepted]
    if unknown:
        raise BadInput(
            f"{option} {text}", found=f"no parameter {unknown[0]}", expected=", ".join(accepted) or f"{name} alone"
        )
    return known[name](**parameters)
