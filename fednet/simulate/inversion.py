"""Scans rebuilt from an update: what a curious coordinator makes of one step on a tiny batch, with what it has anyway.

It knows the model that it sent; a step of plain SGD sends the gradient back, times minus the learning rate. The
gradient of a layer's weights is D' U  # (outputs, patch): each row mixes the patches U that the layer saw, one for
each place of its output in each scan. So the rows span what the patches span, or part of it where there are fewer rows
(Dimitrov et al., "SPEAR: Exact Gradient Inversion of Batches in Federated Learning", NeurIPS 2024, for fully connected
layers; a convolution is one that sees patches). Sought are images whose own patches span it too: that takes forward
passes of the first layers only, and no label. They are sought as by Geiping et al. ("Inverting Gradients: How easy is
it to break privacy in federated learning?", NeurIPS 2020): Adam by the signs of the gradient, and few edges (total
variation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fednet.errors import BadInput
from fednet.tensors import Manifest, parameters_of, views

AsInput = Callable[[torch.Tensor], torch.Tensor]
"""Turns grey images of 0 to 1  # (b, 1, s, s) into what the model takes."""

_UNEVEN = 0.02  # noise on the start, or the images of a batch would stay alike
_RIDGE = 1e-9  # of the patches' mean square: alike patches, of a black edge, span less than their number


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard it is tried."""

    steps: int = 300  # of a try
    tries: int = 2  # at most, from other noise: as many as it takes to find enough; the best one counts
    first_step: float = 0.2  # of grey, on each pixel; falls to nothing along a cosine
    smoothness: float = 0.01  # what an image costs whose neighbours all differ by 1
    enough: float = 3e-4  # a mismatch at which there is nothing more to find


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What was found."""

    images: torch.Tensor  # (b, 1, s, s) float32, 0 to 1, in any order
    mismatch: float  # share of what the gradient's rows span that the images' patches do not; the attacker sees it


@dataclass(frozen=True, kw_only=True)
class _Layer:
    module: nn.Conv2d | nn.Linear
    span: torch.Tensor  # (k, patch) float64, orthonormal: what the gradient's rows span


def gradient_in(update: torch.Tensor, manifest: Manifest, *, learning_rate: float) -> dict[str, torch.Tensor]:
    """Return the gradient that one step of SGD without momentum sent as this update (uint8 flat), by parameter."""
    gradient = update.clone()
    parameters_of(gradient, manifest).div_(-learning_rate)
    return {spec.name: views(gradient, manifest)[spec.name] for spec in manifest.specs if spec.is_parameter}


def rebuild(
    network: nn.Module,
    gradient: Mapping[str, torch.Tensor],
    start: torch.Tensor,
    *,
    as_input: AsInput,
    effort: Effort,
    seed: int,
) -> Rebuilt:
    """Return images whose step from the model in `network` has this gradient, as far as `effort` finds them.

    `start`  # (b, 1, s, s) float32, 0 to 1: where to begin. The network is the attacker's own, and left in training.
    Raises `BadInput` where no layer tells enough of so large a batch.
    """
    network.train()
    layers = _telling(network, gradient, as_input(start))
    generator = torch.Generator().manual_seed(seed)
    found: list[Rebuilt] = []
    while len(found) < effort.tries and not any(each.mismatch < effort.enough for each in found):
        uneven = start + _UNEVEN * torch.randn(start.shape, generator=generator)
        found.append(_descended(uneven, lambda images: _mismatch(network, layers, as_input(images)), effort))
    return min(found, key=lambda each: each.mismatch)


def _descended(images: torch.Tensor, mismatch_of: Callable[[torch.Tensor], torch.Tensor], effort: Effort) -> Rebuilt:
    images.requires_grad_()
    optimiser = torch.optim.Adam([images], lr=effort.first_step)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, effort.steps)
    for _ in range(effort.steps):
        mismatch = mismatch_of(images)
        if float(mismatch.detach()) < effort.enough:
            break
        (slope,) = torch.autograd.grad(mismatch + effort.smoothness * _variation(images), images)
        images.grad = slope.sign()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(0.0, 1.0)
    with torch.no_grad():
        return Rebuilt(images=images.detach().clamp(0.0, 1.0), mismatch=float(mismatch_of(images)))


def _telling(network: nn.Module, gradient: Mapping[str, torch.Tensor], images: torch.Tensor) -> list[_Layer]:
    """Return the layers to go by: one that knows single pixels, and a later one that keeps the search from dead ends.

    The first one whose patches, of the whole batch, can span half of their space at most, and the first one with at
    least twice as many outputs as patches, so that its gradient has their whole span.
    """
    modules = {name: each for name, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    places = {
        name: len(each) for name, each in zip(modules, _patches(network, list(modules.values()), images), strict=True)
    }
    rows = {name: gradient[f"{name}.weight"].flatten(1) for name in modules}  # each (outputs, patch)
    early = next((name for name in modules if 2 * places[name] <= rows[name].shape[1]), None)
    sure = next((name for name in modules if 2 * places[name] <= rows[name].shape[0]), None)
    if early is None or sure is None:
        raise BadInput("gradient inversion", found=f"no layer that tells {len(images)} images apart", expected="fewer")
    return [_Layer(module=modules[name], span=_span(rows[name], places[name])) for name in dict.fromkeys((early, sure))]


def _span(rows: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Return what the rows of a gradient span, in as many directions at most  # (k, patch) float64, orthonormal."""
    directions: torch.Tensor = torch.linalg.svd(rows.double(), full_matrices=False)[2]
    return directions[:dimensions]


def _mismatch(network: nn.Module, layers: Sequence[_Layer], images: torch.Tensor) -> torch.Tensor:
    """Return the share of the layers' spans that lies outside of what the images' patches span; a scalar, 0 to 1."""
    seen = _patches(network, [each.module for each in layers], images)
    shares = torch.stack([1 - _covered(layer.span, own) for layer, own in zip(layers, seen, strict=True)])
    return shares.mean()


def _covered(span: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Return which share of `span`  # (k, d) the rows of `patches`  # (places, d) can combine to, 0 to 1."""
    patches = patches.double()
    products = patches @ patches.T
    ridge = _RIDGE * products.diagonal().mean().detach()
    factor = torch.linalg.cholesky(products + ridge * torch.eye(len(products)))
    onto: torch.Tensor = torch.linalg.solve_triangular(factor, patches @ span.T, upper=False)
    return onto.square().sum() / len(span)


class _Seen(Exception):
    """The last layer that matters has its input: the rest of the network need not be computed."""


def _patches(network: nn.Module, modules: Sequence[nn.Module], images: torch.Tensor) -> list[torch.Tensor]:
    """Return what each of these layers sees, place by place, of all images  # each (places, patch)."""
    inputs: dict[nn.Module, torch.Tensor] = {}

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        inputs[module] = given[0]
        if len(inputs) == len(modules):
            raise _Seen

    hooks = [each.register_forward_pre_hook(note) for each in modules]
    try:
        network(images)
    except _Seen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return [_unfolded(each, inputs[each]) for each in modules]


def _unfolded(module: nn.Module, given: torch.Tensor) -> torch.Tensor:
    if not isinstance(module, nn.Conv2d):
        return given
    padding = module.padding
    assert not isinstance(padding, str), "our architectures pad by numbers"
    patches = functional.unfold(given, module.kernel_size, padding=padding, stride=module.stride)  # (b, patch, places)
    return patches.transpose(1, 2).flatten(0, 1)


def _variation(images: torch.Tensor) -> torch.Tensor:
    """Return by how much neighbours differ on average, down and across (Rudin, Osher & Fatemi 1992)."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()
