"""float16 and bfloat16 give the results of float32 arithmetic, rounded once: all 65,536 values, against integer arithmetic."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

import fastdrop
from fastdrop._core import plan
from fastdrop.verify.cases import DTYPES, awkward, equal_bytes, spoiled

HALVES = [dtype for dtype in DTYPES if np.dtype(dtype).itemsize == 2]
DIGITS = {"float16": (11, -14, 15), "bfloat16": (8, -126, 127)}  # of the significand; least and largest exponent
KEY = {"seed": 71, "offset": 72}
SCALES = (1.0, 0.5, 1.5, 3.0, 1 / 3, 0.999, 2**-11, 2**-24, 1 + 2**-7, 1 + 2**-11, 1000.0, -1.0, 1e-30, 1e30)


@pytest.fixture(params=HALVES)
def every(request):
    """All values, including zeros, subnormals, infinities and NaNs."""
    return np.arange(2**16, dtype=np.uint16).view(request.param)


def exact(x):
    """Return the values in float32, which represents all of them, by integer arithmetic on the bits."""
    digits, least, most = DIGITS[x.dtype.name]
    bits = x.view(np.uint16).astype(np.int64)
    sign, exponent = np.where(bits >> 15, -1.0, 1.0), (bits & 0x7FFF) >> digits - 1
    fraction = bits & 2 ** (digits - 1) - 1
    value = np.ldexp((fraction + np.where(exponent > 0, 2 ** (digits - 1), 0)).astype(float),
                     np.maximum(exponent, 1) - 1 + least - (digits - 1))  # fmt: skip
    value = np.where(exponent == most - least + 2, np.where(fraction == 0, np.inf, np.nan), value)
    return (sign * value).astype(np.float32)


def rounded(values, dtype):
    """Return the bits of float32 values rounded to nearest even, by integer arithmetic; overflow gives infinity."""
    digits, least, most = DIGITS[dtype]
    bits = values.astype(np.float32).view(np.uint32).astype(np.int64)
    sign, magnitude = bits >> 31 << 15, bits & 0x7FFFFFFF
    exponent = np.maximum(magnitude >> 23, 1)
    significand = (magnitude & 0x7FFFFF) + np.where(magnitude >> 23, 0x800000, 0)  # times 2**(exponent - 150)
    last = np.maximum(exponent - 127, least) - (digits - 1)  # the exponent of the last place
    away = np.minimum(last - (exponent - 150), 40)  # digits to be rounded away
    whole, rest, half = significand >> away, significand & (1 << away) - 1, 1 << away >> 1
    whole = whole + ((away > 0) & ((rest > half) | ((rest == half) & (whole & 1 == 1))))
    encoded = whole + (last + digits - 1 - least << digits - 1)  # a carry goes to the exponent, as it should
    infinite = most - least + 2 << digits - 1
    encoded = np.where(magnitude >= 0x7F800000, infinite, np.minimum(encoded, infinite))
    encoded = np.where(magnitude > 0x7F800000, infinite + 1, encoded)
    return (sign | encoded).astype(np.uint16).view(dtype)


def multiplied(x, scale):
    """Return float32(x) * float32(scale) rounded once more; the product is exact in double."""
    with np.errstate(all="ignore"):
        product = (exact(x).astype(np.float64) * float(np.float32(scale))).astype(np.float32)
        return rounded(product, x.dtype.name)


# The transcriptions -------------------------------------------------------------------------------------------------


def test_the_transcriptions_agree_with_numpy(every):
    """Compare with exact fractions too, so that none of the three can be wrong alone."""
    dtype = every.dtype
    assert equal_bytes(exact(every), every.astype(np.float32))
    assert equal_bytes(rounded(exact(every), dtype.name), every)
    middles = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        assert equal_bytes(rounded(middles, dtype.name), middles.astype(dtype))
    finite = np.unique(exact(every)[np.isfinite(exact(every))])
    between = finite[5000:5200].astype(np.float64)
    for low, high in itertools.pairwise(between):
        half = Fraction((low + high) / 2)
        for point in (np.float32(half), np.nextafter(np.float32(half), np.float32(np.inf))):
            nearer_to_high = Fraction(float(point)) > half
            got = rounded(np.float32([point]), dtype.name)
            assert exact(got)[0] == high if nearer_to_high else exact(got)[0] in (low, high)


# All values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [False, True], ids=["usual", "hostile"])
@pytest.mark.parametrize("scale", SCALES)
def test_every_value_times_a_scale(engine, every, scale, hostile):
    """Test ties, overflow and subnormals of the value, of the product and of the result."""
    kept = np.ones(every.size, bool)
    wanted = multiplied(every, scale)
    if hostile:
        with spoiled():
            y = fastdrop.apply_mask(every, kept, scale)
    else:
        y = fastdrop.apply_mask(every, kept, scale)
    assert equal_bytes(y, wanted)


@pytest.mark.parametrize("payload", [0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x7FF8000020000000])
def test_a_scale_that_is_nan_makes_nan_whatever_its_payload(engine, every, payload):
    scale = np.array(payload, np.uint64).view(np.float64)[()]
    with engine.using():
        y = fastdrop.apply_mask(every, np.ones(every.shape, bool), scale=scale)
    assert np.isnan(exact(y)).all()


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999, 1 - 2**-20])
def test_every_value_through_dropout(engine, every, p):
    """The scale is 1 / (1 - p) in float32, not in the narrow type."""
    kept = fastdrop.dropout_mask(every.shape, p, **KEY)
    wanted = np.where(kept, multiplied(every, 1 / (1 - p)), np.zeros(1, every.dtype))
    assert equal_bytes(fastdrop.dropout(every, p, **KEY), wanted)
    assert equal_bytes(fastdrop.dropout_backward(every, p, **KEY), wanted)
    assert equal_bytes(fastdrop.dropout(every, np.full(every.shape, p), **KEY), wanted)
    assert equal_bytes(fastdrop.dropout(every, np.full(1, p, np.float64), **KEY), wanted)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_every_value_outside_training(engine, every, p):
    wanted = multiplied(every, 1 - p)
    assert equal_bytes(fastdrop.dropout(every, p, mode="standard", training=False), wanted)
    assert equal_bytes(fastdrop.dropout(every, np.full(1, p), mode="standard", training=False), wanted)


def test_every_value_selected(engine, every):
    """Without arithmetic nothing changes, and a NaN stays a NaN."""
    kept = fastdrop.dropout_mask(every.shape, 0.5, **KEY)
    y = plan.Call(**KEY).select(every, 0.5, every[::-1])
    assert equal_bytes(y, np.where(kept, every, every[::-1]))
    assert equal_bytes(fastdrop.dropout(every, 0.0, **KEY), every)


@pytest.mark.parametrize("hostile", [False, True], ids=["usual", "hostile"])
def test_one_rounding_at_the_end(engine, every, hostile):
    """The parts of (x + bias) * scale + residual are rounded to float32, not to the narrow type."""
    dtype = every.dtype.name
    x, bias, residual = (np.roll(every, by) for by in (0, 4097, 33333))
    with np.errstate(all="ignore"):
        value = ((exact(x) + exact(bias)) * np.float32(1 / 0.7)).astype(np.float32)
        value = np.where(fastdrop.dropout_mask(every.shape, 0.3, **KEY), value, np.float32(0))
        wanted = rounded(exact(residual) + value, dtype)
        roundings = rounded(exact(residual) + exact(rounded(value, dtype)), dtype)
    if hostile:
        with spoiled():
            y = fastdrop.dropout(x, 0.3, bias=bias, residual=residual, **KEY)
    else:
        y = fastdrop.dropout(x, 0.3, bias=bias, residual=residual, **KEY)
    assert equal_bytes(y, wanted)
    assert not equal_bytes(roundings, wanted)  # the difference shows on these values


# Their like ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES)
def test_a_mask_is_the_one_of_float32(engine, dtype):
    x = np.ones(5000, dtype)
    y = fastdrop.dropout(x, 0.3, **KEY)
    assert y.dtype == x.dtype
    assert np.array_equal(y != 0, fastdrop.dropout(np.ones(5000, np.float32), 0.3, **KEY) != 0)


@pytest.mark.parametrize("dtype", HALVES)
def test_small_rates_are_not_rounded_to_the_type(engine, dtype):
    """A uniform with eight bits would drop none or 0.4 % instead of 0.1 %."""
    lost = (fastdrop.dropout(np.ones(400_000, dtype), 0.001, **KEY) == 0).sum()
    assert 300 < lost < 500  # 400, with a deviation of 20


@pytest.mark.parametrize("dtype", HALVES)
def test_lists_and_mixed_types(engine, dtype):
    x, name = awkward(50, dtype), {"float16": "<f2"}.get(np.dtype(dtype).name, "bfloat16")
    with pytest.raises(TypeError, match=f"out must have the dtype of the input, '{name}'; got '<f4'"):
        fastdrop.dropout(x, 0.5, out=np.empty(50, np.float32), **KEY)
    with pytest.raises(TypeError, match=f"residual must have the dtype of the input, '{name}'; got '<f4'"):
        fastdrop.dropout(x, 0.5, residual=np.empty(50, np.float32), **KEY)
    with pytest.raises(TypeError, match=f"residual must have the dtype of the input, '<f4'; got '{name}'"):
        fastdrop.dropout(np.empty(50, np.float32), 0.5, residual=x, **KEY)
    for other in set(HALVES) - {dtype}:  # the other type of the same size
        with pytest.raises(TypeError, match="out must have the dtype of the input"):
            fastdrop.dropout(x, 0.5, out=np.empty(50, other), **KEY)
    y = fastdrop.dropout(x, 0.0, residual=[1.0] * 50, seed=1)
    assert equal_bytes(y, fastdrop.dropout(x, 0.0, residual=np.ones(50, dtype), seed=1))


def test_byte_swapped_float16_is_refused():
    with pytest.raises(TypeError, match=r"x must have this machine's byte order; got dtype '>f2'"):
        fastdrop.dropout(np.ones(5, ">f2"), seed=1)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "int4"])
def test_other_types_of_ml_dtypes_are_refused(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.ones(5, getattr(ml_dtypes, name))
    with pytest.raises(TypeError, match=f"x must have a floating-point dtype: .*bfloat16 .*; got {name}"):
        fastdrop.dropout(x, seed=1)
