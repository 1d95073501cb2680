"""The definition of dropout: modes, training, the ends of the rate, expectation, and the gradient."""

import inspect

import numpy as np
import pytest
from scipy import stats

import fastdrop
from fastdrop.verify.cases import COMPUTED, DTYPES, awkward, equal_bytes

KEY = {"seed": 41, "offset": 42}
RATES = (0.1, 0.5, 0.9)
LEAST = 1e-6  # p-value; the seeds are fixed


def mask(x, p):
    return fastdrop.dropout_mask(x.shape, p, **KEY)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", RATES)
def test_inverted_scales_what_it_keeps(engine, p, dtype):
    x = awkward(1000, dtype)
    y = fastdrop.dropout(x, p, **KEY)
    with np.errstate(all="ignore"):
        scaled = (x.astype(COMPUTED[dtype]) * np.dtype(COMPUTED[dtype]).type(1 / (1 - p))).astype(dtype)
    assert equal_bytes(y, np.where(mask(x, p), scaled, x.dtype.type(0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", RATES)
def test_standard_keeps_values_as_they_are(engine, p, dtype):
    x = awkward(1000, dtype)
    y = fastdrop.dropout(x, p, mode="standard", **KEY)
    assert equal_bytes(y, np.where(mask(x, p), x, x.dtype.type(0)))


def test_flags_of_numpy():
    x = awkward(100, "float32")
    assert fastdrop.dropout(x, 0.5, training=np.False_, **KEY) is x
    assert equal_bytes(fastdrop.dropout(x, 0.5, training=np.True_, **KEY), fastdrop.dropout(x, 0.5, **KEY))


def test_dropped_is_positive_zero(engine):
    for value in (np.nan, -np.nan, np.inf, -np.inf, -1.0, -0.0, 5e-324):
        x = np.full(200, value)
        y = fastdrop.dropout(x, 0.5, **KEY)
        assert not y[~mask(x, 0.5)].view(np.uint64).any()
        assert y[mask(x, 0.5)].view(np.uint64).any()


# Outside training ---------------------------------------------------------------------------------------------------


def test_inverted_outside_training_returns_the_input_itself(engine):
    x = awkward(10, "float32")
    assert fastdrop.dropout(x, 0.5, training=False) is x
    assert fastdrop.dropout_backward(x, 0.5, seed=1, training=False) is x
    assert fastdrop.dropout(x, 1.0, training=False) is x


def test_inverted_outside_training_copies_to_an_output(engine):
    x = awkward(10, "float32")
    out = np.empty_like(x)
    assert fastdrop.dropout(x, 0.5, training=False, out=out) is out
    assert equal_bytes(out, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, *RATES])
def test_standard_outside_training_scales_all(engine, p, dtype):
    x = awkward(1000, dtype)
    y = fastdrop.dropout(x, p, training=False, mode="standard")
    with np.errstate(all="ignore"):
        assert equal_bytes(y, (x.astype(COMPUTED[dtype]) * np.dtype(COMPUTED[dtype]).type(1 - p)).astype(dtype))
    assert y is not x


def test_nothing_is_drawn_outside_training():
    stream = fastdrop.Stream(1)
    for mode in ("inverted", "standard"):
        fastdrop.dropout(np.ones(3), seed=stream, training=False, mode=mode)
    assert stream.offset == 0


# The ends of the rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["inverted", "standard"])
def test_rate_0_gives_a_new_array(engine, mode):
    x = awkward(1000, "float32")
    for p in (0, 0.0, -0.0):
        y = fastdrop.dropout(x, p, mode=mode, **KEY)
        assert equal_bytes(y, x)
        assert not np.shares_memory(x, y)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["inverted", "standard"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rate_1_gives_zeros(engine, dtype, mode, training):
    x = awkward(1000, dtype)
    y = fastdrop.dropout(x, 1.0, mode=mode, training=training, **KEY)
    if mode == "inverted" and not training:
        assert y is x
    else:
        assert equal_bytes(y, np.zeros_like(x))


def test_rates_may_be_any_real_number(engine):
    x = np.ones(100)
    y = fastdrop.dropout(x, 0.5, **KEY)
    for p in (np.float32(0.5), np.array(0.5), np.float16(0.5)):
        assert equal_bytes(fastdrop.dropout(x, p, **KEY), y)
    assert not fastdrop.dropout(x, np.int64(1), **KEY).any()


# Expectation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", RATES)
def test_expected_value_and_variance(p):
    """E[y] = x and Var[y] = x**2 p / (1 - p) hold for several values over many draws."""
    x = np.array([-3.0, 0.25, 1.0, 1e4])
    draws = 2**16
    y = fastdrop.dropout(np.tile(x, (draws, 1)), p, seed=43)
    scores = (y.mean(axis=0) - x) / np.sqrt(x**2 * p / (1 - p) / draws)
    assert 2 * stats.norm.sf(abs(scores).max()) > LEAST / x.size
    for kept in (y != 0).sum(axis=0):  # a two-point variable: the counts determine its variance
        assert stats.binomtest(int(kept), draws, 1 - p).pvalue > LEAST
    assert np.allclose(y.var(axis=0), x**2 * p / (1 - p), rtol=0.1)


def test_standard_mode_has_one_expectation_in_and_out_of_training():
    x = np.full(2**18, 2.0)
    inside = fastdrop.dropout(x, 0.3, mode="standard", seed=44).mean()
    outside = fastdrop.dropout(x, 0.3, mode="standard", training=False).mean()
    assert abs(inside - outside) < 4.9 * 2 * np.sqrt(0.3 * 0.7 / x.size)


# The gradient -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["inverted", "standard"])
@pytest.mark.parametrize("training", [True, False])
def test_backward_is_forward_on_the_same_key(engine, mode, training):
    x = awkward(5000, "float32")
    options = {"mode": mode, "training": training, "start": 9, **KEY}
    assert equal_bytes(fastdrop.dropout_backward(x, 0.3, **options), fastdrop.dropout(x, 0.3, **options))


@pytest.mark.parametrize("mode", ["inverted", "standard"])
@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_gradient(mode, training):
    """The gradient of f(x) = sum(w * dropout(x)) equals central differences; the step is a power of two and f is linear."""
    x, w = np.linspace(-1, 1, 60), np.linspace(2, 3, 60)
    options = {"mode": mode, "training": training, **KEY}
    step = 2.0**-10
    nudged = [x + sign * step * np.eye(x.size) for sign in (1, -1)]
    above, below = ([w @ fastdrop.dropout(row, 0.4, **options) for row in rows] for rows in nudged)
    differences = (np.array(above) - np.array(below)) / (2 * step)
    assert np.allclose(fastdrop.dropout_backward(w, 0.4, **options), differences, atol=1e-9)


def test_backward_writes_in_place(engine):
    grad = np.ones(1000)
    wanted = fastdrop.dropout(grad, 0.3, **KEY)
    assert fastdrop.dropout_backward(grad, 0.3, out=grad, **KEY) is grad
    assert equal_bytes(grad, wanted)


# Masks into an output, and signatures -------------------------------------------------------------------------------


def test_a_mask_into_an_output(engine):
    for shape in ((), (7,), (5, 9), (3, 0)):
        want = fastdrop.dropout_mask(shape, 0.4, **KEY)
        for out in (np.zeros(shape, bool), np.zeros(shape, bool, order="F"), np.zeros((*shape, 2), bool)[..., 0]):
            assert fastdrop.dropout_mask(shape, 0.4, out=out, **KEY) is out
            assert np.array_equal(out, want)
        packed = np.full((want.size + 7) // 8, 255, np.uint8)
        assert fastdrop.dropout_mask(shape, 0.4, packed=True, out=packed, **KEY) is packed
        assert np.array_equal(packed, np.packbits(want, bitorder="little"))


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.zeros(6, bool), ValueError),
        (np.zeros(5, np.uint8), TypeError),
        ([False] * 5, TypeError),
        (np.broadcast_to(np.False_, 5), ValueError),
    ],
)
def test_a_mask_into_a_bad_output(out, error):
    stream = fastdrop.Stream(1)
    with pytest.raises(error, match="out must be"):
        fastdrop.dropout_mask(5, 0.4, out=out, seed=stream)
    assert stream.offset == 0


def test_compiled_functions_show_their_annotations():
    last = ["out", "start", "global_shape", "global_start", "backend", "num_threads"]
    for function in (fastdrop.dropout, fastdrop.dropout_backward, fastdrop.dropout_mask, fastdrop.apply_mask):
        parameters = inspect.signature(function).parameters
        assert all(parameter.annotation is not parameter.empty for parameter in parameters.values()), function
        if function is not fastdrop.apply_mask:
            assert list(parameters)[-6:] == last
