import hashlib

import pytest

from fednet.audit.merkle import Tree, leads_to


def leaves(count: int) -> list[bytes]:
    return [f"leaf {number}".encode() for number in range(count)]


def test_roots_are_those_of_the_rfc() -> None:
    """RFC 9162, 2.1.1: written out by hand for three leaves."""

    def of(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    first, second, third = (of(b"\x00" + leaf) for leaf in leaves(3))
    assert Tree(leaves(3)).root == of(b"\x01" + of(b"\x01" + first + second) + third)
    assert Tree([]).root == of(b"")
    assert Tree(leaves(1)).root == first


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 100])
def test_every_leaf_is_proved_in_its_place_and_no_other(count: int) -> None:
    all_leaves = leaves(count)
    tree = Tree(all_leaves)
    for position, leaf in enumerate(all_leaves):
        path = tree.path(position)
        assert leads_to(tree.root, leaf, position=position, count=count, path=path)
        assert not leads_to(tree.root, leaf + b"!", position=position, count=count, path=path)
        assert not leads_to(tree.root, leaf, position=position + count, count=count, path=path)
        if count > 1:
            assert not leads_to(tree.root, leaf, position=(position + 1) % count, count=count, path=path)
            assert not leads_to(tree.root, leaf, position=position, count=count, path=path[:-1])
            assert not leads_to(tree.root, leaf, position=position, count=count, path=path[32:])


def test_a_node_is_no_leaf() -> None:
    """Without the prefixes of the RFC two hashes side by side would pass for a leaf's content."""
    both = Tree(leaves(2))
    inner = hashlib.sha256(b"\x00leaf 0").digest() + hashlib.sha256(b"\x00leaf 1").digest()
    assert not leads_to(both.root, inner, position=0, count=1, path=b"")
