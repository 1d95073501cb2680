"""What noise does to elements: blocks of a larger array, factors that broadcast, changes with an element's own sign."""

from statistics import NormalDist

import numpy as np
import pytest

import fastdrop
from fastdrop._core import numbers
from fastdrop._core.backends import reference
from fastdrop._core.plan import Call, RoundToNearest, use_mask
from fastdrop.verify.cases import COMPUTED, DTYPES, LINE, REFERENCE, equal_bytes, guarded, past_caches, values

KEY = (91, 92)
BLOCKS = {
    "rows": ((40, 37), (90, 500), (30, 131)),
    "a column": ((300, 1), (301, 3), (1, 2)),
    "planes": ((5, 7, 300), (6, 9, 1000), (1, 2, 77)),
    "whole": ((7, 300), (7, 300), (0, 0)),
    "one": ((1, 1), (7, 300), (3, 2)),
    "none": ((0, 300), (7, 300), (0, 0)),
}
KINDS = {"gaussian": (0.5,), "additive": (0.5,), "uniform": (0.5,), "concrete": (9.0, 1e-7, 6.7, 10 / 9, 3.3)}


def block_of(whole, begin, shape):
    return whole[tuple(slice(b, b + n) for b, n in zip(begin, shape, strict=True))]


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_a_block(engine, name, kind):
    shape, whole, begin = BLOCKS[name]
    dtype = DTYPES[(list(BLOCKS).index(name) + list(KINDS).index(kind)) % len(DTYPES)]
    x = values(whole, dtype)
    other = np.abs(values(shape, dtype, 3))
    part = np.asfortranarray(block_of(x, begin, shape))
    call = Call(*KEY, start=7, global_shape=whole, global_start=begin)
    y, sums = numbers.noise(call, part, kind, KINDS[kind], other, with_sums=kind != "additive")
    everything, _ = numbers.noise(Call(*KEY, start=7), x, kind, KINDS[kind])
    assert equal_bytes(np.ascontiguousarray(y), np.ascontiguousarray(block_of(everything, begin, shape)))
    if sums is not None:
        with REFERENCE.using():
            _, want = numbers.noise(call, part, kind, KINDS[kind], other, with_sums=True)
        assert sums.size == -(-part.size // 1024)
        assert equal_bytes(sums, want)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_a_block(engine, name, dtype):
    shape, whole, begin = BLOCKS[name]
    for make in (fastdrop.uniform, fastdrop.normal):
        everything = make(whole, seed=KEY[0], offset=KEY[1], dtype=dtype)
        kind = make.__name__
        made = numbers.numbers(kind, shape, dtype, Call(*KEY, global_shape=whole, global_start=begin))
        assert equal_bytes(made, np.ascontiguousarray(block_of(everything, begin, shape)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", [name for name in fastdrop.config()["backends"] if name != "c"])
def test_more_numbers_of_a_block_than_are_made_at_a_time(dtype, backend):
    """The elements that a Python backend gets at a time, and those that Numba takes of them."""
    n = 2**20 + 2**16 + 9
    call = {"global_shape": (n, 70), "global_start": (0, 66)}
    made = numbers.numbers("uniform", (n, 1), dtype, Call(*KEY, **call, backend=backend))
    assert equal_bytes(made, numbers.numbers("uniform", (n, 1), dtype, Call(*KEY, **call)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_short_rows_are_made_together(monkeypatch, dtype):
    """The NumPy backend once made the numbers of each row alone, which took a minute for 100,000 rows."""
    made, normal = [], reference.normal
    monkeypatch.setattr(reference, "normal", lambda *given: made.append(given[-1].size) or normal(*given))
    call = Call(*KEY, global_shape=(5000, 900), global_start=(0, 2), backend="numpy")
    y = numbers.numbers("normal", (5000, 3), dtype, call)
    assert made == [y.size]


# Factors that broadcast: of each element, of long and short runs, of columns.
FACTORS = {
    "each": ((3, 1100), (3, 1100)),
    "long runs": ((5, 3, 65, 41), (3, 1, 1)),
    "short runs": ((7, 11, 49), (11, 1)),
    "columns": ((41, 301), (301,)),
    "one": ((3, 1100), ()),
}


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_broadcast(engine, name, dtype):
    shape, own = FACTORS[name]
    x, compute = values(shape, dtype), np.dtype(COMPUTED[dtype]).type
    given = np.random.default_rng(3).standard_normal(own)
    with np.errstate(all="ignore"), RoundToNearest():
        z = numbers.numbers("normal", shape, COMPUTED[dtype], Call(*KEY))
        wide, factors = x.astype(compute), np.asarray(given).astype(compute)
        times = (wide * factors).astype(x.dtype)
        scaled = (wide * (compute(1) + factors * z)).astype(x.dtype)
    out = np.empty_like(x)
    with past_caches():
        numbers.noise(Call(*KEY, out=out), x, "factors", (), given)
    assert equal_bytes(out, times)
    assert equal_bytes(numbers.noise(Call(*KEY), x, "scaled", (), given)[0], scaled)
    assert equal_bytes(np.ascontiguousarray(numbers.noise(Call(*KEY), np.asfortranarray(x), "factors", (), given)[0]), times)


@pytest.mark.parametrize("n", [3, 1027])
def test_an_end_before_the_next_cache_line(engine, n):
    """The last elements are fewer than those before the first aligned one, from which on results go past the caches."""
    x = values((n,), "float32")
    wanted = fastdrop.gaussian_noise(x, seed=1)
    for shift in range(LINE // x.itemsize):
        with guarded(n, "float32", shift) as y, past_caches():
            fastdrop.gaussian_noise(x, seed=1, out=y)
        assert equal_bytes(y, wanted)


def test_factors_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"log_alpha has shape \(4,\), which does not broadcast to the shape \(2, 3\)"):
        numbers.noise(Call(*KEY), np.ones((2, 3)), "scaled", (), np.ones(4), other_name="log_alpha")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "shift", "fill"), [(1.25, 0.1, 0.1), (2.0, 0.0, 0.0), (0.0, 0.0, 1.5)])
def test_an_affine_change_with_the_sign(engine, dtype, scale, shift, fill):
    x, compute = values((17, 301), dtype), np.dtype(COMPUTED[dtype]).type
    for shared in (None, 0, 1):
        kept = fastdrop.dropout_mask(x.shape, 0.4, shared_axes=shared, seed=KEY[0], offset=KEY[1])
        with np.errstate(all="ignore"), RoundToNearest():
            wide, s, b, d = x.astype(compute), compute(scale), compute(shift), compute(fill)
            change = np.where(wide > 0, wide * s + b, np.where(wide < 0, wide * s - b, wide * s))
            dropped = np.where(wide > 0, compute(0) - d, np.where(wide < 0, d, compute(0)))
            want = np.where(kept, change, dropped).astype(x.dtype)
        for given in (x, np.repeat(x, 2, axis=-1)[:, ::2]):
            made = Call(*KEY).affine(given, 0.4, (scale, shift, fill), shared, signed=True)
            assert equal_bytes(np.ascontiguousarray(made), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", [-np.inf, -0.0, 0.0])
def test_a_fill_with_a_given_mask(engine, dtype, fill):
    x = values((17, 301), dtype)
    kept = fastdrop.dropout_mask(x.shape, 0.4, seed=KEY[0])
    want = np.where(kept, x, np.array(fill, x.dtype)).astype(x.dtype)
    for mask in (kept, np.packbits(kept, bitorder="little")):
        assert equal_bytes(use_mask(x, mask, 1.0, None, None, None, fill), want)


@pytest.mark.parametrize("temperature", [1 / 100, 1 / 33, 1 / 32, 1 / 32.5, 0.1, 2 / 3, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_any_temperature(engine, temperature, dtype):
    """A temperature whose double inverse is an integer up to 64 gives products and a root; others give exp and log."""
    x = values((700,), dtype)
    made = fastdrop.concrete_dropout(x, 1.0, temperature, seed=5)
    with REFERENCE.using():
        assert equal_bytes(made, fastdrop.concrete_dropout(x, 1.0, temperature, seed=5))


# Rare numbers -------------------------------------------------------------------------------------------------------

# The two words of a float64: in the far tails, at the border between the tails, and the least and the largest of all. As words
# of a float32 these are the numbers next to 0 and the farthest ones.
RARE = [(0, 0), (0xFFF, 0), (0x1000, 0), (2**27, 0), (2**28, 0), (2**29, 0), (2**32 - 1, 2**32 - 1), (0, 2**32 - 1), (7, 2**31)]
RARE += [(0x7FFFFF7F, 1), (0x7FFFFF80, 2), (0x7FFFFFFF, 3), (0x80000000, 4), (0x8000007F, 5), (0x80000080, 6)]


def place_of(pair, seed):
    """Return an offset and a block of the stream that begins with two words.

    Philox is a bijection, so its rounds can be undone for the words and any two others. One pair of these in 65536 gives a
    counter of domain 0.
    """
    w0, w1 = (np.full(2**20, word, np.uint64) for word in pair)
    w2, w3 = np.full(2**20, 5, np.uint64), np.arange(2**20, dtype=np.uint64)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for r in reversed(range(10)):
        c2 = w1 * np.uint64(pow(0xCD9E8D57, -1, 2**32)) & low
        c0 = w3 * np.uint64(pow(0xD2511F53, -1, 2**32)) & low
        c1 = w0 ^ c2 * np.uint64(0xCD9E8D57) >> half ^ np.uint64(seed + r * 0x9E3779B9 & 2**32 - 1)
        c3 = w2 ^ c0 * np.uint64(0xD2511F53) >> half ^ np.uint64((seed >> 32) + r * 0xBB67AE85 & 2**32 - 1)
        w0, w1, w2, w3 = c0, c1, c2, c3
    k = np.flatnonzero(w1 < 2**16)[0]
    return int(w2[k] | w3[k] << half), int(w0[k] | w1[k] << half)


@pytest.mark.parametrize("pair", RARE)
def test_rare_normal_numbers(engine, pair):
    offset, block = place_of(pair, 77)
    assert fastdrop.words(2, seed=77, offset=offset, start=4 * block).tolist() == list(pair)
    for dtype, start in (("float32", 4 * block), ("float64", 2 * block)):
        made = fastdrop.normal(1, seed=77, offset=offset, start=start, dtype=dtype)
        with REFERENCE.using():
            assert equal_bytes(made, fastdrop.normal(1, seed=77, offset=offset, start=start, dtype=dtype))
    u = (2 * ((pair[0] | pair[1] << 32) >> 12) + 1) * 2.0**-53
    assert made[0] == pytest.approx(NormalDist().inv_cdf(u) if u < 0.5 else -NormalDist().inv_cdf(1 - u), rel=1e-13)
