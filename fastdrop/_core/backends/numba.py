"""Stream 1 in Numba: the bytes of the reference at the speed of compiled code (docs/stream.md).

Each kernel is compiled at its first call and cached on disk for the next process. The kernels of the mask use only integers:
NumPy multiplies the floating-point values, and a kernel then clears the bits of the dropped ones. Every number in a kernel is
a uint64 on purpose: Numba types a Python integer as int64, and the sum of an int64 and a uint64 as float64. All machines that
Numba supports are little-endian, so 64-bit words can be viewed as 32-bit words or as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, vectorize
from numba.extending import overload, register_jitable
from numpy.typing import NDArray

from fastdrop._core.backends import elementary as definitions
from fastdrop._core.backends.blocks import drop_blocks as drop_blocks
from fastdrop._core.backends.indices import Index, distinct_blocks, part_of, words_of_pairs

Floats = NDArray[Any]  # float32 or float64
Words = NDArray[np.uint64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
Kernel = Callable[..., Any]

PLANES_DOMAIN, KEYS_DOMAIN = 1 << 24, 2 << 24  # as they stand in the counter; the domain of words is 0
PLANE = np.uint64(1 << 16)
GROUP = 128  # elements per block of one plane
TILE = 4096  # elements whose planes are computed together, until all are decided
TILE_WORDS = TILE // 64
CHUNK = 2**16  # elements processed at a time: few enough to stay in the cache between two steps

LOW_HALF = np.uint64(0xFFFFFFFF)
HALF, TOP = np.uint64(32), np.uint64(63)
ZERO, ONE, ALL = np.uint64(0), np.uint64(1), np.uint64(2**64 - 1)


def compiled(function: Kernel) -> Kernel:
    """Compile a function at its first call, and cache the result on disk if a folder is writable."""
    try:
        kernel: Kernel = njit(nogil=True, cache=True)(function)
    except RuntimeError:
        kernel = njit(nogil=True)(function)
    return kernel


# Kernels ------------------------------------------------------------------------------------------------------------


@compiled
def philox_blocks(seed: np.uint64, offset: np.uint64, block: Words, plane_domain: np.uint64, out: Words) -> None:
    """Write the 128-bit blocks with these numbers of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011, table 2).

    Blocks are independent, and each 32-bit counter word has its own 64-bit lane. So the compiler vectorizes the loop over
    blocks, and each product is one widening multiplication.
    """
    for j in range(block.size):
        c0, c1 = block[j] & LOW_HALF, block[j] >> HALF | plane_domain
        c2, c3 = offset & LOW_HALF, offset >> HALF
        key0, key1 = seed & LOW_HALF, seed >> HALF
        for _ in range(10):
            product0 = c0 * np.uint64(0xD2511F53)
            product1 = c2 * np.uint64(0xCD9E8D57)
            c0 = (product1 >> HALF) ^ c1 ^ key0
            c2 = (product0 >> HALF) ^ c3 ^ key1
            c1, c3 = product1 & LOW_HALF, product0 & LOW_HALF
            key0 = (key0 + np.uint64(0x9E3779B9)) & LOW_HALF
            key1 = (key1 + np.uint64(0xBB67AE85)) & LOW_HALF
        out[2 * j] = c0 | c1 << HALF
        out[2 * j + 1] = c2 | c3 << HALF


@compiled
def keep_tiles(seed: np.uint64, offset: np.uint64, rate: np.uint64, block: Words, kept: Words) -> None:
    """Write packed keep bits of these groups: element i is kept iff U(i) >= p, compared digit by digit from the top."""
    bits = np.empty(TILE_WORDS, np.uint64)
    undecided = np.empty(TILE_WORDS, np.uint64)  # the digits so far equal p's
    for begin in range(0, block.size, TILE_WORDS // 2):
        some = block[begin : begin + TILE_WORDS // 2]
        tile = kept[2 * begin : 2 * (begin + some.size)]
        tile[:] = ZERO
        undecided[:] = ALL
        some_undecided = ALL
        digits, plane_domain = rate, np.uint64(PLANES_DOMAIN)
        while digits and some_undecided:
            philox_blocks(seed, offset, some, plane_domain, bits)
            ones = ALL * (digits >> TOP)  # p's digit, in every bit
            some_undecided = ZERO
            for k in range(tile.size):
                tile[k] |= undecided[k] & bits[k] & ~ones  # a 1 over a 0: above p, kept
                undecided[k] &= ~(bits[k] ^ ones)  # a 0 under a 1: below p, dropped
                some_undecided |= undecided[k]
            digits <<= ONE
            plane_domain += PLANE
        for k in range(tile.size):
            tile[k] |= undecided[k]  # what equals p is kept


@compiled
def compare_digits(bits: Words, position: Indices, index: Indices, digits: Words, undecided: Flags, kept: Flags) -> int:
    """Compare one plane with the digits of each element's own rate; return the number of undecided elements."""
    left = 0
    for i in range(index.size):
        if undecided[i]:
            word = bits[2 * position[i] + (index[i] & 127) // 64]
            bit = word >> np.uint64(index[i] & 63) & ONE
            digit = digits[i] >> TOP
            digits[i] <<= ONE
            undecided[i] = bit == digit
            kept[i] = bit >= digit
            left += undecided[i]
    return left


@compiled
def pick(bits: Words, position: Indices, index: Indices, flags: Flags) -> None:
    """Look up the bit of each index; its group is the one at `position` in the packed groups."""
    for i in range(index.size):
        flags[i] = bits[2 * position[i] + (index[i] & 127) // 64] >> np.uint64(index[i] & 63) & ONE


@compiled
def drop(values: NDArray[Any], kept: Words) -> None:
    """Keep the kept values and clear all bits of the others; `values` are floating-point numbers viewed as integers."""
    for word in range((values.size + 63) // 64):
        for k in range(min(64, values.size - 64 * word)):
            values[64 * word + k] &= values.dtype.type(ALL * (kept[word] >> np.uint64(k) & ONE))


# Elementary functions and normal numbers: the definitions that the reference evaluates, compiled for single numbers --


@overload(definitions.select, strict=False)  # annotations count as a difference
def choose(condition: Any, a: Any, b: Any) -> Kernel:
    """Choose between two numbers."""
    return lambda condition, a, b: a if condition else b


for part in definitions.PARTS:
    register_jitable(part)


@lru_cache
def elementwise(function: Kernel, signature: str) -> Kernel:
    """Compile a function of one number to a function of arrays, at its first use."""
    compile: Kernel = vectorize
    try:
        made: Kernel = compile([signature], cache=True)(function)
    except RuntimeError:
        made = compile([signature])(function)
    return made


def elementary(name: str, x: Floats) -> Floats:
    """Return an elementary function of each element."""
    of_single, of_double = definitions.FUNCTIONS[name]
    is_single = x.dtype == np.float32
    y: Floats = elementwise(of_single if is_single else of_double, f"{x.dtype}({x.dtype})")(x)
    return y


# Bits ---------------------------------------------------------------------------------------------------------------


def blocks(seed: int, offset: int, block: Words, plane_domain: int) -> Words:
    """Return the blocks with these numbers, as two 64-bit words each."""
    out = np.empty(2 * block.size, np.uint64)
    philox_blocks(np.uint64(seed), np.uint64(offset), block, np.uint64(plane_domain), out)
    return out


def keep(seed: int, offset: int, rate: int, block: Words) -> Words:
    """Return keep bits of whole groups, as two 64-bit words each."""
    kept = np.zeros(2 * block.size, np.uint64)
    if rate < 2**64:
        keep_tiles(np.uint64(seed), np.uint64(offset), np.uint64(rate), block, kept)
    return kept


def numbers(first: int, end: int) -> Words:
    """Return the block numbers first .. end - 1."""
    return np.arange(first, end, dtype=np.uint64)


def chunks(n: int) -> Iterator[slice]:
    """Cut n elements into chunks."""
    for begin in range(0, n, CHUNK):
        yield slice(begin, min(begin + CHUNK, n))


def keep_bits(seed: int, offset: int, rate: int, first: int, n: int, out: NDArray[np.uint8]) -> None:
    """Write packed keep bits: bit i in byte i // 8, zeros after the last bit."""
    bits = keep(seed, offset, rate, numbers(first // GROUP, (first + n - 1) // GROUP + 1))[first % GROUP // 64 :]
    shift = np.uint64(first % 64)
    if shift:
        bits = np.append(bits[:-1] >> shift | bits[1:] << np.uint64(64) - shift, bits[-1] >> shift)
    out[:] = bits.view(np.uint8)[: out.size]
    if n % 8:
        out[-1] &= np.uint8(2 ** (n % 8) - 1)


def keep_bits_at(seed: int, offset: int, rate: int | NDArray[np.float64], index: Indices, out: NDArray[np.uint8]) -> None:
    """Write packed keep bits of any indices, with one rate for all or one rate per index."""
    block, position = distinct_blocks(index)
    flags = np.ones(index.size, np.bool_)
    if isinstance(rate, int):
        pick(keep(seed, offset, rate, block), position, index, flags)
    else:
        whole, fraction = np.divmod(rate * 2.0**32, 1.0)
        digits = (whole.astype(np.uint64) << HALF) + np.rint(fraction * 2.0**32).astype(np.uint64)
        undecided = np.ones(index.size, np.bool_)
        for plane in range(64):
            bits = blocks(seed, offset, block, PLANES_DOMAIN + (plane << 16))
            if not compare_digits(bits, position, index, digits, undecided, flags):
                break
        flags &= rate < 1.0
    out[:] = np.packbits(flags, bitorder="little")


def some_words(seed: int, offset: int, index: Index, n: int) -> NDArray[np.uint32]:
    """Return n words of domain 0, from an index on or with one index each."""
    where: Any
    if isinstance(index, int):
        block, where = numbers(index // 4, (index + n + 3) // 4), slice(index % 4, index % 4 + n)
    else:
        block, position = distinct_blocks(index, 4)
        where = 4 * position + index % 4
    found: NDArray[np.uint32] = blocks(seed, offset, block, 0).view(np.uint32)[where]
    return found


def words(seed: int, offset: int, index: Index, out: NDArray[np.uint32]) -> None:
    """Fill `out` with words of domain 0."""
    for part in chunks(out.size):
        out[part] = some_words(seed, offset, part_of(index, part), part.stop - part.start)


def fold_in(seed: int, data: int) -> int:
    """Return the seed that `data` derives from `seed`: 64 bits of one block of domain 2."""
    block = data & (2**48 - 1)
    return int(blocks(seed, data >> 48, numbers(block, block + 1), KEYS_DOMAIN)[0])


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """Return one block of the generator, for tests with known answers."""
    low, high = counter[0] | counter[1] << 32, counter[2] | counter[3] << 32
    return tuple(blocks(key[0] | key[1] << 32, high, np.array([low], np.uint64), 0).view(np.uint32).tolist())


# Values -------------------------------------------------------------------------------------------------------------


def drop_others(out: Floats, bits: NDArray[np.uint8]) -> None:
    """Set the elements that are not kept to +0."""
    words = np.zeros((out.size + 63) // 64, np.uint64)
    words.view(np.uint8)[: bits.size] = bits
    drop(out.view(np.uint32 if out.dtype == np.float32 else np.uint64), words)


def scale(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, bias: Floats | None, other: Floats | None) -> None:
    """Compute other + (keep ? (x + bias) * factor : 0); bias and other are optional. Dropped values are not multiplied."""
    for part in chunks(x.size):
        value = x[part] if bias is None else x[part] + bias[part]
        np.multiply(value, factor if np.ndim(factor) == 0 else factor[part], out=out[part])
        drop_others(out[part], bits[part.start // 8 : (part.stop + 7) // 8])
        if other is not None:
            np.add(other[part], out[part], out=out[part])


def affine(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, shift: Any, fill: Any) -> None:
    """Write keep ? x * factor + shift : fill."""
    np.add(x * factor, shift, out=out)
    np.copyto(out, fill, where=np.unpackbits(~bits, count=out.size, bitorder="little").view(np.bool_))


def signed(x: Floats, out: Floats, bits: NDArray[np.uint8], factor: Any, shift: Any, fill: Any) -> None:
    """Write keep ? x * factor + sgn(x) shift : -sgn(x) fill. 0 and NaN have no sign: for them, keep ? x * factor : 0."""
    for part in chunks(x.size):
        some = x[part]
        kept = np.unpackbits(bits[part.start // 8 : (part.stop + 7) // 8], count=some.size, bitorder="little").view(np.bool_)
        sign = np.copysign(some.dtype.type(1), some)
        value = np.where(kept, some * factor, some.dtype.type(0))
        np.add(value, np.where(kept, sign * shift, -sign * fill), out=value, where=(some > 0) | (some < 0))
        out[part] = value


def select(x: Floats, out: Floats, bits: NDArray[np.uint8], other: Floats) -> None:
    """Write keep ? x : other."""
    np.copyto(out, other)
    np.copyto(out, x, where=np.unpackbits(bits, count=out.size, bitorder="little").view(np.bool_))


def uniform(seed: int, offset: int, index: Index, out: NDArray[Any]) -> None:
    """Fill `out` with uniforms in the open interval (0, 1), exact in their type: one word per float32, two per float64."""
    is_single = out.dtype == np.float32
    digits, integer = (24, np.uint32) if is_single else (53, np.uint64)
    shift, step = integer(8 * out.itemsize - digits), out.dtype.type(2.0**-digits)
    for part in chunks(out.size):
        some, n = part_of(index, part), part.stop - part.start
        v: Any = some_words(seed, offset, some, n) if is_single else some_words(seed, offset, words_of_pairs(some), 2 * n)
        np.multiply((v.view(integer) >> shift | integer(1)).astype(out.dtype), step, out=out[part])


def normal(seed: int, offset: int, index: Index, out: NDArray[Any]) -> None:
    """Fill `out` with normal numbers: from one word each in float32, from one uniform number each in float64."""
    for part in chunks(out.size):
        some = part_of(index, part)
        if out.dtype == np.float32:
            found = some_words(seed, offset, some, part.stop - part.start)
            elementwise(definitions.normal32, "float32(uint32)")(found, out[part])
        else:
            uniform(seed, offset, some, out[part])
            elementwise(definitions.normal64, "float64(float64)")(out[part], out[part])
