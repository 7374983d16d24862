"""What every rule is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from fednet.aggregation.blocks import Reduction
from fednet.aggregation.geometry import Geometry

WEIGHT_CAP = 2.0  # times the median claim: a sample count is a worker's word, and a lie must not buy the round


@dataclass(frozen=True)
class Root:
    """The coordinator's own update, trained on scans it labelled itself (Cao et al., FLTrust, NDSS 2021)."""

    products: torch.Tensor  # (n,) float64: <x_i, root> of every update
    norm: float

    def only(self, chosen: Sequence[int]) -> Root:
        """Return the root as some of the updates see it, in this order."""
        return replace(self, products=self.products[list(chosen)])

    def cosines(self, geometry: Geometry) -> torch.Tensor:
        """Return the cosine of every update to the root update  # (n,) float64; 0 where one of them is 0."""
        scale = geometry.norms() * self.norm
        return torch.where(scale > 0, self.products / scale, 0.0).clamp(-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a rule may know beside where the updates lie."""

    byzantine: int  # f, after faulty updates were taken out
    claims: torch.Tensor  # (n,) float64: samples as the workers claim
    seed: int = 0  # decides what a rule draws at random
    root: Root | None = None
    trial: Callable[[Plan], float] | None = None  # loss on the coordinator's own scans of the model that a plan makes
    slopes: Callable[[Plan], torch.Tensor] | None = None  # (n,) float64: how that loss grows with each coefficient

    def mixed(self, weights: torch.Tensor) -> Context:
        """Return what is known of the points weights @ updates; without trial and slopes, which are of the updates."""
        shares = weights / weights.sum(dim=1, keepdim=True)  # a clipped update claims what it claimed before
        root = self.root and replace(self.root, products=weights @ self.root.products)
        return replace(self, claims=shares @ self.claims, root=root, trial=None, slopes=None)


def context_of(count: int, *, byzantine: int, root: Root | None = None) -> Context:
    """Return a context in which all of `count` updates claim as many samples."""
    return Context(byzantine=byzantine, claims=torch.ones(count, dtype=torch.float64), root=root)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the step is made of the updates: m combinations of them, reduced to one."""

    weights: torch.Tensor  # (m, n) float64
    unshrunk: torch.Tensor | None = None  # (m, n) float64: the weights before any update was shrunk; None: none was
    kept: torch.Tensor | None = None  # (n,) float64: the share of its norm that each update kept; None: nothing shrinks
    reduce: Reduction | None = None  # coordinate by coordinate over the m; None: m is 1, the combination is the step
    selected: tuple[int, ...] | None = None  # best first, where the rule takes some whole and leaves out the others
    scores: torch.Tensor | None = None  # (n,) float64, lower is better; of a rule that ranks
    note: str = ""  # for the round's record: what the rule decided beside

    def after(self, mixing: torch.Tensor) -> Plan:
        """Return the plan in terms of the updates that were mixed to the points it was made for.

        `mixing`  # (points, updates). A point is many workers' then: nobody is taken whole any more.
        """
        unshrunk = self.weights if self.unshrunk is None else self.unshrunk
        mixed = replace(self, weights=self.weights @ mixing, selected=None, scores=None)
        if _only_shrinks(mixing):
            factors = mixing.diagonal()
            return replace(mixed, unshrunk=unshrunk, kept=factors if self.kept is None else factors * self.kept)
        note = "; ".join(filter(None, [self.note, self._shrunk_points()]))
        return replace(mixed, unshrunk=None if self.unshrunk is None else unshrunk @ mixing, kept=None, note=note)

    def _shrunk_points(self) -> str:
        """Return what was shrunk of points that are many workers', or nothing: no worker can be named for them."""
        if self.kept is None or not bool((self.kept < 1).any()):
            return ""
        count, least = int((self.kept < 1).sum()), float(self.kept.min())
        return f"{count} of {len(self.kept)} mixed updates were shrunk, one to {least:.0%} of its norm"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One aggregation rule."""

    name: str
    needs: Callable[[int], int]  # fewest updates for f
    plan: Callable[[Geometry, Context], Plan]
    needs_root: bool = False
    tries_models: bool = False  # judges models made of the updates, so nothing may be mixed before it
    tolerates: bool = True  # whether any malicious update at all


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """One pre-aggregation: turns n updates into m points, each a combination of them, before the rule."""

    name: str
    needs: Callable[[int], int]
    weights: Callable[[Geometry, Context], torch.Tensor]  # (m, n) float64
    points: Callable[[int], int] = lambda count: count  # m of n


@dataclass(frozen=True, kw_only=True)
class Screened:
    """What a screen found among n updates, by their places."""

    rejected: Mapping[int, str] = field(default_factory=dict)  # why it does not count; its sender is proved faulty
    remarks: Mapping[int, str] = field(default_factory=dict)  # of one that counts all the same
    note: str = ""  # for the round's record


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Looks at the updates as they came, before any pre-aggregation, and rejects some of them."""

    name: str
    look: Callable[[Geometry, Sequence[str], int], Screened]  # of (where they lie, workers' names, f)


def _only_shrinks(mixing: torch.Tensor) -> bool:
    """Whether every point is one update, in its place, times a factor."""
    return mixing.shape[0] == mixing.shape[1] and bool((mixing - torch.diag(mixing.diagonal()) == 0).all())


def single(coefficients: torch.Tensor) -> Plan:
    """Return the plan of one combination; `coefficients`  # (n,) float64."""
    return Plan(weights=coefficients[None])


def capped_weights(claims: torch.Tensor, selected: tuple[int, ...]) -> torch.Tensor:
    """Return each update's share of the step  # (n,) float64, summing to 1: by claimed samples, capped."""
    chosen = claims[list(selected)]
    weights = torch.zeros_like(claims)
    weights[list(selected)] = chosen.clamp(max=WEIGHT_CAP * float(chosen.median()))
    return weights / weights.sum()


def more_than_half(byzantine: int) -> int:
    """Return 2f + 1: the fewest updates among which the honest are the majority."""
    return 2 * byzantine + 1
