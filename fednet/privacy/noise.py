"""Gaussian noise that nobody can draw again: from the machine's own entropy, by a stream cipher.

Never from the run's seed: hospitals know it, and whoever can draw the noise again subtracts it. Nor from torch's
generator, whatever it is seeded with: that is a Mersenne twister, whose state follows from numbers it has given, and a
hospital that colludes with all others but one knows a noised step but for one update. So 256 bits of `secrets` are the
key of ChaCha20 (RFC 8439), whose keystream is turned into normal numbers by Box and Muller in float64.

Each is the sum of four, halved: what floating-point numbers leave out gives a single one away in its last bits
(Mironov, "On Significance of the Least Significant Bits for Differential Privacy", CCS 2012), and undoing a sum of four
takes too long to be done (Holohan, Braghin, "Secure Random Sampling in Differential Privacy", ESORICS 2021; as Opacus
does in its secure mode).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

Bits = Callable[[int], bytes]
"""Returns so many random bytes, the next ones each time."""

_BLOCK = 2**18  # coordinates at once: 32 MB of float64 beside the step
_SUMMED = 4


def noised(step: torch.Tensor, deviation: float, *, bits: Bits | None = None) -> torch.Tensor:
    """Return step + noise  # (d,) float32, on the CPU; the noise has this standard deviation on each coordinate.

    It is added in float64. `bits` is for tests: where randomness comes from.
    """
    bits = bits or keystream()
    total = torch.empty(step.shape, dtype=torch.float32)
    for start in range(0, len(step), _BLOCK):
        part = step[start : start + _BLOCK].cpu().double()
        noise = torch.from_numpy(sum_of_normals(len(part), bits))
        total[start : start + _BLOCK] = part + deviation * noise
    return total


def keystream() -> Bits:
    """Return a source of random bytes under a key that is drawn now and kept by nobody."""
    cipher = Cipher(algorithms.ChaCha20(secrets.token_bytes(32), bytes(16)), mode=None).encryptor()
    return lambda count: cipher.update(bytes(count))


def sum_of_normals(count: int, bits: Bits) -> npt.NDArray[np.float64]:
    """Return standard normal numbers  # (count,), each half the sum of four."""
    drawn = _normals(_SUMMED * count, bits).reshape(_SUMMED, count)
    total: npt.NDArray[np.float64] = drawn.sum(axis=0) / np.sqrt(_SUMMED)
    return total


def _normals(count: int, bits: Bits) -> npt.NDArray[np.float64]:
    """Return standard normal numbers (Box, Muller 1958)  # (count,), count even."""
    whole = np.frombuffer(bits(8 * count), dtype="<u8")
    uniform = ((whole >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # more than 0 and less than 1
    radius = np.sqrt(-2.0 * np.log(uniform[: count // 2]))
    angle = 2.0 * np.pi * uniform[count // 2 :]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
