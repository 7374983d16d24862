"""A screen for copies: of updates that are the same but for a factor and a little noise, one counts, the rest do not.

Distance of two updates: |x / |x| - y / |y||, their distance once both have norm 1 (0: the same direction; the square
root of 2: at right angles). Training on different scans never gives nearly the same update, whatever its size, so in a
group of g of them at least g - 1 were not trained: that many are rejected, and n and f fall by as much. One of the
group may be an honest hospital that was copied (TLS hides its update from others, but not from whoever runs both ends),
so the first by name counts, once, and all are named. Groups are closed: a copy of a copy belongs to them.

Why 0.005: on phantoms (32 pixels, three rounds, 4 or 6 hospitals with the same share of each class) the nearest two of
a round were 0.56 apart after an epoch of small-cnn in batches of 16 over 36 scans. Where every hospital takes a single
step over all of its scans they were 0.10 apart with 270 scans each and 0.056 with 900 (it falls with the root of the
scans in a step), and with resnet18-gn 0.071 at 72. Rounding to bf16 moves an update by 0.0016. A copier that adds more
noise is not found: what is left of it is for the rule; nor is a copy after int8 rounding, whose error is larger. Groups
that count once are in the spirit of Fung, Yoon, Beschastnikh, "The Limitations of Federated Learning in Sybil Settings"
(FoolsGold), RAID 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Screen, Screened
from fednet.errors import BadInput

WITHIN = 0.005
_FINEST = 0.001  # what float32 products tell apart, with a margin


def similarity(*, within: float = WITHIN) -> Screen:
    """Return the screen; `within` is the distance up to which two updates are the same."""
    if not _FINEST <= within <= 0.5:
        raise BadInput("within of similarity", found=f"{within:g}", expected=f"{_FINEST:g} to 0.5")

    def look(geometry: Geometry, names: Sequence[str], byzantine: int) -> Screened:
        distances = directional_distances(geometry)
        groups = groups_within(distances, within)
        rejected, remarks = {}, {}
        for group in groups:
            first = min(group, key=lambda place: names[place])
            remarks[first] = f"the same update came from {_named(names, group, without=first)}"
            for place in group:
                if place != first:
                    others = _named(names, group, without=place)
                    nearest = min(float(distances[place, other]) for other in group if other != place)
                    rejected[place] = f"same update as {others}'s (distance {nearest:.1g}): it counts once"
        return Screened(rejected=rejected, remarks=remarks, note=_note(groups, names, byzantine, len(rejected)))

    return Screen(name="similarity", look=look)


def directional_distances(geometry: Geometry) -> torch.Tensor:
    """Return | x_i / |x_i| - x_j / |x_j| |  # (n, n) float64; infinite where one of them is 0, which is no copy."""
    norms = geometry.norms()
    scales = norms[:, None] * norms[None, :]
    squares = (geometry.squared_distances() - (norms[:, None] - norms[None, :]) ** 2).clamp(min=0.0)
    return torch.where(scales > 0, squares / scales, torch.inf).sqrt()


def groups_within(distances: torch.Tensor, within: float) -> list[list[int]]:
    """Return the groups of two and more that hang together by distances up to `within`, each in order."""
    left, groups = list(range(len(distances))), []
    while left:
        group, reached = [], [left[0]]
        while reached:
            place = reached.pop()
            left.remove(place)
            group.append(place)
            reached += [each for each in left if each not in reached and float(distances[place, each]) <= within]
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def _named(names: Sequence[str], group: Sequence[int], *, without: int) -> str:
    return ", ".join(sorted(names[place] for place in group if place != without))


def _note(groups: Sequence[Sequence[int]], names: Sequence[str], byzantine: int, rejected: int) -> str:
    all_of = [", ".join(sorted(names[place] for place in group)) for group in groups]
    notes = [f"{each} sent the same update: one counts" for each in all_of]
    if rejected > byzantine:
        notes.append(f"copies: {rejected}, more than f = {byzantine}, beyond the guarantee of any rule")
    return "; ".join(notes)
