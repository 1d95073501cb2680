"""Chunks of arrays, and of the bits and numbers of a call, for the Python backends."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.backends.indices import Index, indices

__all__ = ["Array", "Source", "chunks", "elements"]

CHUNK = 2**20  # elements that a backend gets at a time; a multiple of 8

Array = NDArray[Any]
Bits = NDArray[np.uint8]


def chunks(n: int, most: int = CHUNK) -> Sequence[tuple[int, int]]:
    """Cut n elements into chunks; return the first element of each, and the one after its last."""
    if 0 < n <= most:
        return ((0, n),)
    return [(begin, min(begin + most, n)) for begin in range(0, n, most)]


def in_c_order(a: Array) -> Any:
    """Return an object whose slices are elements in C order. Axes of size 1 are left out: `flat` allows only 32 axes."""
    plain = np.asarray(a)
    return plain.reshape(-1) if plain.flags.c_contiguous else plain.squeeze().flat


def elements(a: Array | None, begin: int, end: int, dtype: Any) -> Any:
    """Return the elements begin .. end - 1 in C order and in a dtype, or None without an array."""
    if a is None:
        return None
    part = in_c_order(a)[begin:end]  # in C order: a slice of a flat array, or a copy
    return part if part.dtype == dtype else part.astype(dtype)


class Source(NamedTuple):
    """The source of a call's bits and numbers: a backend, and what the plan has decided.

    The index of an element is `first` plus its number in C order, unless there are layouts. The first of these maps numbers to
    indices, or to numbers that the next one maps. Each is a first index, sizes and steps.
    """

    module: ModuleType
    compute: type[np.floating[Any]]
    seed: int
    offset: int
    first: int
    layouts: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    rate: int = 0  # p in units of 2**-64
    rates: Array | None = None  # one p per element; the logits of a gate
    gate: tuple[float, float] | None = None  # the gain and the shift of the logits
    antithetic: bool = False  # whether the bits of the gate are those of the antithetic pass
    packed: Bits | None = None  # bits that were made before, or flags
    flags: NDArray[np.bool_] | None = None

    def indices_of(self, begin: int, end: int) -> NDArray[np.int64]:
        """Return the index of each of the elements begin .. end - 1."""
        if not self.layouts:
            return np.arange(self.first + begin, self.first + end)
        found = np.arange(begin, end)
        for first, sizes, steps in self.layouts:
            found = indices(first, sizes, steps, found)
        return found

    def bits(self, begin: int, end: int) -> Bits:
        """Return the packed keep bits of elements."""
        if self.packed is not None and not self.layouts:
            return self.packed[begin // 8 : (end + 7) // 8]
        if self.flags is not None:
            return np.packbits(np.asarray(in_c_order(self.flags)[begin:end], np.bool_), bitorder="little")
        bits = np.empty((end - begin + 7) // 8, np.uint8)
        if not self.layouts and self.rates is None:
            self.module.keep_bits(self.seed, self.offset, self.rate, self.first + begin, end - begin, bits)
            return bits
        index = self.indices_of(begin, end)
        if self.packed is not None:
            return np.packbits(self.packed[index >> 3] >> (index & 7) & 1, bitorder="little")
        self.module.keep_bits_at(self.seed, self.offset, self.rates_of(begin, end), index, bits)
        return ~bits if self.antithetic else bits

    def flags_of(self, begin: int, end: int) -> Bits:
        """Return the bits of elements, one per byte."""
        return np.unpackbits(self.bits(begin, end), count=end - begin, bitorder="little")

    def rates_of(self, begin: int, end: int) -> Any:
        """Return the probability of a zero bit: one for all elements, or one for each. Antithetic bits are inverted."""
        if self.gate is None:
            return self.rate if self.rates is None else elements(self.rates, begin, end, np.float64)
        keep = self.keep(begin, end).astype(np.float64)
        return keep if self.antithetic else 1.0 - keep

    def keep(self, begin: int, end: int) -> Array:
        """Return the keep probabilities of logits in the compute type; -0 for a logit that is NaN."""
        gain, shift = map(self.compute, self.gate or ())
        argument = gain * elements(self.rates, begin, end, self.compute) + shift
        return np.where(np.isnan(argument), self.compute(-0.0), self.module.elementary("sigmoid", argument))

    def numbers(self, name: str, begin: int, out: Array) -> None:
        """Fill a flat array with the words, uniform or normal numbers of the elements from `begin` on."""
        index: Index = self.indices_of(begin, begin + out.size) if self.layouts else self.first + begin
        getattr(self.module, name)(self.seed, self.offset, index, out)
