"""Counters: many places of an order at once, for whoever counts what a training drew.

`order.uniforms` and `WindowSampler` read numpy's Philox generator (Philox4x64-10, Salmon et al.
2011) at one place. Here its first block is computed for arrays of places, to the same words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


def first_uniforms(
    seed: int, stream: int, steps: ArrayLike, slots: ArrayLike
) -> NDArray[np.float64]:
    """[..., 4] the first numbers in [0, 1) at places, whose steps and slots are broadcast."""
    words = _block(seed, stream, steps, slots)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _block(seed: int, stream: int, steps: ArrayLike, slots: ArrayLike) -> Words:
    """[..., 4] the first words of Philox with the key (seed, stream), at (0, slot, step, 0)."""
    step, slot = np.broadcast_arrays(np.atleast_1d(steps), np.atleast_1d(slots))
    # numpy counts on before it makes a block: the first one is that of 1.
    counter = [np.ones(slot.shape, np.uint64), slot.astype(np.uint64), step.astype(np.uint64)]
    counter.append(np.zeros(slot.shape, np.uint64))
    first, second = seed, stream
    for _ in range(_ROUNDS):
        high, low = _product(counter[0], _M0)
        top, bottom = _product(counter[2], _M1)
        counter = [
            top ^ counter[1] ^ np.uint64(first), bottom,
            high ^ counter[3] ^ np.uint64(second), low,
        ]  # fmt: skip
        first, second = (first + _W0) % (1 << 64), (second + _W1) % (1 << 64)
    return np.stack(counter, axis=-1)


def _product(a: Words, b: np.uint64) -> tuple[Words, Words]:
    """The upper and the lower 64 bits of a product."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    cross = a_high * b_low + (a_low * b_low >> _HALF)
    other = a_low * b_high + (cross & _LOW)
    return a_high * b_high + (cross >> _HALF) + (other >> _HALF), a * b
