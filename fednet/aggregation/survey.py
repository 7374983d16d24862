"""The first pass over a round's updates: their norms, and where they lie to each other, with digits that hold.

One pass is enough where the updates are alike. It looks again, slower, where it must: updates of a size that float32
products cannot hold, or a common row that turned out to lie far from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from fednet.aggregation.blocks import (
    are_plain,
    first_norms,
    geometry_of,
    is_far,
    median_row,
    row_norms,
    scale_for,
)
from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rows import ChosenRows, Rows
from fednet.aggregation.team import ALONE, Team


class Survey:
    """What one pass has found."""

    def __init__(self, rows: Rows, device: torch.device, *, width: int | None, team: Team) -> None:
        self._rows, self._device, self._width, self._team = rows, device, width, team
        self._centre = median_row(first_norms(rows, device))  # of a guess: the whole norms are not known yet
        self._whole, self.norms = geometry_of(rows, device, centre=self._centre, width=width, team=team)
        if not are_plain(self.norms):
            self.norms = row_norms(rows, device, width=width, team=team)

    def geometry_of(self, chosen: Sequence[int]) -> Geometry:
        """Return where some of the updates lie, all of them finite."""
        norms = self.norms[list(chosen)]
        found = replace(self._whole.only(chosen), lengths=norms)
        if are_plain(norms) and bool(found.gram.isfinite().all()) and not self._is_far(found, chosen):
            return found
        if not norms.any():
            return Geometry.of(torch.zeros(len(norms), 1))  # nobody moved: there is nothing to look at again
        rows, centre = ChosenRows(self._rows, chosen), median_row(norms)
        scale = scale_for(float(norms[centre]))
        geometry, _ = geometry_of(
            rows, self._device, centre=centre, scale=scale, norms=norms, width=self._width, team=self._team
        )
        return geometry

    def _is_far(self, found: Geometry, chosen: Sequence[int]) -> bool:
        if self._centre not in chosen:
            return True
        return is_far(list(chosen).index(self._centre), found)


def survey(rows: Rows, device: torch.device, *, width: int | None = None, team: Team = ALONE) -> Survey:
    """Look at all updates once; their norms are sums of squares, not finite where a coordinate is not."""
    return Survey(rows, device, width=width, team=team)
