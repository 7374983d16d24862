"""A Merkle tree over byte strings (RFC 9162, section 2.1): one hash for all, and short proofs for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HASH_BYTES = 32


class Tree:
    """The tree over some leaves; each of its hashes is computed once."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves
        self._known: dict[tuple[int, int], bytes] = {}

    @property
    def root(self) -> bytes:
        """The tree's hash  # 32 bytes; of no leaves the hash of nothing."""
        return self._hash(0, len(self._leaves)) if self._leaves else hashlib.sha256().digest()

    def path(self, position: int) -> bytes:
        """Return the hashes, one behind the other, that lead from a leaf up to the root."""
        start, stop, hashes = 0, len(self._leaves), []
        while stop - start > 1:
            middle = start + _split(stop - start)
            if position < middle:
                hashes.append(self._hash(middle, stop))
                stop = middle
            else:
                hashes.append(self._hash(start, middle))
                start = middle
        return b"".join(reversed(hashes))

    def _hash(self, start: int, stop: int) -> bytes:
        found = self._known.get((start, stop))
        if found is None:
            middle = start + _split(stop - start)
            is_leaf = stop - start == 1
            found = (
                _leaf(self._leaves[start]) if is_leaf else _node(self._hash(start, middle), self._hash(middle, stop))
            )
            self._known[start, stop] = found
        return found


def leads_to(root: bytes, leaf: bytes, *, position: int, count: int, path: bytes) -> bool:
    """Whether `leaf` is the one at `position` of `count` in the tree of this root, as its path shows."""
    if not 0 <= position < count or len(path) % HASH_BYTES:
        return False
    sides: list[bool] = []  # from the top down: whether the leaf is in the right part
    while count > 1:
        split = _split(count)
        is_right = position >= split
        sides.append(is_right)
        position, count = (position - split, count - split) if is_right else (position, split)
    hashes = [path[start : start + HASH_BYTES] for start in range(0, len(path), HASH_BYTES)]
    if len(hashes) != len(sides):
        return False
    found = _leaf(leaf)
    for is_right, sibling in zip(reversed(sides), hashes, strict=True):
        found = _node(sibling, found) if is_right else _node(found, sibling)
    return found == root


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    """Return the largest power of two below `count`; of one leaf, 0."""
    return (1 << (count - 1).bit_length() >> 1) if count > 1 else 0
