"""Alpha dropout against the paper's formulas, with the bits of the oracle; and against PyTorch."""

import functools
import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from oracle import keep
from scipy import stats

import fastdrop

KEY = {"seed": 2**50 + 1, "offset": 77}
DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
RATES = (0.0, 0.1, 0.5, 1 - 2**-53, 1.0)
MOMENTS = [{}, {"mean": 0.5, "var": 4.0}, {"mean": -3, "var": 0.25}]
ALPHA, SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946  # of SELU

# name: (shape, the index of the unit that decides about element i)
SHAPES = {
    "alpha_dropout": [((9, 11), lambda i: 11 * i[0] + i[1]), ((101,), lambda i: i[0]), ((), lambda i: 0)],
    "feature_alpha_dropout": [
        ((4, 6), lambda i: 6 * i[0] + i[1]),
        ((4, 6, 5), lambda i: 6 * i[0] + i[1]),
        ((4, 6, 2, 3), lambda i: 6 * i[0] + i[1]),
    ],
}
both = pytest.mark.parametrize("name", SHAPES)


def factors(p, mean=0.0, var=1.0):
    """Return a, b and the constant c of dropped elements: the formula of the docstring, in double."""
    dropped, q = -ALPHA * SCALE, 1 - p
    a = 1 / math.sqrt(q * (p * (dropped - mean) * (dropped - mean) / var + 1))
    b = mean - a * (q * mean + p * dropped)
    return a, b, a * dropped + b


def values(shape, dtype):
    x = np.linspace(-2, 3, max(math.prod(shape), 1)).astype(dtype)
    x[::7], x[3::11] = np.inf, -0.0
    return x.reshape(shape)


@functools.cache
def decisions(n, p):
    return keep(KEY["seed"], KEY["offset"], 0, n, p)


def transcribed(x, p, unit, backward, **moments):
    """Keep ? a x + b : c, or keep ? a g : 0, an element at a time; the ends of the rate as they are defined."""
    compute = np.float64 if x.dtype == np.float64 else np.float32
    y, kept = np.empty_like(x), decisions(x.size, p)
    a, b, c = (1, 0, 0) if p == 0 else (0, 0, moments.get("mean", 0)) if p == 1 else factors(p, **moments)
    for i in np.ndindex(x.shape):
        value = compute(0 if backward else c)
        if kept[unit(i)]:
            value = compute(x[i]) * compute(a)
            if not backward and p:
                value = value + compute(b)
        y[i] = value.astype(x.dtype)
    return y


def call(name, x, p, backward=False, **options):
    return getattr(fastdrop, name + "_backward" * backward)(x, p, **options)


def plain(a):
    return np.ascontiguousarray(a).tobytes()


@functools.cache
def expected(name, which, dtype, p, backward, moments):
    shape, unit = SHAPES[name][which]
    return plain(transcribed(values(shape, dtype), p, unit, backward, **dict(moments)))


@both
@pytest.mark.parametrize("backward", [False, True])
def test_transcription(engine, name, backward):
    for which, dtype, p, moments in itertools.product(range(3), DTYPES, RATES, MOMENTS):
        x = values(SHAPES[name][which][0], dtype)
        wanted = expected(name, which, dtype, p, backward, tuple(moments.items()))
        for given in (x, x.copy(order="F")):
            y = call(name, given, p, backward, **KEY, **moments)
            assert (y.dtype, y.shape) == (x.dtype, x.shape)
            assert plain(y) == wanted, (which, dtype, p, moments)


@both
def test_output(engine, name):
    x = values(SHAPES[name][0][0], np.dtype(np.float32))
    for backward in (False, True):
        wanted = plain(call(name, x, 0.3, backward, **KEY))
        for out in (np.full_like(x, 5), np.full_like(x, 5, order="F"), x.copy()):
            assert call(name, x, 0.3, backward, out=out, **KEY) is out
            assert plain(out) == wanted
    assert call(name, x, 0.3, out=x, **KEY) is x
    assert plain(x) == plain(call(name, values(x.shape, x.dtype), 0.3, **KEY))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_factors_are_the_papers(p):
    """The paper's form for mean 0 and variance 1: a = (q + alpha'**2 q (1 - q))**(-1/2), b = -a (1 - q) alpha'."""
    q, dropped = 1 - p, -ALPHA * SCALE
    a = (q + dropped**2 * q * (1 - q)) ** -0.5
    y = fastdrop.alpha_dropout(np.zeros(5000), p, **KEY)  # b and c
    both_values = sorted({-a * (1 - q) * dropped, a * dropped - a * (1 - q) * dropped}, reverse=True)
    assert np.allclose(np.unique(y)[::-1], both_values, rtol=1e-14)
    assert np.allclose(np.unique(fastdrop.alpha_dropout_backward(np.ones(5000), p, **KEY)), [0, a], rtol=1e-14)


def test_factors_as_published():
    """At q = 0.9 and 0.5, computed elsewhere to 14 digits."""
    for p, a, b in ((0.1, 0.92128451614971, 0.16197097005758), (0.5, 0.88640489466593, 0.77919393051803)):
        assert math.isclose(fastdrop.alpha_dropout_backward(np.ones(50), p, **KEY).max(), a, rel_tol=1e-13)
        assert math.isclose(fastdrop.alpha_dropout(np.zeros(50), p, **KEY).max(), b, rel_tol=1e-13)


@both
@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("moments", MOMENTS, ids=str)
def test_mean_and_variance_are_kept(name, p, moments):
    mean, var = moments.get("mean", 0), moments.get("var", 1)
    n = 2**18
    x = mean + math.sqrt(var) * np.random.default_rng(5).standard_normal(n)
    x = (x - x.mean()) / x.std() * math.sqrt(var) + mean  # exactly what is assumed
    y = call(name, x.reshape(2**9, 2**9), p, seed=6, **moments)
    assert abs(y.mean() - mean) < 4.9 * math.sqrt(var / n)
    fourth = np.mean((y - mean) ** 4)
    assert abs(np.mean((y - mean) ** 2) - var) < 4.9 * math.sqrt((fourth - var**2) / n)


def test_rate():
    y = fastdrop.feature_alpha_dropout(np.zeros((512, 128, 3)), 0.1, seed=8)
    dropped, rest = divmod(int((y == y.min()).sum()), 3)
    assert rest == 0
    assert stats.binomtest(dropped, 512 * 128, 0.1).pvalue > 1e-6


@both
@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_gradient(name, training):
    """Of f(x) = sum(w * y(x)), by central differences: f is affine, the step a power of two."""
    x, w = (np.linspace(*ends, 48).reshape(4, 6, 2) for ends in ((-1, 1), (2, 3)))
    options = {"training": training, "mean": 0.3, "var": 2.0, **KEY}
    gradient = call(name, w, 0.4, True, **options)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = 2.0**-10
        above, below = (np.sum(w * call(name, x + sign * step, 0.4, **options)) for sign in (1, -1))
        assert math.isclose((above - below) * 2**9, gradient[i], abs_tol=1e-9)


@both
def test_outside_training_it_is_the_input(name):
    x, stream = np.ones((3, 4)), fastdrop.Stream(1)
    out = np.zeros_like(x)
    for backward in (False, True):
        assert call(name, x, 0.3, backward, training=False, seed=1 if backward else stream) is x
        assert call(name, x, 0.3, backward, training=False, seed=1, out=out) is out
        assert plain(out) == plain(x)
    assert stream.offset == 0


@both
def test_one_draw_a_call(name):
    x, stream = np.ones((30, 40)), fastdrop.Stream(7, 3)
    assert plain(call(name, x, 0.3, seed=stream)) == plain(call(name, x, 0.3, seed=7, offset=3))
    assert stream.offset == 4
    assert plain(call(name, x, 0.3)) != plain(call(name, x, 0.3))  # of fresh entropy: equal once in 2**1000


@both
def test_empty(engine, name):
    for backward in (False, True):
        assert call(name, np.empty((0, 3), np.float32), 0.3, backward, seed=1).shape == (0, 3)


# PyTorch ------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_values_are_torchs(name, p):
    """Of what both keep and what both drop, on a mask of each: PyTorch rounds otherwise, so nearly."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    x = np.random.default_rng(3).uniform(0.5, 2, (60, 70, 2))
    theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x), p, training=True).numpy()
    ours = call(name, x, p, **KEY)
    kept, their_kept = ((y > y.min() + 1e-9) for y in (ours, theirs))
    assert np.isin(theirs[~their_kept].round(9), theirs.min().round(9)).all()  # one constant, so it is their mask
    for chosen in (kept & their_kept, ~kept & ~their_kept):
        assert chosen.sum() > 10
        assert np.allclose(ours[chosen], theirs[chosen], rtol=1e-13, atol=1e-14)


@both
def test_everything_dropped_is_zeros_as_in_torch(name):
    torch = pytest.importorskip("torch")
    x = np.full((3, 4), 7.0)
    theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x), 1.0, training=True).numpy()
    assert (call(name, x, 1.0, seed=1) == theirs).all()


# Bad input ----------------------------------------------------------------------------------------------------------

WRONG = [
    ({"p": 1.5}, ValueError, r"p must be in \[0, 1\].*1\.5"),
    ({"p": np.full(4, 0.5)}, TypeError, r"p must be a number in \[0, 1\]"),
    ({"mean": math.inf}, ValueError, "mean must be a finite number; got inf"),
    ({"mean": None}, TypeError, "mean must be a finite number; got None"),
    ({"mean": "0"}, ValueError, "mean must be a finite number; got '0'"),
    ({"var": 0.0}, ValueError, r"var must be above 0; got 0\.0"),
    ({"var": -1}, ValueError, "var must be above 0; got -1"),
    ({"var": math.nan}, ValueError, "var must be a finite number; got nan"),
    ({"var": 1j}, TypeError, "var must be a finite number; got 1j"),
    ({"training": "no"}, TypeError, "training must be True or False; got 'no'"),
    ({"p": True}, TypeError, r"p must be a number in \[0, 1\]"),
    ({"backend": "cuda"}, ValueError, "unknown backend 'cuda'"),
    ({"out": np.ones(3)}, ValueError, "out must have the shape of the input"),
    ({"out": np.ones((3, 4), np.float32)}, TypeError, "out must have the dtype of the input"),
]


@both
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_bad_input(name, backward, training):
    x = np.ones((3, 4))
    for options, error, message in WRONG:
        stream, out = fastdrop.Stream(1), np.full_like(x, 5)
        with pytest.raises(error, match=message):
            call(
                name,
                x,
                backward=backward,
                **{"p": 0.5, "out": out, "seed": 1 if backward else stream, "training": training, **options},
            )
        assert stream.offset == 0
        assert (out == 5).all()


@both
def test_bad_arrays_and_seeds(name):
    argument = {False: "x", True: "grad"}
    for backward, dtype in itertools.product((False, True), (np.int32, bool, object, complex, ">f4")):
        with pytest.raises(TypeError, match=rf"{argument[backward]} .*dtype"):
            call(name, np.ones((3, 4), dtype), 0.5, backward, seed=1)
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required here"):
            call(name, np.ones((3, 4)), 0.5, True, seed=None, training=training)
    with pytest.raises(ValueError, match="offset must be"):
        call(name, np.ones((3, 4)), 0.5, seed=1, offset=-1)


def test_features_need_an_axis_of_channels():
    for backward, argument in ((False, "x"), (True, "grad")):
        with pytest.raises(ValueError, match=rf"{argument} must have an axis of samples and one of channels; got shape \(4,\)"):
            call("feature_alpha_dropout", np.ones(4), 0.5, backward, seed=1)
