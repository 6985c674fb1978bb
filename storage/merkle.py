"""Merkle trees as in RFC 6962, section 2: one digest for a log, and proofs that it only grew.

    leaf = SHA-256(0x00 ‖ entry)      node = SHA-256(0x01 ‖ left ‖ right)

The left part of a tree of n leaves has the largest power of two below n. Whoever keeps a root
outside the store can ask whether today's log still begins with what that root stood for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence


def leaf_hash(entry: bytes) -> bytes:
    """The digest of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The digest of a whole log, of its leaves' digests; SHA-256 of nothing for an empty one."""
    found = hashlib.sha256(b"").digest()
    for found in roots(leaves):  # noqa: B007  (the last one is asked for)
        pass
    return found


def roots(leaves: Sequence[bytes]) -> Iterator[bytes]:
    """The roots after one leaf, after two, … of a log that grows: O(log n) digests for each."""
    peaks: list[tuple[int, bytes]] = []  # whole trees (their sizes, powers of two), the left first
    for leaf in leaves:
        size, top = 1, leaf
        while peaks and peaks[-1][0] == size:
            top = _node(peaks.pop()[1], top)
            size *= 2
        peaks.append((size, top))
        whole = top
        for _, left in reversed(peaks[:-1]):
            whole = _node(left, whole)
        yield whole


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.1: what leads from a leaf to the root, its neighbour first."""
    if len(leaves) <= 1:
        return []
    half = _half(len(leaves))
    if index < half:
        return [*inclusion_proof(leaves[:half], index), root(leaves[half:])]
    return [*inclusion_proof(leaves[half:], index - half), root(leaves[:half])]


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], whole: bytes) -> bool:
    """Whether a proof leads from a leaf at an index to the root of so many leaves."""
    if not 0 <= index < size:
        return False
    return _climb(leaf, index, size, list(proof)) == whole


def _climb(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    if size == 1:
        return None if proof else leaf
    if not proof:
        return None
    half, other = _half(size), proof.pop()
    if index < half:
        below = _climb(leaf, index, half, proof)
        return below and _node(below, other)
    below = _climb(leaf, index - half, size - half, proof)
    return below and _node(other, below)


def consistency_proof(leaves: Sequence[bytes], before: int) -> list[bytes]:
    """PROOF(m, D[n]) of section 2.1.2: that the first `before` leaves are those of an older log."""
    return _subproof(leaves, before, True) if 0 < before < len(leaves) else []


def _subproof(leaves: Sequence[bytes], before: int, known: bool) -> list[bytes]:
    if before == len(leaves):
        return [] if known else [root(leaves)]
    half = _half(len(leaves))
    if before <= half:
        return [*_subproof(leaves[:half], before, known), root(leaves[half:])]
    return [*_subproof(leaves[half:], before - half, False), root(leaves[:half])]


def extends(before: int, old: bytes, size: int, new: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that a log of `size` leaves and root `new` begins with the one of
    `before` leaves and root `old`.
    """
    if before == size:
        return old == new and not proof
    if before == 0:
        return not proof
    if not 0 < before < size:
        return False
    left = list(proof)
    both = _rebuild(before, size, True, old, left)
    return both == (old, new) and not left


def _rebuild(
    before: int, size: int, known: bool, old: bytes, proof: list[bytes]
) -> tuple[bytes, bytes] | None:
    """The two roots that a proof leads to, of what was there before and of all."""
    if before == size:
        if known:
            return old, old
        return (top := proof.pop(), top) if proof else None
    if not proof:
        return None
    half, other = _half(size), proof.pop()
    if before <= half:
        below = _rebuild(before, half, known, old, proof)
        return below and (below[0], _node(below[1], other))
    below = _rebuild(before - half, size - half, False, old, proof)
    return below and (_node(other, below[0]), _node(other, below[1]))


def _half(size: int) -> int:
    """The largest power of two below a size of two or more."""
    return 1 << ((size - 1).bit_length() - 1)
