"""The tree against RFC 6962: published vectors, and proofs built by the RFC's own recursive definitions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from mass_gov.errors import IntegrityError
from mass_gov.evidence import merkle

# The reference leaves and roots of Certificate Transparency (google/certificate-transparency, merkle_tree_test).
CT_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
CT_CONSISTENCY = {
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
    (6, 7): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}


# An independent judge: RFC 6962 sections 2.1 to 2.1.2, word for word, over leaf data and nothing of ours.
def _mth(d: list[bytes]) -> bytes:
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return hashlib.sha256(b"\x00" + d[0]).digest()
    k = _k(len(d))
    return hashlib.sha256(b"\x01" + _mth(d[:k]) + _mth(d[k:])).digest()


def _path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = _k(len(d))
    return [*_path(m, d[:k]), _mth(d[k:])] if m < k else [*_path(m - k, d[k:]), _mth(d[:k])]


def _subproof(m: int, d: list[bytes], complete: bool) -> list[bytes]:
    if m == len(d):
        return [] if complete else [_mth(d)]
    k = _k(len(d))
    if m <= k:
        return [*_subproof(m, d[:k], complete), _mth(d[k:])]
    return [*_subproof(m - k, d[k:], False), _mth(d[:k])]


def _k(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def _nodes(leaves: list[bytes]) -> merkle.GetNode:
    frontier, stored = merkle.Frontier(), {}
    for leaf in leaves:
        for node in frontier.append(merkle.leaf_hash(leaf)):
            stored[node.level, node.position] = node.hash
    return lambda level, position: stored[level, position]


def test_the_published_roots() -> None:
    frontier = merkle.Frontier()
    assert frontier.root().hex() == CT_ROOTS[0]
    for size, leaf in enumerate(CT_LEAVES, start=1):
        frontier.append(merkle.leaf_hash(leaf))
        assert frontier.root().hex() == CT_ROOTS[size]


def test_the_published_proofs() -> None:
    get = _nodes(CT_LEAVES)
    for (index, size), expected in CT_INCLUSION.items():
        proof = merkle.inclusion_proof(index, size, get)
        assert tuple(h.hex() for h in proof) == expected
        leaf = merkle.leaf_hash(CT_LEAVES[index])
        merkle.verify_inclusion(leaf, index, size, proof, bytes.fromhex(CT_ROOTS[size]))
    for (old, new), expected in CT_CONSISTENCY.items():
        proof = merkle.consistency_proof(old, new, get)
        assert tuple(h.hex() for h in proof) == expected
        merkle.verify_consistency(old, new, proof, bytes.fromhex(CT_ROOTS[old]), bytes.fromhex(CT_ROOTS[new]))


@pytest.mark.parametrize("size", range(1, 65))
def test_every_proof_up_to_64_is_the_one_that_the_rfc_defines_and_verifies(size: int) -> None:
    leaves = [f"leaf {i}".encode() for i in range(size)]
    get, root = _nodes(leaves), _mth(leaves)
    for index in range(size):
        proof = _path(index, leaves)
        assert merkle.inclusion_proof(index, size, get) == proof
        merkle.verify_inclusion(merkle.leaf_hash(leaves[index]), index, size, proof, root)
    for old in range(1, size + 1):
        proof = _subproof(old, leaves, True)
        assert merkle.consistency_proof(old, size, get) == proof
        merkle.verify_consistency(old, size, proof, _mth(leaves[:old]), root)


# And an independent verifier: the proof is folded along the same recursion as it was made, from the top down.
def _folded(m: int, n: int, leaf: bytes, path: list[bytes]) -> bytes | None:
    """The root that an inclusion path gives; None where it has another length."""
    if n == 1:
        return None if path else leaf
    if not path:
        return None
    k = _k(n)
    under = _folded(m, k, leaf, path[:-1]) if m < k else _folded(m - k, n - k, leaf, path[:-1])
    if under is None:
        return None
    left, right = (under, path[-1]) if m < k else (path[-1], under)
    return hashlib.sha256(b"\x01" + left + right).digest()


def _both(m: int, n: int, complete: bool, old: bytes, proof: list[bytes]) -> tuple[bytes, bytes] | None:
    """(old root, new root) that a consistency proof gives; None where it has another length."""
    if m == n:
        if complete:
            return None if proof else (old, old)
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    k = _k(n)
    if m <= k:
        inner = _both(m, k, complete, old, proof[:-1])
        return None if inner is None else (inner[0], hashlib.sha256(b"\x01" + inner[1] + proof[-1]).digest())
    inner = _both(m - k, n - k, False, old, proof[:-1])
    if inner is None:
        return None
    first, second = (hashlib.sha256(b"\x01" + proof[-1] + one).digest() for one in inner)
    return first, second


def _wrong(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Every proof with one hash flipped, left out, twice, or too many."""
    for place, one in enumerate(proof):
        yield [*proof[:place], bytes([one[0] ^ 1]) + one[1:], *proof[place + 1 :]]
        yield proof[:place] + proof[place + 1 :]
        yield [*proof[: place + 1], one, *proof[place + 1 :]]
    yield [*proof, bytes(32)]


@pytest.mark.parametrize("size", range(1, 65))
def test_an_independent_verifier_agrees_on_every_inclusion_proof_right_and_wrong(size: int) -> None:
    leaves = [f"leaf {i}".encode() for i in range(size)]
    get, root, hashes = _nodes(leaves), _mth(leaves), [merkle.leaf_hash(leaf) for leaf in leaves]
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, get)
        assert _folded(index, size, hashes[index], proof) == root
        others = [(index, one) for one in _wrong(proof)] + [((index + 1) % size, proof)] * (size > 1)
        for place, bad in others:
            assert _folded(place, size, hashes[index], bad) != root
            with pytest.raises(IntegrityError):
                merkle.verify_inclusion(hashes[index], place, size, bad, root)


@pytest.mark.parametrize("size", range(1, 65))
def test_an_independent_verifier_agrees_on_every_consistency_proof_right_and_wrong(size: int) -> None:
    leaves = [f"leaf {i}".encode() for i in range(size)]
    get, root = _nodes(leaves), _mth(leaves)
    for old in range(1, size + 1):
        before, proof = _mth(leaves[:old]), merkle.consistency_proof(old, size, get)
        assert _both(old, size, True, before, proof) == (before, root)
        for bad in _wrong(proof):
            assert _both(old, size, True, before, bad) != (before, root)
            with pytest.raises(IntegrityError):
                merkle.verify_consistency(old, size, bad, before, root)
        forked = _mth([*leaves[: old - 1], b"another"])
        with pytest.raises(IntegrityError):
            merkle.verify_consistency(old, size, proof, forked, root)
