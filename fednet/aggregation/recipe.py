"""A recipe: screens, pre-aggregation one after another, and then a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Mixing, Plan, Rule, Screen, Screened


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a round's updates become one step."""

    rule: Rule
    mixings: tuple[Mixing, ...] = ()
    screens: tuple[Screen, ...] = ()
    is_private: bool = False  # by `private.private_recipe`: what is told of an update, but its choice, is its own

    @property
    def name(self) -> str:
        """Return for example `nnm+multikrum`."""
        return "+".join([*self.steps, self.rule.name])

    @property
    def steps(self) -> list[str]:
        """Return the names of what comes before the rule, in order."""
        return [*(screen.name for screen in self.screens), *(mixing.name for mixing in self.mixings)]

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

    def screened(self, geometry: Geometry, names: Sequence[str], byzantine: int) -> Screened:
        """Return what the screens say of updates as they came; each looks at what those before it have left."""
        rejected: dict[int, str] = {}
        remarks: dict[int, str] = {}
        notes = []
        for screen in self.screens:
            places = [place for place in range(geometry.count) if place not in rejected]
            found = screen.look(geometry.only(places), [names[place] for place in places], byzantine)
            rejected |= {places[place]: why for place, why in found.rejected.items()}
            remarks |= {places[place]: text for place, text in found.remarks.items()}
            notes.append(found.note)
        return Screened(rejected=rejected, remarks=remarks, note="; ".join(filter(None, notes)))

    def plan(self, geometry: Geometry, context: Context) -> Plan:
        """Return how the step is made of the updates."""
        if not self.mixings:
            return self.rule.plan(geometry, context)
        first, rest = self.mixings[0], replace(self, mixings=self.mixings[1:])
        weights = first.weights(geometry, context)
        return rest.plan(geometry.mixed(weights), context.mixed(weights)).after(weights)
