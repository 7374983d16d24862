"""Chance that nobody can repeat, for what differential privacy draws at a hospital: a step's scans, and its noise.

The run's seed must not decide it: whoever knows the seed could subtract the noise. Nor does `torch.Generator`: on a CPU
it takes 32 bits of its seed only, which can be tried out one by one. The bits are those of `fednet.privacy.noise`; here
they become float32, which takes a seventh of the time: a step of DP-SGD needs as many numbers as the model has weights.
"""

from __future__ import annotations

import math

import torch

from fednet.privacy.noise import keystream

_DRAWS = 4  # normal numbers that one of noise is made of
_AT_ONCE = 2**16  # numbers: what is made of them stays in a core's cache


class Entropy:
    """One stream of chance, under a key that exists nowhere else. Not for several threads at once."""

    def __init__(self) -> None:
        self._bits = keystream()

    def chosen(self, count: int, rate: float) -> torch.Tensor:
        """Return which of `count` are taken, each by itself with a chance of `rate`: ascending places  # (k,) int64."""
        return (self._words(count).long() + 2**31 < int(rate * 2**32)).nonzero().flatten()

    def seed(self) -> int:
        """Return a seed for chance that need not be secret, such as augmentation's."""
        return int(self._words(1)) + 2**31

    def noise(self, like: torch.Tensor, *, deviation: float) -> torch.Tensor:
        """Return float32 Gaussian noise of this standard deviation, of the shape and on the device of `like`.

        Each number is the sum of four normal ones, over 2, for the reason that `fednet.privacy.noise` gives.
        """
        noise = torch.empty(like.numel(), device=like.device)
        for part in torch.split(noise, _AT_ONCE):
            normal = self._normal(_DRAWS * len(part), like.device).view(_DRAWS, -1)
            torch.sum(normal, dim=0, out=part).mul_(deviation / math.sqrt(_DRAWS))
        return noise.view(like.shape)

    def _normal(self, count: int, device: torch.device) -> torch.Tensor:
        """Return standard normal numbers  # (count,) float32, an even count (Box & Muller 1958)."""
        words = self._words(count).to(device)
        first, second = words.tensor_split(2)
        uniform = ((first & 0x7FFFFFFF).float() + 0.5).mul_(2.0**-31)  # more than 0, and at most 1
        radius = uniform.log_().mul_(-2).sqrt_()
        angle = second.float().mul_(math.pi * 2.0**-31)  # from -pi to pi
        return torch.cat([radius * angle.cos(), radius * angle.sin()])

    def _words(self, count: int) -> torch.Tensor:
        """Return so many random words  # (count,) int32, on the CPU."""
        return torch.frombuffer(bytearray(self._bits(4 * count)), dtype=torch.int32)
