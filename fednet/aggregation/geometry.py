"""What most rules need to know of the updates: how n points and the origin lie to each other, without coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Geometry:
    """n updates and the origin as points of a space: the Gram matrix of all, taken from a common row.

    Distances do not depend on that row, and keep the digits that it was chosen to keep. Any combination of the points
    whose coefficients sum to 1 is a point again, and what is left over falls to the origin: so rules and what goes
    before them compose without looking at the updates again.
    """

    gram: torch.Tensor  # (n + 1, n + 1) float64; the last point is the origin
    lengths: torch.Tensor | None = None  # (n,) float64: norms that were summed by themselves; None: mixed of several

    @staticmethod
    def about(products: torch.Tensor, norms: torch.Tensor, *, centre: int) -> Geometry:
        """Build it from the products  # (n, n) float64 of all x_i - x_c, and all norms  # (n,) float64.

        Where the origin lies follows from the norms: so they are kept exactly, even of an update far smaller than x_c.
        """
        count = len(products)
        gram = torch.zeros(count + 1, count + 1, dtype=torch.float64)
        gram[:count, :count] = (products + products.T) / 2
        squares = norms.square()
        gram[-1, -1] = squares[centre]
        gram[-1, :count] = gram[:count, -1] = (products.diagonal() + squares[centre] - squares) / 2
        return Geometry(gram, norms)

    @staticmethod
    def of(points: torch.Tensor) -> Geometry:
        """Build it from the points themselves  # (n, d), in float64: for tests and small numbers."""
        exact = torch.cat([points.double(), points.new_zeros(1, points.shape[1]).double()])
        return Geometry(exact @ exact.T)

    @property
    def count(self) -> int:
        """Return n, the origin not counted."""
        return len(self.gram) - 1

    def squared_distances(self) -> torch.Tensor:
        """Return |x_i - x_j|^2 of the updates  # (n, n) float64, 0 on the diagonal and never below."""
        return self._all_squared_distances()[:-1, :-1]

    def norms(self) -> torch.Tensor:
        """Return |x_i|, the distances to the origin  # (n,) float64.

        Of a point that is mixed of several it follows from the Gram matrix, in which a small one's digits are lost
        beside a far larger common row.
        """
        if self.lengths is not None:
            return self.lengths
        return self._all_squared_distances()[-1, :-1].sqrt()

    def products(self) -> torch.Tensor:
        """Return the inner products <x_i, x_j> about the origin  # (n, n) float64."""
        gram = self.gram
        return (gram - gram[-1] - gram[:, -1:] + gram[-1, -1])[:-1, :-1]

    def distances_to(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Return |x_i - v| for the point v = sum_j coefficients[j] x_j  # (n,) float64."""
        place = _affine(coefficients[None])[0]
        moved = torch.eye(len(self.gram), dtype=torch.float64)[:-1] - place
        return ((moved @ self.gram) * moved).sum(dim=1).clamp(min=0.0).sqrt()

    def mixed(self, weights: torch.Tensor) -> Geometry:
        """Return the geometry of the points weights @ updates; `weights`  # (m, n) float64."""
        affine = _affine(weights)
        whole = torch.cat([affine, torch.eye(len(self.gram), dtype=torch.float64)[-1:]])
        is_scaled = bool(((weights != 0).sum(dim=1) <= 1).all())  # each point is one update, times a factor
        lengths = weights.abs() @ self.lengths if is_scaled and self.lengths is not None else None
        return Geometry(whole @ self.gram @ whole.T, lengths)

    def only(self, chosen: Sequence[int]) -> Geometry:
        """Return the geometry of some updates, in this order."""
        kept = [*chosen, self.count]
        lengths = None if self.lengths is None else self.lengths[list(chosen)]
        return Geometry(self.gram[kept][:, kept], lengths)

    def _all_squared_distances(self) -> torch.Tensor:
        squares = self.gram.diagonal()
        distances = (squares[:, None] + squares[None, :] - 2 * self.gram).clamp_(min=0.0)
        return distances.fill_diagonal_(0.0)


def _affine(weights: torch.Tensor) -> torch.Tensor:
    """Return weights over the points and the origin  # (m, n + 1), each row summing to 1."""
    return torch.cat([weights, 1.0 - weights.sum(dim=1, keepdim=True)], dim=1)
