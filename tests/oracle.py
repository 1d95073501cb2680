"""The stream's definition (docs/stream.md) in Python integers, one element at a time; it shares no code with the library.

This is slow but exact: U(i) and p are integer multiples of 2**-64.
"""

import functools
from fractions import Fraction

import numpy as np

WORDS, PLANES, KEYS = 0, 1, 2  # domains


@functools.lru_cache(maxsize=100_000)
def philox(seed, offset, block, plane, domain):
    """Return the 128 bits of one block, with word 0 in the lowest bits."""
    x = [block % 2**32, block >> 32 | plane << 16 | domain << 24, offset % 2**32, offset >> 32]
    k = [seed % 2**32, seed >> 32]
    for _ in range(10):
        even, odd = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [odd >> 32 ^ x[1] ^ k[0], odd % 2**32, even >> 32 ^ x[3] ^ k[1], even % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return x[0] | x[1] << 32 | x[2] << 64 | x[3] << 96


@functools.lru_cache(maxsize=100_000)
def uniform_number(seed, offset, i):
    """Return U(i) 2**64: digit j of U(i) is bit i % 128 of plane j."""
    digits = [philox(seed, offset, i // 128, plane, PLANES) >> i % 128 & 1 for plane in range(64)]
    return sum(digit << 63 - j for j, digit in enumerate(digits))


def fixed(p):
    """Return p 2**64, rounded to nearest even."""
    return round(Fraction(float(p)) * 2**64)


def keep(seed, offset, start, n, p):
    return [uniform_number(seed, offset, i) >= fixed(p) for i in range(start, start + n)]


def keep_laid(shape, p, seed, offset=0, start=0, noise_shape=None, shared_axes=(), global_shape=None, global_start=None):
    """Return the mask of an array, which may be a block of a larger array and share decisions; p may be an array."""
    whole = shape if global_shape is None else global_shape
    begin = [0] * len(shape) if global_start is None else global_start
    shared = {axis % len(shape) for axis in ([shared_axes] if isinstance(shared_axes, int) else shared_axes)}
    noise = [1 if axis in shared else size for axis, size in enumerate(whole)]
    if noise_shape is not None:
        noise = [size if given is None else given for given, size in zip(noise_shape, whole, strict=True)]
    rates = np.broadcast_to(p, shape)
    mask = np.empty(shape, bool)
    for position in np.ndindex(*shape):
        index = 0  # in C order, in the mask's own shape
        for axis, size in enumerate(noise):
            index = index * size + (0 if size == 1 else begin[axis] + position[axis])
        mask[position] = uniform_number(seed, offset, start + index) >= fixed(rates[position])
    return mask


def word(seed, offset, i):
    return philox(seed, offset, i // 4, 0, WORDS) >> 32 * (i % 4) & 0xFFFFFFFF


def fold_in(seed, data):
    return philox(seed, data >> 48, data % 2**48, 0, KEYS) % 2**64
