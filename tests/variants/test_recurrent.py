"""Zoneout against its definition, with the bits of the oracle."""

import functools
import itertools
import math

import ml_dtypes
import numpy as np
import pytest
from oracle import keep
from scipy import stats

import fastdrop

KEY = {"seed": 2**45 + 1, "offset": 2**40}
DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
SHAPES = [(), (77,), (7, 11), (3, 4, 6)]
RATES = (0.0, 0.05, 0.3, 1.0)


def states(shape, dtype):
    """Return a new and a previous state, with values that are awkward here and there, not in the same places."""
    n = math.prod(shape)
    new, previous = np.linspace(-1, 3, n).astype(dtype), np.linspace(5, 0.1, n).astype(dtype)
    new[::13], new[3::17], previous[1::11], previous[5::19] = np.inf, -0.0, np.nan, -0.0
    return new.reshape(shape), previous.reshape(shape)


@functools.cache
def decisions(n, p):
    return keep(KEY["seed"], KEY["offset"], 0, n, p)


def zoned(new, previous, p):
    """Take new where kept, previous where dropped, an element at a time in C order."""
    y = np.empty_like(new)
    for at, kept in zip(np.ndindex(new.shape), decisions(new.size, p), strict=True):
        y[at] = new[at] if kept else previous[at]
    return y


def expected(new, previous, p):
    """Return p previous + (1 - p) new in the compute type, each operation rounded once; nothing of what has no weight."""
    compute = np.float64 if new.dtype == np.float64 else np.float32
    y = np.empty_like(new)
    for at in np.ndindex(new.shape):
        old = compute(p) * compute(previous[at]) if p > 0 else compute(0)
        young = compute(1 - p) * compute(new[at]) if p < 1 else compute(0)
        y[at] = (old + young).astype(new.dtype)
    return y


def plain(a):
    """Return the bytes, with one payload for all that is not a number: those are not promised."""
    a = np.array(a, order="C")
    a[np.isnan(a)] = np.nan
    return a.tobytes()


everything = pytest.mark.parametrize(("shape", "dtype"), list(itertools.product(SHAPES, DTYPES)), ids=str)


@everything
def test_training(engine, shape, dtype):
    new, previous = states(shape, dtype)
    for p in RATES:
        wanted = plain(zoned(new, previous, p))
        for order in "CF":
            y = fastdrop.zoneout(new.copy(order), previous.copy(order), p, **KEY)
            assert (y.dtype, y.shape) == (dtype, shape)
            assert plain(y) == wanted


@everything
def test_outside_training(engine, shape, dtype):
    new, previous = states(shape, dtype)
    for p in RATES:
        y = fastdrop.zoneout(new.copy("F"), previous, p, training=False)
        assert (y.dtype, y.shape) == (dtype, shape)
        assert plain(y) == plain(expected(new, previous, p))


@everything
def test_backward(engine, shape, dtype):
    grad, _ = states(shape, dtype)
    zeros = np.zeros_like(grad)
    for p in RATES:
        to_new, to_previous = fastdrop.zoneout_backward(grad.copy("F"), p, **KEY)
        assert plain(to_new) == plain(zoned(grad, zeros, p))
        assert plain(to_previous) == plain(zoned(zeros, grad, p))
        to_new, to_previous = fastdrop.zoneout_backward(grad, p, training=False, seed=1)
        assert to_new.dtype == to_previous.dtype == dtype
        for result, weight in ((to_new, 1 - p), (to_previous, p)):
            product = np.empty_like(grad)
            compute = np.float64 if dtype == np.float64 else np.float32
            for at in np.ndindex(shape):
                product[at] = compute(weight) * compute(grad[at]) if weight else 0
            assert plain(result) == plain(product)


@pytest.mark.parametrize("training", [True, False])
def test_backward_is_the_gradient(training):
    """Of f = sum(w * zoneout(new, previous)) in each of the two, by central differences; f is linear."""
    new, previous, w = (np.linspace(*ends, 24).reshape(4, 6) for ends in ((-1, 1), (3, 4), (1, 2)))
    options = {"training": training, **KEY}
    gradients = fastdrop.zoneout_backward(w, 0.4, **options)
    for i in np.ndindex(w.shape):
        step = np.zeros(w.shape)
        step[i] = 2.0**-10
        for gradient, (d_new, d_previous) in zip(gradients, ((step, 0), (0, step)), strict=True):
            above, below = (
                np.sum(w * fastdrop.zoneout(new + sign * d_new, previous + sign * d_previous, 0.4, **options))
                for sign in (1, -1)
            )
            assert math.isclose((above - below) * 2**9, gradient[i], abs_tol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_like_the_given_one(training):
    grad = np.ma.array(np.ones((3, 4)), mask=np.eye(3, 4))
    for made in fastdrop.zoneout_backward(grad, 0.4, training=training, **KEY):
        assert type(made) is np.ma.MaskedArray
        assert np.array_equal(made.mask, grad.mask)


def test_the_mask_is_dropouts(engine):
    y = fastdrop.zoneout(np.ones((40, 50)), np.zeros((40, 50)), 0.3, **KEY)
    assert ((y == 1) == fastdrop.dropout_mask((40, 50), 0.3, **KEY)).all()


def test_expected_value_and_variance():
    """E = p previous + (1 - p) new, Var = p (1 - p) (new - previous)**2; the state outside training is the expected one."""
    n, p = 2**18, 0.3
    new, previous = np.full(n, 5.0), np.full(n, 1.0)
    y = fastdrop.zoneout(new, previous, p, seed=3)
    assert stats.binomtest(int((y == 1).sum()), n, p).pvalue > 1e-6
    mean = fastdrop.zoneout(new, previous, p, training=False)[0]
    assert math.isclose(mean, 0.3 * 1 + 0.7 * 5, rel_tol=1e-15)
    assert abs(y.mean() - mean) < 4.9 * 4 * math.sqrt(p * (1 - p) / n)
    assert math.isclose(y.var(), p * (1 - p) * 16, rel_tol=0.02)


def test_a_rate_for_each_unit(engine):
    """Each column as a whole call with its rate has it."""
    new, previous = np.linspace(1, 2, 24).reshape(8, 3), np.linspace(3, 4, 24).reshape(8, 3)
    p = np.array([0.0, 0.3, 1.0])
    for training in (True, False):
        options = {"training": training, **KEY}
        results = fastdrop.zoneout(new, previous, p, **options), *fastdrop.zoneout_backward(new, p, **options)
        for unit, rate in enumerate(p.tolist()):
            alone = fastdrop.zoneout(new, previous, rate, **options), *fastdrop.zoneout_backward(new, rate, **options)
            for many, one in zip(results, alone, strict=True):
                assert plain(many[:, unit]) == plain(one[:, unit])


@pytest.mark.parametrize("training", [True, False])
def test_output(engine, training):
    new, previous = states((30, 40), np.dtype(np.float32))
    options = {"training": training, **KEY}
    wanted = plain(fastdrop.zoneout(new, previous, 0.3, **options))
    for out in (np.full_like(new, 5), np.full_like(new, 5, order="F")):
        assert fastdrop.zoneout(new, previous, 0.3, out=out, **options) is out
        assert plain(out) == wanted
    for which in (0, 1):
        both = [new.copy(), previous.copy()]
        assert fastdrop.zoneout(*both, 0.3, out=both[which], **options) is both[which]
        assert plain(both[which]) == wanted


def test_draws():
    stream = fastdrop.Stream(7, 3)
    new, previous = np.ones((30, 40)), np.zeros((30, 40))
    assert plain(fastdrop.zoneout(new, previous, 0.3, seed=stream)) == plain(
        fastdrop.zoneout(new, previous, 0.3, seed=7, offset=3)
    )
    assert stream.offset == 4
    to_new, to_previous = fastdrop.zoneout_backward(new, 0.3, seed=stream.next())
    assert stream.offset == 5
    assert (to_new + to_previous == 1).all()  # one mask for both
    fastdrop.zoneout(new, previous, 0.3, seed=stream, training=False)
    assert stream.offset == 5
    assert plain(fastdrop.zoneout(new, previous, 0.3)) != plain(fastdrop.zoneout(new, previous, 0.3))


def test_empty(engine):
    for training in (True, False):
        assert fastdrop.zoneout(np.empty((0, 3)), np.empty((0, 3)), 0.3, training=training).shape == (0, 3)
        for gradient in fastdrop.zoneout_backward(np.empty((0, 3)), 0.3, seed=1, training=training):
            assert gradient.shape == (0, 3)


# Bad input ----------------------------------------------------------------------------------------------------------

X = np.ones((3, 4), np.float32)
WRONG = [
    ({"p": 1.5}, ValueError, r"p must be in \[0, 1\].*1\.5"),
    ({"p": "0.5"}, TypeError, r"p must be a number or a NumPy array of numbers in \[0, 1\]"),
    ({"p": np.array([0.1, 0.2, 0.3, 2.0])}, ValueError, r"each p must be in \[0, 1\].*index \(3,\)"),
    ({"p": np.full(3, 0.1)}, ValueError, r"p has shape \(3,\), which does not broadcast"),
    ({"backend": "cuda"}, ValueError, "unknown backend 'cuda'"),
    ({"new": np.ones((3, 4), int)}, TypeError, "new must have a floating-point dtype"),
    ({"previous": np.ones((3, 4))}, TypeError, "previous must have the dtype of the input, '<f4'; got '<f8'"),
    ({"previous": X[0]}, ValueError, r"previous must have the shape \(3, 4\); got \(4,\)"),
    ({"out": np.ones(3, np.float32)}, ValueError, "out must have the shape of the input"),
    ({"out": np.ones((3, 4))}, TypeError, "out must have the dtype of the input"),
]


@pytest.mark.parametrize("training", [True, False])
def test_bad_input(training):
    for options, error, message in WRONG:
        stream, out = fastdrop.Stream(1), np.full_like(X, 5)
        with pytest.raises(error, match=message):
            fastdrop.zoneout(**{"new": X, "previous": X, "p": 0.5, "seed": stream, "out": out, "training": training, **options})
        assert stream.offset == 0
        assert (out == 5).all()
        if not options.keys() & {"new", "previous", "out"}:
            with pytest.raises(error, match=message):
                fastdrop.zoneout_backward(X, **{"p": 0.5, "seed": 1, "training": training, **options})
    for new in (X, np.array(1.0)):  # NumPy would make NaN of None for an array without axes
        with pytest.raises(TypeError, match="previous must be an array of the shape and dtype of the input; got None"):
            fastdrop.zoneout(new, None, 0.5, seed=1, training=training)
    with pytest.raises(TypeError, match="training must be True or False; got 'no'"):
        fastdrop.zoneout(X, X, 0.5, seed=1, training="no")
    with pytest.raises(TypeError, match="training must be True or False; got 'no'"):
        fastdrop.zoneout_backward(X, 0.5, seed=1, training="no")
    with pytest.raises(TypeError, match="seed must be the key of the forward pass; a Stream"):
        fastdrop.zoneout_backward(X, 0.5, seed=fastdrop.Stream(1), training=training)
    with pytest.raises(ValueError, match="offset must be"):
        fastdrop.zoneout(X, X, 0.5, seed=1, offset=-1, training=training)
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.zoneout_backward(X, 0.5, seed=None, training=training)
    with pytest.raises(TypeError, match="grad must have a floating-point dtype"):
        fastdrop.zoneout_backward(X.astype(int), 0.5, seed=1, training=training)
