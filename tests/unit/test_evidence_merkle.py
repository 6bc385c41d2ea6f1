"""The tree against its definition, for every index and size up to 64; wrong proofs are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mass_gov.errors import InputError, IntegrityError
from mass_gov.evidence import merkle

SIZES = 64
LEAVES = [merkle.leaf_hash(bytes([i])) for i in range(SIZES)]
ROOTS = [merkle.root(LEAVES[:size]) for size in range(SIZES + 1)]


def _stored(leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
    frontier = merkle.Frontier()
    return {(n.level, n.position): n.hash for leaf in leaves for n in frontier.append(leaf)}


NODES = _stored(LEAVES)


def _get(level: int, position: int) -> bytes:
    return NODES[level, position]


def _spoilt(proof: list[bytes]) -> list[list[bytes]]:
    """Every way to drop, add, swap or flip one hash of a proof."""
    extra = merkle.leaf_hash(b"extra")
    ways = [[*proof, extra], [extra, *proof], [*proof, b"short"]]
    for i, value in enumerate(proof):
        ways += [proof[:i] + proof[i + 1 :], [*proof[:i], bytes([value[0] ^ 1]) + value[1:], *proof[i + 1 :]]]
    if len(proof) > 1:
        ways.append(proof[::-1])
    return ways


def test_wrong_inclusion_proofs_are_refused() -> None:
    for size in range(1, SIZES + 1):
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, _get)
            for spoilt in _spoilt(proof):
                with pytest.raises(IntegrityError):
                    merkle.verify_inclusion(LEAVES[index], index, size, spoilt, ROOTS[size])
            for claim in {(index + 1) % size, index ^ 1, size - 1 - index, size} - {index}:
                with pytest.raises(IntegrityError):
                    merkle.verify_inclusion(LEAVES[index], claim, size, proof, ROOTS[size])
            with pytest.raises(IntegrityError):
                merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size - 1])
            with pytest.raises(IntegrityError):
                merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, size, proof, ROOTS[size])


def test_wrong_consistency_proofs_are_refused() -> None:
    other = merkle.leaf_hash(b"other")
    for new in range(1, SIZES + 1):
        for old in range(1, new):
            proof = merkle.consistency_proof(old, new, _get)
            for spoilt in _spoilt(proof):
                with pytest.raises(IntegrityError):
                    merkle.verify_consistency(old, new, spoilt, ROOTS[old], ROOTS[new])
            for old_root, new_root in ((other, ROOTS[new]), (ROOTS[old], other), (ROOTS[new], ROOTS[old])):
                with pytest.raises(IntegrityError):
                    merkle.verify_consistency(old, new, proof, old_root, new_root)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    rewritten = [*LEAVES[:20], merkle.leaf_hash(b"rewritten"), *LEAVES[21:]]
    nodes = _stored(rewritten)
    for old in range(21, SIZES):
        proof = merkle.consistency_proof(old, SIZES, lambda level, position: nodes[level, position])
        with pytest.raises(IntegrityError):
            merkle.verify_consistency(old, SIZES, proof, ROOTS[old], merkle.root(rewritten))


def test_heads_that_need_no_proof_accept_none_and_must_agree() -> None:
    merkle.verify_consistency(0, 9, [], merkle.EMPTY_ROOT, ROOTS[9])
    merkle.verify_consistency(9, 9, [], ROOTS[9], ROOTS[9])
    for old, new, proof, old_root in (
        (0, 9, [LEAVES[0]], merkle.EMPTY_ROOT),
        (0, 9, [], ROOTS[1]),
        (9, 9, [LEAVES[0]], ROOTS[9]),
        (9, 9, [], ROOTS[8]),
        (9, 8, [], ROOTS[9]),
        (-1, 8, [], ROOTS[0]),
    ):
        with pytest.raises(IntegrityError):
            merkle.verify_consistency(old, new, proof, old_root, ROOTS[new])


def test_places_that_do_not_exist_are_refused() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(InputError):
            merkle.inclusion_proof(index, size, _get)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(InputError):
            merkle.consistency_proof(old, new, _get)


def test_a_frontier_that_does_not_fit_is_refused() -> None:
    with pytest.raises(IntegrityError):
        merkle.Frontier(3, [LEAVES[0]])
    with pytest.raises(IntegrityError):
        merkle.Frontier(1, [b"short"])
    with pytest.raises(InputError):
        merkle.Frontier().append(b"a leaf, not its hash")


def test_the_frontier_agrees_with_the_definition_at_every_size() -> None:
    frontier = merkle.Frontier()
    for size in range(SIZES + 1):
        assert (frontier.size, frontier.root()) == (size, ROOTS[size])
        assert merkle.root_at(size, _get) == ROOTS[size]
        assert merkle.Frontier.load(size, _get).hashes == frontier.hashes
        if size < SIZES:
            completed = frontier.append(LEAVES[size])
            assert [(n.level, n.position) for n in completed] == merkle.nodes_completed_by(size)


@pytest.mark.parametrize("size", [0, 1, 5, 63, 64, 100])
@pytest.mark.parametrize("more", [0, 1, 2, 31, 32, 65, 130])
def test_many_leaves_at_a_time_give_what_one_by_one_gives(size: int, more: int) -> None:
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(size + more)]
    one, many = merkle.Frontier(), merkle.Frontier()
    for leaf in leaves[:size]:
        one.append(leaf)
    many.extend(leaves[:size])
    nodes: dict[int, list[bytes]] = {}
    roots = []
    for leaf in leaves[size:]:
        for node in one.append(leaf):
            nodes.setdefault(node.level, []).append(node.hash)
        roots.append(one.root())
    assert many.extend(leaves[size:]) == (roots, nodes)
    assert (many.size, many.hashes) == (one.size, one.hashes)


def test_every_node_is_the_root_of_the_leaves_that_its_name_says() -> None:
    for (level, position), value in NODES.items():
        assert value == merkle.root(LEAVES[position << level : (position + 1) << level])
    assert len(NODES) == 2 * SIZES - 1


def test_a_copy_of_a_frontier_is_independent() -> None:
    frontier = merkle.Frontier.load(5, _get)
    trial = frontier.copy()
    trial.append(LEAVES[5])
    assert (frontier.root(), trial.root()) == (ROOTS[5], ROOTS[6])


@given(st.integers(1, 1 << 20), st.data())
def test_proofs_read_a_logarithmic_number_of_nodes(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    reads: list[tuple[int, int]] = []

    def get(level: int, position: int) -> bytes:
        assert (position + 1) << level <= size, "an incomplete subtree was read"
        reads.append((level, position))
        return merkle.leaf_hash(f"{level}/{position}".encode())

    merkle.inclusion_proof(index, size, get)
    assert len(reads) <= 2 * size.bit_length()
    reads.clear()
    merkle.consistency_proof(index, size, get)
    assert len(reads) <= 3 * size.bit_length()
