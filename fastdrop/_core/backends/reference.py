"""Stream 1 in NumPy: written for a reader, and the definition of every bit (docs/stream.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.backends.blocks import drop_blocks as drop_blocks
from fastdrop._core.backends.elementary import FUNCTIONS, normal32, normal64
from fastdrop._core.backends.indices import Index, distinct_blocks, part_of, words_of_pairs

Floats = NDArray[Any]  # float32 or float64
Words = NDArray[np.uint64]  # 32-bit words in 64-bit lanes: Philox needs 64-bit products

WORDS_DOMAIN, PLANES_DOMAIN, KEYS_DOMAIN = 0, 1, 2
GROUP = 128  # elements per block of one plane
CHUNK = 2**20  # words computed at a time

LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox_rounds(counter: list[Words], key: tuple[int, int]) -> list[Words]:
    """Apply the ten rounds of Philox4x32-10 to arrays of counters (Salmon, Moraes, Dror and Shaw, SC 2011, table 2)."""
    c0, c1, c2, c3 = counter
    for r in range(10):
        key0 = np.uint64((key[0] + r * 0x9E3779B9) & 0xFFFFFFFF)
        key1 = np.uint64((key[1] + r * 0xBB67AE85) & 0xFFFFFFFF)
        product0 = c0 * np.uint64(0xD2511F53)
        product1 = c2 * np.uint64(0xCD9E8D57)
        c0 = (product1 >> HALF) ^ c1 ^ key0
        c2 = (product0 >> HALF) ^ c3 ^ key1
        c1 = product1 & LOW_HALF
        c3 = product0 & LOW_HALF
    return [c0, c1, c2, c3]


def blocks(seed: int, offset: int, block: Words, plane: int, domain: int) -> NDArray[np.uint32]:
    """Return the four output words of each block number, as an array of shape (blocks, 4)."""
    counter = [
        block & LOW_HALF,
        block >> HALF | np.uint64(plane << 16 | domain << 24),
        np.full(block.shape, offset & 0xFFFFFFFF, np.uint64),
        np.full(block.shape, offset >> 32, np.uint64),
    ]
    out = philox_rounds(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return np.stack(out, axis=-1).astype(np.uint32)


def plane_bits(seed: int, offset: int, block: Words, plane: int) -> NDArray[np.uint8]:
    """Return binary digit `plane` of every element's uniform, packed: 16 bytes per block, bit i of the 128 in byte i // 8."""
    return blocks(seed, offset, block, plane, PLANES_DOMAIN).astype("<u4").view(np.uint8)


def keep_groups(seed: int, offset: int, rate: int, block: Words) -> NDArray[np.uint8]:
    """Return packed keep bits of whole groups: element i is kept iff U(i) >= p, compared digit by digit from the top."""
    if rate == 2**64:
        return np.zeros((block.size, GROUP // 8), np.uint8)
    undecided = np.full((block.size, GROUP // 8), 0xFF, np.uint8)  # the digits so far equal p's
    kept = np.zeros_like(undecided)
    for plane in range(64):
        if rate << plane & (2**64 - 1) == 0 or not undecided.any():  # no digit of p left, or nothing to decide
            break
        bits = plane_bits(seed, offset, block, plane)
        if rate >> (63 - plane) & 1:
            undecided &= bits  # a 0 under a 1: below p, dropped
        else:
            kept |= undecided & bits  # a 1 over a 0: above p, kept
            undecided &= ~bits
    return kept | undecided  # what equals p is kept


def flags_at(packed: NDArray[np.uint8], position: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Look up the bit of each index; its group is the one at `position` in the packed groups."""
    flags: NDArray[np.bool_] = np.unpackbits(packed, bitorder="little").view(np.bool_)
    found: NDArray[np.bool_] = flags[position * GROUP + index % GROUP]
    return found


def keep_each(seed: int, offset: int, rates: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each element is kept, with one rate per element: the same comparison, with the digits of each rate."""
    whole, fraction = np.divmod(rates * 2.0**32, 1.0)
    fixed = (whole.astype(np.uint64) << HALF) + np.rint(fraction * 2.0**32).astype(np.uint64)  # of 2**-64, nearest even
    block, position = distinct_blocks(index)
    undecided = np.ones(index.shape, np.bool_)
    kept = np.zeros(index.shape, np.bool_)
    for plane in range(64):
        if not undecided.any():
            break
        bits = flags_at(plane_bits(seed, offset, block, plane), position, index)
        digit = (fixed >> np.uint64(63 - plane) & np.uint64(1)).astype(np.bool_)
        kept |= undecided & bits & ~digit
        undecided &= bits == digit
    return (kept | undecided) & (rates < 1.0)


def keep_bits(seed: int, offset: int, rate: int, first: int, n: int, out: NDArray[np.uint8]) -> None:
    """Write packed keep bits of the indices first .. first + n - 1: bit i in byte i // 8, zeros after the last bit."""
    block = np.arange(first // GROUP, (first + n - 1) // GROUP + 1, dtype=np.uint64)
    skip = first % GROUP
    kept = np.unpackbits(keep_groups(seed, offset, rate, block), count=skip + n, bitorder="little")[skip:]
    out[:] = np.packbits(kept, bitorder="little")


def keep_bits_at(
    seed: int, offset: int, rate: int | NDArray[np.float64], index: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Write packed keep bits of any indices, with one rate for all or one rate per index."""
    if isinstance(rate, int):
        block, position = distinct_blocks(index)
        kept = flags_at(keep_groups(seed, offset, rate, block), position, index)
    else:
        kept = keep_each(seed, offset, rate, index)
    out[:] = np.packbits(kept, bitorder="little")


def unpacked(bits: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
    """Return packed keep bits as flags."""
    return np.unpackbits(bits, count=n, bitorder="little").view(np.bool_)


def scale(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, bias: Floats | None, other: Floats | None) -> None:
    """Compute other + (keep ? (x + bias) * factor : 0); bias and other are optional. Dropped values are not multiplied."""
    value = x if bias is None else x + bias
    value = np.where(unpacked(bits, x.size), value * factor, x.dtype.type(0))
    out[:] = value if other is None else other + value


def affine(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, shift: Any, fill: Any) -> None:
    """Write keep ? x * factor + shift : fill."""
    out[:] = np.where(unpacked(bits, x.size), x * factor + shift, fill)


def signed(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, shift: Any, fill: Any) -> None:
    """Write keep ? x * factor + sgn(x) shift : -sgn(x) fill. 0 and NaN have no sign: for them, keep ? x * factor : 0."""
    product, zero = x * factor, x.dtype.type(0)
    kept = np.where(x > 0, product + shift, np.where(x < 0, product - shift, product))
    dropped = np.where(x > 0, zero - fill, np.where(x < 0, zero + fill, zero))
    out[:] = np.where(unpacked(bits, x.size), kept, dropped)


def select(x: Floats, out: Floats, bits: NDArray[np.uint8], other: Floats) -> None:
    """Write keep ? x : other."""
    out[:] = np.where(unpacked(bits, x.size), x, other)


def chunks(n: int) -> Iterator[slice]:
    """Cut n elements into chunks."""
    for begin in range(0, n, CHUNK):
        yield slice(begin, min(begin + CHUNK, n))


def some_words(seed: int, offset: int, index: Index, n: int) -> NDArray[np.uint32]:
    """Return n words of domain 0, from an index on or with one index each: word i is w[i % 4] of block i // 4."""
    where: Any
    if isinstance(index, int):
        block = np.arange(index // 4, (index + n - 1) // 4 + 1, dtype=np.uint64)
        where = slice(index % 4, index % 4 + n)
    else:
        block, position = distinct_blocks(index, 4)
        where = 4 * position + index % 4
    found: NDArray[np.uint32] = blocks(seed, offset, block, 0, WORDS_DOMAIN).reshape(-1)[where]
    return found


def words(seed: int, offset: int, index: Index, out: NDArray[np.uint32]) -> None:
    """Fill `out` with words of domain 0."""
    for part in chunks(out.size):
        out[part] = some_words(seed, offset, part_of(index, part), part.stop - part.start)


def uniform(seed: int, offset: int, index: Index, out: NDArray[Any]) -> None:
    """Fill `out` with uniforms in the open interval (0, 1), exact in their type: one word per float32, two per float64."""
    for part in chunks(out.size):
        some, n = part_of(index, part), part.stop - part.start
        if out.dtype == np.float32:
            w = some_words(seed, offset, some, n)
            out[part] = ((w >> np.uint32(9)) * np.uint32(2) + np.uint32(1)).astype(np.float32) * np.float32(2**-24)
        else:
            low, high = some_words(seed, offset, words_of_pairs(some), 2 * n).astype(np.uint64).reshape(n, 2).T
            v = low | high << HALF
            out[part] = ((v >> np.uint64(12)) * np.uint64(2) + np.uint64(1)).astype(np.float64) * 2.0**-53


def normal(seed: int, offset: int, index: Index, out: NDArray[Any]) -> None:
    """Fill `out` with normal numbers: from one word each in float32, from one uniform number each in float64."""
    for part in chunks(out.size):
        some = part_of(index, part)
        if out.dtype == np.float32:
            out[part] = normal32(some_words(seed, offset, some, part.stop - part.start))
        else:
            uniform(seed, offset, some, out[part])
            out[part] = normal64(out[part])


def elementary(name: str, x: Floats) -> Floats:
    """Return an elementary function of each element."""
    y: Floats = FUNCTIONS[name][x.dtype == np.float64](x)
    return y


def fold_in(seed: int, data: int) -> int:
    """Return the seed that `data` derives from `seed`: 64 bits of one block of domain 2."""
    block = np.array([data & (2**48 - 1)], np.uint64)
    w0, w1, _, _ = blocks(seed, data >> 48, block, 0, KEYS_DOMAIN)[0].tolist()
    return int(w0 + (w1 << 32))


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Return one block of the generator, for tests with known answers."""
    out = philox_rounds([np.array([word], np.uint64) for word in counter], key)
    return tuple(int(word[0]) for word in out)
