"""Divides a pool of images among sites: evenly, by class (Dirichlet), or by size. Pure, and fixed by its generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fednet.errors import DataError

Partition = list[list[int]]
"""For every site the indices that it gets, ascending; no index twice, none left over."""


def partition(labels: Sequence[int], sites: int, *, scheme: str, alpha: float, rng: np.random.Generator) -> Partition:
    """Divide images with these labels among `sites`; every site gets at least one.

    `iid`: each class evenly. `dirichlet`: each class in shares drawn from Dirichlet(alpha): small alpha, different
    sites (Hsu et al. 2019). `quantity`: the class mix of all, in sizes drawn from Dirichlet(alpha). Raises `DataError`
    when there are fewer images than sites.
    """
    if len(labels) < sites:
        raise DataError(
            f"{len(labels)} training images for {sites} sites",
            expected="at least one a site, beside test, validation and twins",
            todo="lower --clients or --validation, or get more images",
        )
    drawn = _SCHEMES[scheme](sites, alpha, rng)
    places: Partition = [[] for _ in range(sites)]
    for label in sorted(set(labels)):
        members = rng.permutation([index for index, own in enumerate(labels) if own == label])
        for site, part in enumerate(np.split(members, _cuts(drawn(), len(members), rng))):
            places[site].extend(int(index) for index in part)
    _fill_empty(places)
    return [sorted(place) for place in places]


def stratified_share(labels: Sequence[int], share: float, rng: np.random.Generator) -> list[int]:
    """Return the indices of this share of every class, ascending.

    Of a class of two or more at least one is taken (unless `share` is 0) and at least one is left.
    """
    chosen: list[int] = []
    for label in sorted(set(labels)):
        members = rng.permutation([index for index, own in enumerate(labels) if own == label])
        count = min(max(round(share * len(members)), int(share > 0)), len(members) - 1)
        chosen += [int(index) for index in members[:count]]
    return sorted(chosen)


Shares = Callable[[], "np.ndarray[tuple[int], np.dtype[np.float64]]"]


def _iid(sites: int, alpha: float, rng: np.random.Generator) -> Shares:
    return lambda: np.full(sites, 1 / sites)


def _dirichlet(sites: int, alpha: float, rng: np.random.Generator) -> Shares:
    return lambda: rng.dirichlet(np.full(sites, alpha))


def _quantity(sites: int, alpha: float, rng: np.random.Generator) -> Shares:
    shares = rng.dirichlet(np.full(sites, alpha))
    return lambda: shares


_SCHEMES: dict[str, Callable[[int, float, np.random.Generator], Shares]] = {
    "iid": _iid,
    "dirichlet": _dirichlet,
    "quantity": _quantity,
}
SCHEMES = tuple(_SCHEMES)


def _cuts(shares: np.ndarray[tuple[int], np.dtype[np.float64]], count: int, rng: np.random.Generator) -> list[int]:
    """Return where to cut `count` images; the rounding's leftovers fall to random sites, not always the last."""
    exact = shares * count
    sizes = np.floor(exact).astype(int)
    leftover = count - int(sizes.sum())
    order = np.argsort(-(exact - sizes) + rng.uniform(0, 1e-6, len(sizes)))
    sizes[order[:leftover]] += 1
    return [int(cut) for cut in np.cumsum(sizes)[:-1]]


def _fill_empty(places: Partition) -> None:
    for place in places:
        if not place:
            place.append(max(places, key=len).pop())
