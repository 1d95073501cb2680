"""Compare the library with the stream's definition in Python integers, and the definition with other implementations."""

import hashlib
import math
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
import randomgen
from hypothesis import example, given, settings
from oracle import PLANES, fixed, fold_in, keep, philox, uniform_number, word

import fastdrop
from fastdrop._core.backends import reference

integers64 = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 64).map(lambda k: max(0, 2**k - 1)))
rates = st.one_of(
    st.floats(0, 1),
    st.integers(0, 70).map(lambda k: 2.0**-k),
    st.integers(1, 53).map(lambda k: 1 - 2.0**-k),
)


# Masks --------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(integers64, integers64, st.integers(0, 2**55 - 150), st.integers(0, 150), rates)
@example(0, 0, 2**39 - 60, 150, 0.3)
@example(2**64 - 1, 2**64 - 1, 2**55 - 150, 150, 0.9)
def test_masks(engine, seed, offset, start, n, p):
    mask = fastdrop.dropout_mask(n, p, seed=seed, offset=offset, start=start)
    assert mask.tolist() == keep(seed, offset, start, n, p)


def test_a_rate_beside_an_elements_own_number(engine):
    """The two doubles around U(i) agree with it in their first 53 digits, so 53 planes are compared."""
    for i in range(200, 330):
        own = uniform_number(5, 6, i)
        above = float(Fraction(own, 2**64))
        if fixed(above) <= own:
            above = math.nextafter(above, 1)
        below = math.nextafter(above, 0)
        assert fixed(below) <= own < fixed(above)
        assert fastdrop.dropout_mask(1, below, seed=5, offset=6, start=i).item()
        assert not fastdrop.dropout_mask(1, above, seed=5, offset=6, start=i).item()


def test_a_rate_equal_to_an_elements_own_number(engine):
    """Below 2**-11 a double can equal U(i): the element is kept at this rate and dropped at the rate 2**-64 above it."""
    n = 40_000
    (small,) = np.nonzero(~fastdrop.dropout_mask(n, 2**-11, seed=8))
    assert len(small) > 5
    for i in map(int, small):
        own = uniform_number(8, 0, i)
        assert own < 2**53
        equal, above = own / 2**64, (own + 1) / 2**64
        assert fastdrop.dropout_mask(1, equal, seed=8, start=i).item()
        assert not fastdrop.dropout_mask(1, above, seed=8, start=i).item()
        changed = fastdrop.dropout_mask(n, equal, seed=8) != fastdrop.dropout_mask(n, above, seed=8)
        assert np.flatnonzero(changed).tolist() == [i]


@settings(max_examples=300)
@given(st.one_of(rates, st.integers(0, 2**12).map(lambda k: k * 2.0**-66)))
@example(2**-65)
@example(3 * 2**-65)
@example(5e-324)
@example(1 - 2**-53)
def test_rates_are_rounded_once_to_nearest_even(p):
    got = []

    def spy(seed, offset, rate, first, n, out):
        got.append(rate)

    with pytest.MonkeyPatch.context() as patch, fastdrop.using(backend="numpy"):
        patch.setattr(reference, "keep_bits", spy)
        fastdrop.dropout_mask(8, p, seed=0, packed=True)
    assert got == [fixed(p)]


# Values -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(rates, st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=40))
def test_float32_values_are_rounded_once(engine, p, values):
    x = np.array(values, np.float32)
    scale = np.float32(1 / (1 - p)) if p < 1 else np.float32(0)
    y = fastdrop.dropout(x, p, seed=9)
    for kept, value, result in zip(keep(9, 0, 0, x.size, p), x, y, strict=True):
        with np.errstate(over="ignore"):  # the product is exact in float64
            want = np.float32(float(value) * float(scale)) if kept else np.float32(0)
        assert result.tobytes() == want.tobytes()


@settings(max_examples=40)
@given(rates.filter(lambda p: p < 1), st.lists(st.floats(-1e290, 1e290), min_size=1, max_size=40))
def test_float64_values_are_rounded_once(engine, p, values):
    x = np.array(values)
    scale = 1 / (1 - p)
    y = fastdrop.dropout(x, p, seed=10)
    for kept, value, result in zip(keep(10, 0, 0, x.size, p), values, y.tolist(), strict=True):
        want = math.copysign(float(Fraction(value) * Fraction(scale)), value) if kept else 0.0
        assert (result, math.copysign(1, result)) == (want, math.copysign(1, want))


# Words, uniforms, keys ----------------------------------------------------------------------------------------------


@given(integers64, integers64, st.integers(0, 2**50 - 50), st.integers(0, 50))
def test_words(engine, seed, offset, start, n):
    words = fastdrop.words(n, seed=seed, offset=offset, start=start)
    assert words.tolist() == [word(seed, offset, i) for i in range(start, start + n)]


@given(integers64, integers64, st.integers(0, 2**49 - 50), st.integers(0, 50))
def test_uniforms(engine, seed, offset, start, n):
    singles = fastdrop.uniform(n, seed=seed, offset=offset, start=start)
    doubles = fastdrop.uniform(n, seed=seed, offset=offset, start=start, dtype=np.float64)
    for i, single, double in zip(range(start, start + n), singles.tolist(), doubles.tolist(), strict=True):
        pair = word(seed, offset, 2 * i) | word(seed, offset, 2 * i + 1) << 32
        assert single == Fraction(2 * (word(seed, offset, i) >> 9) + 1, 2**24)
        assert double == Fraction(2 * (pair >> 12) + 1, 2**53)


@given(integers64, integers64)
@example(2**64 - 1, 2**48)
def test_derived_keys(engine, seed, data):
    assert fastdrop.fold_in(seed, data) == fold_in(seed, data)


@pytest.mark.parametrize("name", ["", "encoder.0", "Schicht λ", "x" * 1000])
def test_keys_derived_from_names(engine, name):
    number = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "little")
    assert fastdrop.fold_in(11, name) == fold_in(11, number)


# randomgen, which counts before it uses its counter -----------------------------------------------------------------


def randomgen_words(seed, counter, n):
    generator = randomgen.Philox(key=seed, counter=(counter - 1) % 2**128, number=4, width=32)
    return generator.random_raw(n).tolist()


@pytest.mark.parametrize("offset", [0, 1, 2**32 - 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("seed", [0, 42, 2**32, 2**64 - 1])
def test_words_are_randomgens(engine, seed, offset):
    for block in (0, 1, 2**32 - 3, 2**48 - 50):
        words = fastdrop.words(200, seed=seed, offset=offset, start=4 * block)
        assert words.tolist() == randomgen_words(seed, block + (offset << 64), 200)


def test_planes_are_randomgens(engine):
    """At p = 1/2 an element is kept if its digit in plane 0 is 1."""
    for block in (0, 7, 2**32 - 3, 2**48 - 8):
        packed = fastdrop.dropout_mask(8 * 128, 0.5, seed=12, offset=13, start=128 * block, packed=True)
        counter = block | PLANES << 56 | 13 << 64
        assert packed.view("<u4").tolist() == randomgen_words(12, counter, 32)


def test_the_oracle_knows_a_published_vector():
    """Check the second known answer of Random123, in which all bits of counter and key are set."""
    words = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    block = philox(2**64 - 1, 2**64 - 1, 2**48 - 1, 0xFF, 0xFF)
    assert [block >> 32 * k & 0xFFFFFFFF for k in range(4)] == words
