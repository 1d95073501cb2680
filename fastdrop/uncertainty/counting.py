"""Counts of how many of many masks keep each element, for 64 elements per word and one binary digit at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WORD_BYTES", "KeptCounts"]

WORD_BYTES = 8
# For each byte, its eight bits as eight bytes, the lowest bit first.
SPREAD = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little").view(np.uint64)[:, 0]

Words = NDArray[np.uint64]


class KeptCounts:
    """Counters of the bits of packed masks, one counter per element.

    Digit j of all counters is a string of bits, like a mask. Up to two strings of equal weight wait for a third. Then a full
    adder turns the three into one string of the same weight and one of twice the weight. This takes about five bitwise
    operations per mask on the mask's bytes, for any number of masks.
    """

    def __init__(self) -> None:
        self.waiting: list[list[Words]] = []  # by weight: 1, 2, 4, ...

    def add(self, mask: NDArray[np.uint8]) -> None:
        """Count a packed mask whose size is a multiple of `WORD_BYTES` bytes. Its memory is reused."""
        self.put(mask.view(np.uint64), 0)

    def put(self, bits: Words, j: int) -> None:
        """Add a string of bits of weight 2**j, and the carries."""
        while True:
            if j == len(self.waiting):
                self.waiting.append([])
            same = self.waiting[j]
            same.append(bits)
            if len(same) < 3:
                return
            bits = full_adder(same)
            j += 1

    def counts(self, size: int) -> NDArray[Any]:
        """Return the counters of the first `size` elements, in the smallest unsigned type that holds them."""
        j = 0
        while j < len(self.waiting):  # the list grows if the last digits carry
            if len(self.waiting[j]) == 2:
                self.put(np.zeros_like(self.waiting[j][0]), j)
            j += 1
        digits = [same[0].view(np.uint8) for same in self.waiting]
        total = digits_to_bytes(digits[:8])
        for shift in range(8, len(digits), 8):
            total = total | digits_to_bytes(digits[shift : shift + 8]).astype(np.min_scalar_type(2 ** len(digits) - 1)) << shift
        return total[:size]


def digits_to_bytes(digits: list[NDArray[np.uint8]]) -> NDArray[Any]:
    """Return the numbers, one per byte, that up to eight packed strings of binary digits stand for, the lowest digits first."""
    total = np.zeros(digits[0].size, np.uint64)  # eight numbers per word
    for j, digit in enumerate(digits):
        total |= np.take(SPREAD << np.uint64(j), digit)
    return total.view(np.uint8)


def full_adder(same: list[Words]) -> Words:
    """Add three strings of bits in place: leave the sum in their list, and return the carry."""
    a, b, c = same
    either = a ^ b
    np.bitwise_and(a, b, out=b)
    np.bitwise_xor(either, c, out=a)
    np.bitwise_and(either, c, out=c)
    np.bitwise_or(b, c, out=c)
    same[1:] = []
    return c
