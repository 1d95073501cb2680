"""What noise does to elements: blocks of a larger array, factors that broadcast, changes with an element's own sign."""

import numpy as np
import pytest

import fastdrop
from fastdrop._core import numbers
from fastdrop._core.backends import reference
from fastdrop._core.plan import Call, RoundToNearest, apply_mask
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
        assert equal_bytes(apply_mask(x, mask, 1.0, None, None, None, fill), want)
