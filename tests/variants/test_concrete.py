"""Concrete dropout against a transcription of its formula with NumPy's own logarithms and finite differences."""

import numpy as np
import pytest

import fastdrop
from fastdrop.theory import concrete_mean
from fastdrop.verify.cases import DTYPES, engines, equal_bytes, past_caches

SEED, OFFSET, EPSILON = 17, 5, 1e-7
SIZE = 100_003  # enough for three threads, and not a whole number of tiles


def soft_mask(u, p, t):
    """The paper's formula, in the authors' code's form, in float64."""
    z = (np.log(p + EPSILON) - np.log(1 - p + EPSILON) + np.log(u + EPSILON) - np.log(1 - u + EPSILON)) / t
    return (1 - 1 / (1 + np.exp(-z))) / (1 - p)


def rate(logit):
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("temperature", [0.1, 2 / 3, 0.5, 0.37])
@pytest.mark.parametrize("logit", [-2.2, 0.0, 1.5])
def test_the_papers_formula(temperature, logit):
    x = np.random.default_rng(1).normal(size=5000)
    u = fastdrop.uniform(5000, seed=SEED, offset=OFFSET, dtype=np.float64)
    y = fastdrop.concrete_dropout(x, logit, temperature, seed=SEED, offset=OFFSET)
    np.testing.assert_allclose(y, x * soft_mask(u, rate(logit), temperature), rtol=1e-9, atol=1e-12)
    single = fastdrop.concrete_dropout(x.astype(np.float32), logit, temperature, seed=SEED, offset=OFFSET)
    u = fastdrop.uniform(5000, seed=SEED, offset=OFFSET).astype(np.float64)
    np.testing.assert_allclose(single, x * soft_mask(u, rate(logit), temperature), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("row", "temperature"), [("0.1", 0.1), ("2/3", 2 / 3)])
def test_means_in_the_docstring(row, temperature):
    table = {line.split()[0]: line.split()[1:] for line in fastdrop.concrete_dropout.__doc__.splitlines() if line.split()}
    for p, mean in zip(table["temperature"], table[row], strict=True):
        exact = fastdrop.theory.concrete_mean(float(p.removeprefix("p=")), temperature)
        assert float(mean) == round(exact, 3)


@pytest.mark.parametrize("temperature", [0.1, 2 / 3, 0.37])
def test_gradients(temperature):
    rng = np.random.default_rng(2)
    x, g, logit, h = rng.normal(size=3000), rng.normal(size=3000), -1.3, 1e-6
    dx, dlogit = fastdrop.concrete_dropout_backward(g, x, logit, temperature, seed=SEED)

    def loss(logit):
        return (g * fastdrop.concrete_dropout(x, logit, temperature, seed=SEED)).sum()

    assert dlogit == pytest.approx((loss(logit + h) - loss(logit - h)) / (2 * h), rel=1e-5)
    ones = fastdrop.concrete_dropout(np.ones_like(x), logit, temperature, seed=SEED)
    np.testing.assert_array_equal(dx, g * ones)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_spatial_form(data_format):
    rng = np.random.default_rng(3)
    x, g, logit, h = rng.normal(size=(6, 4, 5, 4)), rng.normal(size=(6, 4, 5, 4)), -0.4, 1e-6
    u = fastdrop.uniform((6, 4), seed=SEED, dtype=np.float64)
    factors = soft_mask(u, rate(logit), 2 / 3)
    factors = factors[:, :, None, None] if data_format == "channels_first" else factors[:, None, None, :]

    def forward(logit):
        return fastdrop.spatial_concrete_dropout(x, logit, seed=SEED, data_format=data_format)

    np.testing.assert_allclose(forward(logit), x * factors, rtol=1e-9)
    dx, dlogit = fastdrop.spatial_concrete_dropout_backward(g, x, logit, seed=SEED, data_format=data_format)
    np.testing.assert_allclose(dx, g * factors, rtol=1e-9)
    assert dlogit == pytest.approx((g * (forward(logit + h) - forward(logit - h))).sum() / (2 * h), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_every_engine(dtype):
    rng = np.random.default_rng(4)
    x, g = rng.normal(size=(2, SIZE)).astype(dtype)
    maps = x[:99_960].reshape(60, 7, 238)

    def results():
        dx, dlogit = fastdrop.concrete_dropout_backward(g, x, -1.0, seed=SEED)
        spatial, dspatial = fastdrop.spatial_concrete_dropout_backward(maps, maps, 0.7, seed=SEED)
        return [
            fastdrop.concrete_dropout(x, -1.0, seed=SEED),
            fastdrop.concrete_dropout(x, -1.0, 0.37, seed=SEED),
            fastdrop.spatial_concrete_dropout(maps, 0.7, seed=SEED),
            dx,
            spatial,
            np.array([dlogit, dspatial]),
        ]

    with fastdrop.using(backend="numpy"):
        want = results()
    for engine in engines():
        if engine.missing():
            continue
        with engine.using():
            for got, wanted in zip(results(), want, strict=True):
                assert equal_bytes(got, wanted), str(engine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 7, 13, 131), (9, 4, 1030), (2, 3, 8, 9, 21)])
def test_maps_that_are_read_once(shape, dtype):
    """Large arrays, or small ones that are written past the caches: sums and products of a map in one pass."""
    x, g = np.random.default_rng(6).normal(size=(2, *shape)).astype(dtype)

    def results(exact):
        given, inside = x.copy(), g.copy()
        dx, dlogit = fastdrop.spatial_concrete_dropout_backward(g, x, 0.7, exact_mean=exact, seed=SEED)
        _, again = fastdrop.spatial_concrete_dropout_backward(inside, x, 0.7, exact_mean=exact, seed=SEED, out=inside)
        _, swapped = fastdrop.spatial_concrete_dropout_backward(g, given, 0.7, exact_mean=exact, seed=SEED, out=given)
        return [dx, inside, given, np.array([dlogit, again, swapped])]

    for exact in (False, True):
        with fastdrop.using(backend="numpy"):
            want = results(exact)
        assert equal_bytes(want[0], want[1])
        assert equal_bytes(want[0], want[2])
        for engine in engines():
            if engine.missing():
                continue
            with engine.using(), past_caches():
                for got, wanted in zip(results(exact), want, strict=True):
                    assert equal_bytes(got, wanted), str(engine)


def test_cuts_order_and_layout():
    x = np.random.default_rng(5).normal(size=(300, 70)).astype(np.float32)
    whole = fastdrop.concrete_dropout(x, -1.0, seed=SEED, start=2**40)
    part = fastdrop.concrete_dropout(x[100:], -1.0, seed=SEED, start=2**40 + 100 * 70)
    assert equal_bytes(part, whole[100:])
    assert equal_bytes(fastdrop.concrete_dropout(np.asfortranarray(x), -1.0, seed=SEED, start=2**40), whole)
    inside = x.copy()
    assert fastdrop.concrete_dropout(inside, -1.0, seed=SEED, start=2**40, out=inside) is inside
    assert equal_bytes(inside, whole)


def test_mean_is_nearly_one():
    for logit in (-3.0, -1.4, 0.0):
        y = fastdrop.concrete_dropout(np.ones(10**6), logit, seed=SEED)
        assert abs(y.mean() - 1) < 0.004  # 0.998 to 1 at these rates, and the noise of a million
        assert abs((y * (1 - rate(logit)) < 0.5).mean() - rate(logit)) < 0.002  # s is above 1/2 with probability p


# The exact mean -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 2 / 3, 1.5])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.9, 0.99])
def test_means_of_both_forms(p, temperature):
    logit, n = np.log(p / (1 - p)), 10**6
    for exact, mean in ((False, concrete_mean(p, temperature)), (True, 1.0)):
        y = fastdrop.concrete_dropout(np.ones(n), logit, temperature, exact_mean=exact, seed=SEED)
        assert abs(y.mean() - mean) < 5 * y.std() / np.sqrt(n)
        maps = fastdrop.spatial_concrete_dropout(np.ones((n // 100, 100)), logit, temperature, exact_mean=exact, seed=SEED)
        assert equal_bytes(maps.ravel(), y)


def test_the_factor_of_the_exact_mean_is_that_of_theory():
    for p, t in ((0.1, 2 / 3), (0.9, 0.1), (0.7, 0.37)):
        logit, x = np.log(p / (1 - p)), np.linspace(1, 2, 50)
        options = {"epsilon": 1e-15, "seed": SEED}
        plain, exact = (fastdrop.concrete_dropout(x, logit, t, exact_mean=flag, **options) for flag in (False, True))
        np.testing.assert_allclose(plain, exact * concrete_mean(p, t), rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 2 / 3, 0.37])
@pytest.mark.parametrize("logit", [-1.3, 0.0, 2.2, 9.0])
@pytest.mark.parametrize("epsilon", [1e-7, 1e-3])
def test_gradients_of_the_exact_mean(temperature, logit, epsilon):
    rng, h = np.random.default_rng(7), 1e-5
    x, g = rng.normal(size=(2, 6, 50, 4))
    how = {"epsilon": epsilon, "exact_mean": True, "seed": SEED}
    for forward, backward in (
        (fastdrop.concrete_dropout, fastdrop.concrete_dropout_backward),
        (fastdrop.spatial_concrete_dropout, fastdrop.spatial_concrete_dropout_backward),
    ):
        dx, dlogit = backward(g, x, logit, temperature, **how)
        np.testing.assert_allclose(dx, g * forward(np.ones_like(x), logit, temperature, **how), rtol=1e-14)
        above, below = ((g * forward(x, logit + s * h, temperature, **how)).sum() for s in (1, -1))
        assert dlogit == pytest.approx((above - below) / (2 * h), rel=1e-5, abs=1e-7 * np.abs(g * x).sum())


@pytest.mark.parametrize("exact_mean", [False, True])
@pytest.mark.parametrize(
    "backward", [fastdrop.concrete_dropout_backward, fastdrop.spatial_concrete_dropout_backward], ids=lambda each: each.__name__
)
def test_the_gradient_of_the_logit_does_not_depend_on_out(backward, exact_mean, engine):
    how = {"exact_mean": exact_mean, "seed": SEED}
    g, x = np.random.default_rng(9).normal(size=(2, 6, 50))
    want = backward(g, x, -1.3, 0.37, **how)
    for name in ("grad", "x"):
        given = {"grad": g.copy(), "x": x.copy()}
        got = backward(**given, p_logit=-1.3, temperature=0.37, out=given[name], **how)
        assert got[0] is given[name]
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


def test_bits_of_the_exact_mean(engine):
    x = np.random.default_rng(8).normal(size=(40, 50)).astype(np.float32)

    def results():
        return [
            fastdrop.concrete_dropout(x, 1.0, 0.37, exact_mean=True, seed=SEED),
            *map(np.asarray, fastdrop.concrete_dropout_backward(x, x, 1.0, exact_mean=True, seed=SEED)),
            *map(np.asarray, fastdrop.spatial_concrete_dropout_backward(x, x, 1.0, exact_mean=True, seed=SEED)),
        ]

    found = results()
    with fastdrop.using(backend="numpy"):
        for got, want in zip(found, results(), strict=True):
            assert equal_bytes(got, want)


# The ends -----------------------------------------------------------------------------------------------------------


def test_outside_training_and_at_the_bounds():
    x = np.arange(5, dtype=np.float32)
    assert fastdrop.concrete_dropout(x, -1.0, training=False) is x
    dx, dlogit = fastdrop.concrete_dropout_backward(x, x, -1.0, seed=1, training=False)
    assert dx is x
    assert dlogit == 0
    for logit in (-1e9, 1e9):
        assert np.isfinite(fastdrop.concrete_dropout(x, logit, seed=1)).all()
    assert fastdrop.concrete_dropout(x[:0], -1.0, seed=1).shape == (0,)
    assert fastdrop.concrete_dropout_backward(x[:0], x[:0], -1.0, seed=1)[1] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"p_logit": "0"}, TypeError, "p_logit"),
        ({"p_logit": [1.0, 2.0]}, TypeError, "p_logit"),
        ({"p_logit": np.nan}, ValueError, "p_logit"),
        ({"temperature": 0}, ValueError, "temperature"),
        ({"temperature": None}, TypeError, "temperature"),
        ({"epsilon": -1}, ValueError, "epsilon"),
        ({"epsilon": 1.0}, ValueError, "epsilon must be below 1; got 1.0"),
        ({"seed": -1}, ValueError, "seed"),
        ({"x": np.arange(3)}, TypeError, "x must have a floating-point dtype"),
        ({"start": 2**50}, OverflowError, "past the end"),
        ({"out": np.empty(4, np.float32)}, ValueError, "out must have the shape"),
        ({"backend": "fortran"}, ValueError, "backend"),
        ({"training": "no"}, TypeError, "training must be True or False; got 'no'"),
        ({"exact_mean": "no"}, TypeError, "exact_mean must be True or False; got 'no'"),
    ],
)
def test_bad_input(arguments, error, message):
    arguments = {"x": np.ones(3, np.float32), "p_logit": -1.0, "seed": 1, **arguments}
    with pytest.raises(error, match=message):
        fastdrop.concrete_dropout(arguments.pop("x"), arguments.pop("p_logit"), **arguments)


def test_backward_needs_seed_and_matching_input():
    g = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.concrete_dropout_backward(g, g, -1.0, seed=None)
    with pytest.raises(ValueError, match="x must have the shape"):
        fastdrop.concrete_dropout_backward(g, g[:2], -1.0, seed=1)
