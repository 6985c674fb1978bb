"""The tree is RFC 6962's: roots, paths and proofs are those of the published test vectors, and no
proof passes for what it is not of."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import merkle

# Entries and roots of the reference test of RFC 6962 (certificate-transparency's merkle_tree_test).
ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


def test_roots_are_the_published_ones() -> None:
    assert [found.hex() for found in merkle.roots(LEAVES)] == ROOTS
    assert [merkle.root(LEAVES[:n]).hex() for n in range(1, 9)] == ROOTS
    assert merkle.root([]) == hashlib.sha256(b"").digest()


def test_a_path_is_the_published_one() -> None:
    # PATH(5, D[8]): its neighbour 4, then the tree of 6 and 7, then that of 0 to 3.
    path = merkle.inclusion_proof(LEAVES, 5)
    assert path[0] == LEAVES[4]
    assert path[2].hex() == ROOTS[3]


@given(st.integers(1, 40), st.data())
def test_every_leaf_is_proven_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([n])) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof, whole = merkle.inclusion_proof(leaves, index), merkle.root(leaves)
    assert merkle.included(leaves[index], index, size, proof, whole)
    assert not merkle.included(merkle.leaf_hash(b"other"), index, size, proof, whole)
    assert not merkle.included(leaves[index], index, size, [*proof, whole], whole)
    assert not merkle.included(leaves[index], size, size, proof, whole)
    if proof:
        assert not merkle.included(leaves[index], index, size, proof[1:], whole)


@given(st.integers(1, 40), st.data())
def test_a_log_that_grew_is_proven_and_one_that_changed_is_not(
    size: int, data: st.DataObject
) -> None:
    leaves = [merkle.leaf_hash(bytes([n])) for n in range(size)]
    before = data.draw(st.integers(1, size))
    old, new = merkle.root(leaves[:before]), merkle.root(leaves)
    proof = merkle.consistency_proof(leaves, before)
    assert merkle.extends(before, old, size, new, proof)
    changed = [merkle.leaf_hash(b"forged"), *leaves[1:]]
    forged = merkle.consistency_proof(changed, before)
    assert not merkle.extends(before, old, size, merkle.root(changed), forged)
    assert not merkle.extends(before, old, size, new, [*proof, new])


@pytest.mark.parametrize("before", [0, 8])
def test_an_empty_log_and_the_same_log_need_no_proof(before: int) -> None:
    old = merkle.root(LEAVES[:before])
    assert merkle.extends(before, old, 8, merkle.root(LEAVES), [])
    assert not merkle.extends(8, merkle.root(LEAVES[:7]), 8, merkle.root(LEAVES), [])
