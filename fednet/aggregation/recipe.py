"""A recipe: pre-aggregation, one after another, and then a rule."""

from __future__ import annotations

from dataclasses import dataclass

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Mixing, Plan, Rule


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a round's updates become one step."""

    rule: Rule
    mixings: tuple[Mixing, ...] = ()

    @property
    def name(self) -> str:
        """Return for example `nnm+multikrum`."""
        return "+".join([*(mixing.name for mixing in self.mixings), self.rule.name])

    def shortfall(self, count: int, byzantine: int) -> str | None:
        """Return why `count` updates are too few for f, or None."""
        parts: tuple[Mixing | Rule, ...] = (*self.mixings, self.rule)
        for part in parts:
            if count < part.needs(byzantine):
                return f"{part.name} needs {part.needs(byzantine)} updates for f = {byzantine}, there are {count}"
            if isinstance(part, Mixing):
                count = part.points(count)
        return None

    def fewest(self, byzantine: int) -> int:
        """Return how many updates are enough for f."""
        count = 1
        while self.shortfall(count, byzantine) is not None:
            count += 1
        return count

    def tolerated(self, count: int, *, most: int, least: int = 0) -> int:
        """Return the largest f from `least` to `most` that `count` updates are enough for; `least` if none is."""
        byzantine = most
        while byzantine > least and self.shortfall(count, byzantine):
            byzantine -= 1
        return byzantine

    def plan(self, geometry: Geometry, context: Context) -> Plan:
        """Return how the step is made of the updates."""
        if not self.mixings:
            return self.rule.plan(geometry, context)
        first, rest = self.mixings[0], Recipe(rule=self.rule, mixings=self.mixings[1:])
        weights = first.weights(geometry, context)
        return rest.plan(geometry.mixed(weights), context.mixed(weights)).after(weights)
