"""The Merkle tree of the log (RFC 6962 section 2.1, RFC 9162 section 2.1), SHA-256.

Rules: a leaf hashes as SHA-256(0x00 || leaf), a node as SHA-256(0x01 || left || right), the empty tree as SHA-256("").
The node (level, position) is the root of the complete subtree over leaves [position * 2^level, (position+1) * 2^level);
once complete it never changes, so it can be stored under that name. Proofs read O(log n) such nodes through a callback.

Words: *size* is the number of leaves, *index* counts from 0, a hash is 32 bytes. This module does not know what a leaf
says or where nodes are stored.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mass_gov.errors import InputError, IntegrityError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

GetNode = Callable[[int, int], bytes]
"""(level, position) -> the 32-byte hash of that complete subtree."""


class Node(NamedTuple):
    """A complete subtree: the leaves [position * 2^level, (position + 1) * 2^level) hash to `hash`."""

    level: int
    position: int
    hash: bytes


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH by its definition (RFC 6962 section 2.1): O(n), the reference that the rest is judged by."""
    if not leaf_hashes:
        return EMPTY_ROOT
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    k = _split(len(leaf_hashes))
    return node_hash(root(leaf_hashes[:k]), root(leaf_hashes[k:]))


def peaks(size: int) -> list[tuple[int, int]]:
    """(level, position) of the maximal complete subtrees of a tree of `size` leaves, from the left.

    One per 1 bit of `size`. These are the nodes from which a `Frontier` is restored.
    """
    return list(_cover(0, size))


def nodes_completed_by(index: int) -> list[tuple[int, int]]:
    """(level, position) of every subtree that the leaf at `index` completes, from level 0 up."""
    completed = []
    level, position = 0, index
    while True:
        completed.append((level, position))
        if position % 2 == 0:
            return completed
        level, position = level + 1, position // 2


class Frontier:
    """The right edge of the tree: enough to append and to know the root, in O(log n) memory and time.

    Not thread-safe; one writer owns it.
    """

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """`hashes` are those of `peaks(size)`, in that order.

        Raises:
            IntegrityError: their number or length does not fit `size`.
        """
        if len(hashes) != size.bit_count() or any(len(h) != HASH_BYTES for h in hashes):
            raise IntegrityError(f"The stored tree nodes do not fit a log of {size} leaves. Rebuild them.")
        self._size = size
        self._hashes = list(hashes)

    @classmethod
    def load(cls, size: int, get_node: GetNode) -> Frontier:
        """Restore from stored nodes."""
        return cls(size, [get_node(level, position) for level, position in peaks(size)])

    @property
    def size(self) -> int:
        """Leaves appended so far."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of `peaks(size)`: what `Frontier(size, hashes)` restores."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> list[Node]:
        """Append one leaf *hash*; returns the nodes that it completed (`nodes_completed_by`), to be stored."""
        if len(leaf) != HASH_BYTES:
            raise InputError(f"A leaf hash has {HASH_BYTES} bytes, not {len(leaf)}. Pass leaf_hash(leaf).")
        completed = []
        current = leaf
        for level, position in nodes_completed_by(self._size):
            if level > 0:
                current = node_hash(self._hashes.pop(), current)
            completed.append(Node(level, position, current))
        self._hashes.append(current)
        self._size += 1
        return completed

    def extend(self, leaves: Sequence[bytes]) -> tuple[list[bytes], dict[int, list[bytes]]]:
        """Append many leaf hashes at a time; the same as `append` for each, at a fraction of the cost.

        Returns the root after each of them, and by level the hashes of the nodes that were completed, in order of their
        position.
        """
        roots: list[bytes] = []
        nodes: dict[int, list[bytes]] = {}
        while len(roots) < len(leaves):
            left = len(leaves) - len(roots)
            # The largest complete subtree that begins here and is whole: no larger than where it begins is aligned.
            room = self._size & -self._size or left
            width = min(room, 1 << (left.bit_length() - 1))
            partial = _partial_roots(leaves[len(roots) : len(roots) + width], nodes)
            for peak in reversed(self._hashes):
                start = b"\x01" + peak
                partial = [hashlib.sha256(start + right).digest() for right in partial]
            roots += partial
            self._push(width.bit_length() - 1, nodes)
            self._size += width
        return roots, nodes

    def _push(self, level: int, nodes: dict[int, list[bytes]]) -> None:
        """Take up the newest complete subtree of a level, and merge what it completes."""
        current = nodes[level][-1]
        position = self._size >> level
        while position % 2 == 1:
            current = node_hash(self._hashes.pop(), current)
            level, position = level + 1, position // 2
            nodes.setdefault(level, []).append(current)
        self._hashes.append(current)

    def root(self) -> bytes:
        """The root over everything appended so far."""
        return _fold(self._hashes)

    def become(self, other: Frontier) -> None:
        """Take over what another one has: a batch that was tried on a copy, and held."""
        self._size, self._hashes = other.size, list(other.hashes)

    def copy(self) -> Frontier:
        """An independent copy, so that a batch can be tried and dropped."""
        return Frontier(self._size, self._hashes)


def root_at(size: int, get_node: GetNode) -> bytes:
    """The root of the first `size` leaves, from O(log n) stored nodes."""
    return _range_root(0, size, get_node)


def inclusion_proof(index: int, size: int, get_node: GetNode) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1: siblings from the leaf up to the root's child.

    Raises:
        InputError: not 0 <= index < size.
    """
    if not 0 <= index < size:
        raise InputError(f"There is no leaf {index} in a log of {size}. Ask for one below {size}.")
    path = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_range_root(middle, end, get_node))
            end = middle
        else:
            path.append(_range_root(begin, middle, get_node))
            begin = middle
    return path[::-1]


def consistency_proof(old: int, new: int, get_node: GetNode) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty when `old` is 0 or equals `new`.

    Raises:
        InputError: not 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise InputError(f"A log of {new} leaves has no earlier size {old}. Ask for one up to {new}.")
    if old in (0, new):
        return []
    path = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_range_root(middle, end, get_node))
            end = middle
        else:
            path.append(_range_root(begin, middle, get_node))
            begin, whole = middle, False
    if not whole:
        path.append(_range_root(begin, end, get_node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> None:
    """RFC 9162 section 2.1.3.2: the leaf with hash `leaf` stands at `index` under the root `expected`.

    Raises:
        IntegrityError: it does not.
    """
    if not 0 <= index < size:
        raise _refuse(f"there is no leaf {index} in a log of {size}")
    fn, sn, current = index, size - 1, leaf
    for sibling in _hashes(proof):
        if sn == 0:
            raise _refuse("the inclusion proof is too long")
        if fn & 1 or fn == sn:
            current = node_hash(sibling, current)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            current = node_hash(current, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or not hmac.compare_digest(current, expected):
        raise _refuse(f"leaf {index} is not under this root of {size} leaves")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """RFC 9162 section 2.1.4.2: the tree of `old` leaves is a prefix of the tree of `new` leaves.

    Raises:
        IntegrityError: it is not: history between the two heads was rewritten, or the proof is another's.
    """
    if not 0 <= old <= new:
        raise _refuse(f"a log of {new} leaves cannot extend one of {old}")
    if old in (0, new):
        wanted = EMPTY_ROOT if old == 0 else new_root
        if proof or not hmac.compare_digest(old_root, wanted):
            raise _refuse(f"the heads at {old} and {new} do not agree")
        return
    first, second = _walk_consistency(old, new, proof, old_root)
    if not (hmac.compare_digest(first, old_root) and hmac.compare_digest(second, new_root)):
        raise _refuse(f"the log of {new} leaves does not extend the log of {old}")


def _walk_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    path = list(_hashes(proof))
    if old & (old - 1) == 0:  # the old tree is one complete subtree: its root starts the path
        path.insert(0, old_root)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if not path:
        raise _refuse("the consistency proof is empty")
    first = second = path[0]
    for sibling in path[1:]:
        if sn == 0:
            raise _refuse("the consistency proof is too long")
        if fn & 1 or fn == sn:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise _refuse("the consistency proof is too short")
    return first, second


def _hashes(proof: Sequence[bytes]) -> Sequence[bytes]:
    if any(len(h) != HASH_BYTES for h in proof):
        raise _refuse("a proof holds something that is not a hash")
    return proof


def _partial_roots(leaves: Sequence[bytes], nodes: dict[int, list[bytes]]) -> list[bytes]:
    """Roots of the first 1, 2, ... of 2^k leaves; the complete subtrees among them are added to `nodes`, by level."""
    level = 0
    nodes.setdefault(0, []).extend(leaves)
    halves = [[leaf] for leaf in leaves]
    while len(halves) > 1:
        level += 1
        for left, right in zip(halves[::2], halves[1::2], strict=True):
            start = b"\x01" + left[-1]
            left += [hashlib.sha256(start + one).digest() for one in right]
        halves = halves[::2]
        nodes.setdefault(level, []).extend(half[-1] for half in halves)
    return halves[0]


def _split(size: int) -> int:
    """The largest power of two below `size` (>= 2): where RFC 6962 splits a tree."""
    return 1 << ((size - 1).bit_length() - 1)


def _cover(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The maximal complete subtrees of [begin, end), left to right; `begin` is a split point, hence aligned."""
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield level, begin >> level
        begin += 1 << level


def _range_root(begin: int, end: int, get_node: GetNode) -> bytes:
    return _fold([get_node(level, position) for level, position in _cover(begin, end)])


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    current = hashes[-1]
    for left in reversed(hashes[:-1]):
        current = node_hash(left, current)
    return current


def _refuse(why: str) -> IntegrityError:
    return IntegrityError(f"The log's proof does not hold: {why}. Compare with a checkpoint kept elsewhere.")
