"""Lossless packing: blocks of 1 MiB, their bytes sorted into planes (all first bytes, all second ...), then Zstandard.

Trained weights hardly compress as they lie; their sign-and-exponent bytes side by side do. Each block is a big-endian
uint32 length and one Zstandard frame (RFC 8878), so that a block can be unpacked with no more memory than it may take.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import torch
import zstandard

from fednet.errors import RemoteProtocolError

BLOCK_BYTES = 2**20
_LEVEL = 3
_LENGTH = struct.Struct("!I")
_SLACK = 1024  # Zstandard adds at most a 256th and some dozens of bytes to what cannot be packed


def most_bytes(nbytes: int) -> int:
    """Return the largest size that `nbytes` bytes can be packed to."""
    return sum(_LENGTH.size + size + size // 256 + _SLACK for size in _block_sizes(nbytes))


def packed(data: torch.Tensor, *, item_bytes: int) -> torch.Tensor:
    """Return `data`  # (n,) uint8, made of numbers of `item_bytes` bytes, packed  # (m,) uint8."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    source, out, start = data.numpy(), bytearray(), 0
    for size in _block_sizes(len(source)):
        frame = compressor.compress(_shuffled(source[start : start + size], item_bytes))
        out += _LENGTH.pack(len(frame)) + frame
        start += size
    return torch.frombuffer(out, dtype=torch.uint8) if out else torch.empty(0, dtype=torch.uint8)


def unpacked(data: torch.Tensor, *, nbytes: int, item_bytes: int) -> torch.Tensor:
    """Return the `nbytes` bytes  # (nbytes,) uint8 that were packed; never makes more of them.

    Raises `RemoteProtocolError` when `data` is anything else than their packed form.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=2 * BLOCK_BYTES)
    source, out, start, at = data.numpy().data, np.empty(nbytes, dtype=np.uint8), 0, 0
    for size in _block_sizes(nbytes):
        if len(source) - at < _LENGTH.size:
            raise RemoteProtocolError(f"packed data ends after {start} of {nbytes} bytes")
        (length,) = _LENGTH.unpack(source[at : at + _LENGTH.size])
        at += _LENGTH.size
        block = _unpacked_block(decompressor, source[at : at + length], size)
        out[start : start + size] = _unshuffled(block, item_bytes)
        start, at = start + size, at + length
    if at != len(source):
        raise RemoteProtocolError(f"packed data has {len(source)} bytes, its blocks {at}")
    return torch.from_numpy(out)


def _unpacked_block(decompressor: zstandard.ZstdDecompressor, frame: memoryview, size: int) -> np.ndarray:
    try:
        announced = zstandard.frame_content_size(frame)
        if announced != size:  # checked first: the library allocates what a frame announces
            raise RemoteProtocolError(f"packed block announces {announced} bytes, must have {size}")
        block = decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise RemoteProtocolError(f"packed block cannot be read: {exc}") from exc
    return np.frombuffer(block, dtype=np.uint8)


def _block_sizes(nbytes: int) -> Iterator[int]:
    return (min(BLOCK_BYTES, nbytes - start) for start in range(0, nbytes, BLOCK_BYTES))


def _shuffled(block: np.ndarray, item_bytes: int) -> bytes:
    whole = len(block) // item_bytes * item_bytes
    return block[:whole].reshape(-1, item_bytes).T.tobytes() + block[whole:].tobytes()


def _unshuffled(block: np.ndarray, item_bytes: int) -> np.ndarray:
    whole = len(block) // item_bytes * item_bytes
    return np.concatenate([block[:whole].reshape(item_bytes, -1).T.reshape(-1), block[whole:]])
