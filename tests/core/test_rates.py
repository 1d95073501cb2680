"""One rate per element: exact to 2**-64, the same bits as a single rate of the same value, and one factor per element."""

import fractions
import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from oracle import fixed, keep, uniform_number
from scipy import stats

import fastdrop
from fastdrop.verify.cases import (
    COMPUTED,
    DTYPES,
    SPECIAL_RATES,
    TILE,
    awkward,
    equal_bytes,
    past_caches,
    special_rates,
    spoiled,
)

KEY = {"seed": 61, "offset": 62}
EXACT = [
    0.0,
    1.0,
    2**-64,
    2**-65,
    2**-66,
    3 * 2**-65,
    3 * 2**-66,
    5 * 2**-65,
    1 - 2**-53,
    *np.float32([0.1, 1 / 3, 1e-30, 1 - 2**-24]),
]


def dropped(shape, p, **more):
    return ~fastdrop.dropout_mask(shape, p, **{**KEY, **more})


# Exactness ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """Elements whose numbers U(i) 2**64 are so small that a double represents them with two more binary digits."""
    (found,) = np.nonzero(dropped(100_000, 2**-13))
    numbers = [uniform_number(*KEY.values(), int(i)) for i in found]
    assert len(found) > 5
    assert max(numbers) < 2**51
    assert {own % 2 for own in numbers} == {0, 1}
    return found, numbers


@pytest.mark.parametrize("quarters", range(-4, 6))
def test_rates_are_rounded_to_nearest_even(engine, small, quarters):
    """A rate this many quarters of 2**-64 above an element's number drops the element only if it rounds to a larger number."""
    found, numbers = small
    p = np.zeros(100_000)
    p[found] = [math.ldexp(4 * own + quarters, -66) for own in numbers]
    wanted = [own < fixed(rate) for own, rate in zip(numbers, p[found].tolist(), strict=True)]
    lost = dropped(p.shape, p)
    assert lost[found].tolist() == wanted
    assert lost.sum() == sum(wanted)


@pytest.mark.parametrize("p", EXACT, ids=str)
def test_special_rates_against_the_oracle(engine, p):
    n = 700
    for rates in (np.full(n, p), np.full(1, p)):
        assert fastdrop.dropout_mask(n, rates, **KEY, start=2**40).tolist() == keep(*KEY.values(), 2**40, n, p)


# One rate and many --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates_dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (41, 1, 1), (3, 5), (41, 1, 5), (41, 3, 5), (1, 1, 1)])
def test_the_bits_of_one_rate(engine, shape, rates_dtype):
    """With one rate per element, channel or sample, each decision is that of a single rate of the same value."""
    whole = (41, 3, 5)
    for block in range(0, 26, 5):  # each of the values in some place
        p = np.resize(np.roll(np.array(SPECIAL_RATES, rates_dtype), -block), shape)
        lost, rates = dropped(whole, p), np.broadcast_to(p, whole)
        for rate in np.unique(p):
            same = rates == rate
            assert np.array_equal(lost[same], dropped(whole, float(rate))[same])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rates_dtype", ["float32", "float64"])
def test_factors(engine, dtype, rates_dtype):
    """The factor 1 / (1 - p) of each element is computed in double and rounded once to the compute type."""
    x, p = awkward(2 * TILE + 9, dtype), special_rates((2 * TILE + 9,), rates_dtype)
    lost = dropped(p.shape, p)
    with np.errstate(all="ignore"):
        factors = (1 / (1 - p.astype(np.float64))).astype(COMPUTED[dtype])
        wanted = np.where(lost, np.zeros(1, dtype), (x.astype(COMPUTED[dtype]) * factors).astype(dtype))
    assert equal_bytes(fastdrop.dropout(x, p, **KEY), wanted)
    assert equal_bytes(fastdrop.dropout_backward(x, p, **KEY), wanted)
    assert equal_bytes(fastdrop.dropout(x, p, mode="standard", **KEY), np.where(lost, np.zeros(1, dtype), x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_rate_in_every_place_is_one_rate(engine, dtype):
    x = awkward(3 * TILE + 5, dtype)
    for p in (0.0, 0.1, 0.5, 1.0):
        y = fastdrop.dropout(x, p, start=99, **KEY)
        assert equal_bytes(fastdrop.dropout(x, np.full(x.shape, p), start=99, **KEY), y)
        assert equal_bytes(fastdrop.dropout(x, np.full(1, p), start=99, **KEY), y)
        assert equal_bytes(fastdrop.dropout(x, np.array(p), start=99, **KEY), y)


def test_certain_rates_beside_others(engine):
    x = np.resize(np.array([np.nan, -np.inf, -0.0, 3.0], np.float32), 1000)
    p = np.resize(np.array([0.0, 1.0, 0.5]), 1000)
    y = fastdrop.dropout(x, p, **KEY)
    assert equal_bytes(y[p == 0], x[p == 0])
    assert not y[p == 1].view(np.uint32).any()


def test_masks_are_nested(engine):
    p = np.sort(np.random.default_rng(1).random((6, 5000)), axis=0)
    masks = [dropped(5000, rates) for rates in p]
    for less, more in itertools.pairwise(masks):
        assert not (less & ~more).any()
        assert (more & ~less).any()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("start", [0, 1, 5, 127])
def test_long_masks_of_rates(engine, start, packed):
    p = np.random.default_rng(2).random(start + 3 * TILE + 3)
    whole, part = dropped(p.size, p), fastdrop.dropout_mask(p.size - start, p[start:], start=start, packed=packed, **KEY)
    kept = np.unpackbits(part, count=p.size - start, bitorder="little") if packed else part
    assert np.array_equal(kept == 0, whole[start:])


@pytest.mark.parametrize(
    "layout",
    [
        lambda p: p[::-1].copy()[::-1],
        lambda p: np.asfortranarray(p),
        lambda p: np.repeat(p, 2, axis=1)[:, ::2],
        lambda p: p.astype(p.dtype.newbyteorder()),
        lambda p: np.frombuffer(b"\0" + p.tobytes(), np.uint8)[1:].view(p.dtype).reshape(p.shape),
    ],
    ids=["reversed", "Fortran", "every other", "byte-swapped", "misaligned"],
)
@pytest.mark.parametrize("rates_dtype", ["float32", "float64"])
def test_rates_lie_in_memory_as_they_like(engine, layout, rates_dtype):
    p = special_rates((70, 63), rates_dtype)
    x = awkward(70 * 63, "float32").reshape(70, 63)
    y = fastdrop.dropout(x, p, **KEY)
    assert equal_bytes(fastdrop.dropout(x, layout(p), **KEY), y)
    assert equal_bytes(fastdrop.dropout(np.asfortranarray(x), layout(p), **KEY), y)


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint64", "longdouble"])
def test_other_real_types_of_rates(engine, dtype):
    p = np.resize(np.array([0, 1] if np.dtype(dtype).kind in "iu" else [0, 0.25, 0.1, 1], dtype), 300)
    assert np.array_equal(dropped(300, p), dropped(300, p.astype(np.float64)))


@pytest.mark.parametrize("type", [np.float16, np.float32, ml_dtypes.bfloat16, fractions.Fraction])
def test_one_rate_of_another_real_type(engine, type):
    for given in (type(1), np.array(type(1))):
        assert not fastdrop.dropout(np.ones(5), given, **KEY).any()
        assert (fastdrop.apply_mask(np.ones(5), np.ones(5, bool), given) == 1).all()


@pytest.mark.parametrize("flag", [True, False, np.bool_(True), np.array(False)])
def test_flags_are_no_rates(flag):
    with pytest.raises(TypeError, match="p must be"):
        fastdrop.dropout(np.ones(5), flag, seed=1)


def test_rates_may_be_overwritten_by_the_result(engine):
    for shift in (-3, 0, 2, 40):
        memory = np.resize(np.array([0.0, 0.25, 0.5, 0.9, 1.0]), 5000)
        x, p, out = np.linspace(1, 2, 4900), memory[50:4950], memory[50 + shift : 4950 + shift]
        y = fastdrop.dropout(x, p.copy(), **KEY)
        assert fastdrop.dropout(x, p, out=out, **KEY) is out
        assert equal_bytes(out, y)
        single = np.resize(np.float32([0.0, 0.25, 0.5, 1.0]), 4900)
        z = fastdrop.dropout(single, single.copy(), **KEY)
        fastdrop.dropout(single, single, out=single, **KEY)
        assert equal_bytes(single, z)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True])
def test_rates_may_be_overwritten_by_the_mask(engine, dtype, packed):
    shape, size = (1, 8192), 1024 if packed else 8192
    p = np.resize(np.array([0.25, 0.5, 0.9], dtype), shape)
    wanted = fastdrop.dropout_mask(shape, p, packed=packed, **KEY)
    for begin in (0, 3 * size, p.nbytes - size):
        given = p.copy()
        out = given.view(np.uint8)[0, begin : begin + size]
        out = out if packed else out.view(np.bool_).reshape(shape)
        assert equal_bytes(fastdrop.dropout_mask(shape, given, packed=packed, out=out, **KEY), wanted)


# In the mean, and the gradient --------------------------------------------------------------------------------------


def test_each_rate_drops_its_share(engine):
    p = np.array([0.001, 0.05, 0.3, 0.5, 0.77, 0.999])
    counts = dropped((40_000, 6), p).sum(axis=0)
    for count, rate in zip(counts.tolist(), p.tolist(), strict=True):
        assert stats.binomtest(count, 40_000, rate).pvalue > 1e-6


def test_expected_value_and_variance(engine):
    """E[y] = x and Var[y] = x**2 p / (1 - p) hold for each element with its own p."""
    n, p, x = 40_000, np.array([0.1, 0.3, 0.5, 0.8]), np.array([1.0, -2.0, 3.0, 0.5])
    y = fastdrop.dropout(np.broadcast_to(x, (n, 4)), p, **KEY)
    variance = x**2 * p / (1 - p)
    assert (np.abs(y.mean(axis=0) - x) < 5 * np.sqrt(variance / n)).all()
    fourth = (x**4) * (p + (p / (1 - p)) ** 4 * (1 - p))  # of y - x: -x where dropped, x p / (1 - p) where kept
    assert (np.abs(((y - x) ** 2).mean(axis=0) - variance) < 5 * np.sqrt((fourth - variance**2) / n) + 1e-12).all()


@pytest.mark.parametrize("mode", ["inverted", "standard"])
def test_gradient_by_finite_differences(engine, mode):
    p, x = np.array([0.0, 0.2, 0.5, 1.0]), np.linspace(-1, 1, 40).reshape(10, 4)
    grad = np.linspace(1, 3, 40).reshape(10, 4)
    gradient = fastdrop.dropout_backward(grad, p, mode=mode, **KEY)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = 2**-10
        higher, lower = (fastdrop.dropout(x + sign * step, p, mode=mode, **KEY) for sign in (1, -1))
        assert np.isclose(((higher - lower) * grad).sum() * 2**9, gradient[i], rtol=1e-9, atol=1e-12)


# Outside training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_standard_outside_training(engine, dtype):
    """Each element is multiplied by its own 1 - p; if p is 1 the result is +0.0, also for infinite and negative elements."""
    x, p = awkward(1000, dtype), special_rates((1000,))
    with np.errstate(all="ignore"):
        wanted = (x.astype(COMPUTED[dtype]) * (1 - p).astype(COMPUTED[dtype])).astype(dtype)
    wanted[p == 1] = 0
    for out in (None, np.empty_like(x), x.copy()):
        y = fastdrop.dropout(x, p, training=False, mode="standard", out=out)
        assert equal_bytes(y, wanted)
        assert out is None or y is out
    with spoiled():
        y = fastdrop.dropout(x, p, training=False, mode="standard")
    assert equal_bytes(y, wanted)


def test_inverted_outside_training_is_the_input():
    x = awkward(10, "float32")
    assert fastdrop.dropout(x, np.full(10, 0.5), training=False) is x


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # NumPy's warning about its matrix class
def test_subclasses_outside_training():
    """A subclass's own product is not used: np.matrix would multiply matrices, and a masked array would skip values."""
    values, p = np.linspace(1, 2, 6).reshape(2, 3), np.array([0.25, 0.5, 1.0])
    for x in (np.matrix(values), np.ma.masked_greater(values, 1.5)):
        for training in (True, False):
            y = fastdrop.dropout(x, p, mode="standard", training=training, **KEY)
            plain = fastdrop.dropout(values, p, mode="standard", training=training, **KEY)
            assert type(y) is type(x)
            assert equal_bytes(np.asarray(y), plain)
            if isinstance(x, np.ma.MaskedArray):
                assert np.array_equal(y.mask, x.mask)


# Hostile floating point ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates_dtype", ["float32", "float64"])
def test_in_a_hostile_environment(engine, small, rates_dtype):
    found, numbers = small
    p = np.zeros(100_000)
    p[found] = [math.ldexp(4 * own + 3, -66) for own in numbers]
    p[:1000] = special_rates((1000,), rates_dtype)
    lost, y = dropped(p.shape, p), fastdrop.dropout(np.ones(p.size), p, **KEY)
    with spoiled():
        assert np.array_equal(dropped(p.shape, p), lost)
        spoilt = fastdrop.dropout(np.ones(p.size), p, **KEY)
    assert equal_bytes(spoilt, y)


# Runs of elements that share a rate ---------------------------------------------------------------------------------

RUNS = {
    "maps": ((3, 5, 17, 19), (5, 1, 1)),
    "maps past a tile": ((2, 3, 65, 70), (1, 3, 1, 1)),
    "samples": ((4, 3, 301), (4, 1, 1)),
    "short": ((7, 11, 49), (11, 1)),
    "one run": ((2, 5000), (1, 1)),
    "columns": ((301, 40), (40,)),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("rates_dtype", ["float32", "float64"])
def test_a_run_has_the_rate_of_each_of_its_elements(engine, name, rates_dtype):
    shape, own = RUNS[name]
    p = special_rates(own, rates_dtype)
    each = np.ascontiguousarray(np.broadcast_to(p, shape))
    whole = tuple(2 * size + 1 for size in shape)
    ways = [{}, {"start": 77}, {"shared_axes": -1}, {"global_shape": whole, "global_start": [1] * len(shape)}]
    for k, way in enumerate(ways):
        dtype = DTYPES[k % len(DTYPES)]
        x = awkward(math.prod(shape), dtype).reshape(shape)
        for packed in (False, True):
            made = fastdrop.dropout_mask(shape, p, packed=packed, **KEY, **way)
            assert np.array_equal(made, fastdrop.dropout_mask(shape, each, packed=packed, **KEY, **way))
        for more in ({}, {"mode": "standard"}, {"residual": x[::-1].copy()}):
            for order in (x, np.asfortranarray(x)):
                assert equal_bytes(
                    fastdrop.dropout(order, p, **KEY, **way, **more), fastdrop.dropout(order, each, **KEY, **way, **more)
                )


@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_of_a_rate_past_the_caches(dtype):
    shape, own = (5, 3, 65, 41), (3, 1, 1)
    p = special_rates(own)
    x = awkward(math.prod(shape) + 1, dtype)[1:].reshape(shape)
    want = fastdrop.dropout(x, np.ascontiguousarray(np.broadcast_to(p, shape)), **KEY)
    with past_caches():
        for lead in range(3):
            out = np.empty(x.size + lead, x.dtype)[lead:].reshape(shape)
            assert equal_bytes(fastdrop.dropout(x, p, out=out, **KEY), want)


@pytest.mark.parametrize("p", [-0.0, np.float32(-0.0), np.full(300, -0.0)], ids=["number", "float32", "array"])
def test_minus_zero_is_the_rate_zero(p):
    x = np.arange(1, 301, dtype=np.float32)
    assert equal_bytes(fastdrop.dropout(x, p, **KEY), x)
